"use strict";
// Data of the page, and the decoder: by its own layers, or blended from pictures that it made.

const DATA = JSON.parse(document.getElementById("data").textContent);

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

const FLOATS = {
  f4: Float32Array, f8: Float64Array, u4: Uint32Array, float32: Float32Array,
  float16: class { // sign, 5 bits of exponent, 10 of mantissa; not every browser has an array of them
    constructor(buffer) {
      return Float32Array.from(new Uint16Array(buffer), (h) => {
        const power = (h >> 10) & 31, part = (h & 1023) / 1024;
        return (h >> 15 ? -1 : 1) * (power ? 2 ** (power - 15) * (1 + part) : 2 ** -14 * part);
      });
    }
  },
};
const numbersOf = (text, kind) => new FLOATS[kind](bytesOf(text).buffer);

function erf(x) { // 2/√π · exp(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n + 1)!!, all terms of one sign
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  leaky_relu: (x, slope) => (x > 0 ? x : slope * x),
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu_erf: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
};

// Each takes {h, w, c, x} and returns the same; pixels in rows, their channels side by side.
const STEPS = {
  reshape: ({ x }, { size: [h, w] }) => ({ h, w, c: x.length / (h * w), x }),
  linear({ x }, { weight, bias }) {
    const y = Float64Array.from(bias), out = y.length;
    for (let i = 0; i < x.length; i++) {
      const value = x[i], row = i * out;
      if (value !== 0) for (let o = 0; o < out; o++) y[o] += value * weight[row + o];
    }
    return { h: 1, w: 1, c: out, x: y };
  },
  spread({ h, w, c, x }, { weight, bias, stride, before, shape: [taps, , , out] }) {
    const H = h * stride, W = w * stride, y = new Float64Array(H * W * out);
    for (let p = 0; p < y.length; p += out) y.set(bias, p);
    for (let i = 0; i < h; i++) for (let j = 0; j < w; j++) {
      const from = (i * w + j) * c;
      for (let t = 0; t < taps; t++) {
        const row = i * stride + t - before;
        if (row < 0 || row >= H) continue;
        for (let r = 0; r < taps; r++) {
          const column = j * stride + r - before;
          if (column < 0 || column >= W) continue;
          const to = (row * W + column) * out, kernel = (t * taps + r) * c * out;
          for (let k = 0; k < c; k++) {
            const value = x[from + k], start = kernel + k * out;
            if (value !== 0) for (let o = 0; o < out; o++) y[to + o] += value * weight[start + o];
          }
        }
      }
    }
    return { h: H, w: W, c: out, x: y };
  },
  scale({ h, w, c, x }, { weight, bias }) {
    return { h, w, c, x: x.map((value, i) => value * weight[i % c] + bias[i % c]) };
  },
  normalise({ h, w, c, x }, { weight, bias, groups, eps }) {
    const y = new Float64Array(x.length), per = groups ? c / groups : c, together = groups ? h * w : 1;
    for (let first = 0; first < x.length; first += together * c) for (let g = 0; g < c; g += per) {
      let mean = 0, square = 0;
      const each = (f) => {
        for (let p = 0; p < together; p++) for (let k = g; k < g + per; k++) f(first + p * c + k, k);
      };
      each((i) => { mean += x[i]; });
      mean /= together * per;
      each((i) => { square += (x[i] - mean) ** 2; });
      const root = Math.sqrt(square / (together * per) + eps);
      each((i, k) => { y[i] = ((x[i] - mean) / root) * weight[k] + bias[k]; });
    }
    return { h, w, c, x: y };
  },
  activate({ h, w, c, x }, { name, slope }) {
    const f = ACTIVATIONS[name];
    return { h, w, c, x: x.map((value) => f(value, slope)) };
  },
};

function ownDecoder({ steps, weights, storage }) {
  const all = numbersOf(weights, storage);
  let at = 0;
  for (const step of steps) {
    for (const part of ["weight", "bias"]) if (part in step) {
      const size = step[part].reduce((a, b) => a * b, 1);
      if (part === "weight") step.shape = step.weight;
      step[part] = all.subarray(at, at += size);
    }
  }
  return (z) => steps.reduce((x, step) => STEPS[step.op](x, step), { h: 1, w: 1, c: z.length, x: Float64Array.from(z) });
}

async function gridDecoder({ picture, columns, rows }, [x0, x1, y0, y1]) {
  const { data, width, height } = await pixelsOf(picture);
  const h = height / rows, w = width / columns, colour = DATA.image[2] === 3 ? 3 : 1;
  const place = (value, low, high, n) => {
    const along = Math.min(Math.max((value - low) / (high - low), 0), 1) * (n - 1);
    const whole = Math.min(Math.floor(along), Math.max(n - 2, 0));
    return [whole, Math.min(whole + 1, n - 1), along - whole];
  };
  return (z) => {
    const [i, right, a] = place(z[0], x0, x1, columns), [j, above, b] = place(z[1] ?? 0, y0, y1, rows);
    const x = new Float64Array(h * w * colour);
    for (const [column, row, share] of [[i, j, (1 - a) * (1 - b)], [right, j, a * (1 - b)],
      [i, above, (1 - a) * b], [right, above, a * b]]) {
      for (let p = 0; p < h; p++) for (let q = 0; q < w; q++) for (let k = 0; k < colour; k++) {
        const pixel = ((rows - 1 - row) * h + p) * width + column * w + q;
        x[(p * w + q) * colour + k] += (share * data[4 * pixel + k]) / 255;
      }
    }
    return { h, w, c: colour, x };
  };
}

async function pictureOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

async function pixelsOf(url) {
  const image = await pictureOf(url), canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

// Show a decoded picture on a canvas, a pixel for a pixel: gray, colour, or the mean of other channels.
function show(canvas, { h, w, c, x }) {
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d"), picture = context.createImageData(w, h);
  for (let p = 0; p < h * w; p++) {
    let mean = 0;
    if (c !== 3) for (let k = 0; k < c; k++) mean += x[p * c + k] / c;
    for (let k = 0; k < 3; k++) picture.data[4 * p + k] = Math.round(255 * (c === 3 ? x[p * 3 + k] : mean));
    picture.data[4 * p + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}
