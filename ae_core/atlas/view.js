// The plane: where codes lie on the screen, how they are coloured, and what is marked.

const N = DATA.shown, WIDTH = DATA.width;
const CODES = numbersOf(DATA.codes, "f4"), INDICES = numbersOf(DATA.indices, "u4");
const ORIGIN = numbersOf(DATA.plane.origin, "f8"), AXES = numbersOf(DATA.plane.axes, "f8");
const COLOURS = DATA.colours.map((colour) => ({ ...colour, of: numbersOf(colour.of, "f4") }));

const codeOf = (i) => Float64Array.from(CODES.subarray(i * WIDTH, (i + 1) * WIDTH));
const codeAt = ([x, y]) => ORIGIN.map((o, d) => o + x * AXES[d] + y * AXES[WIDTH + d]);
function pointOf(z) {
  let x = 0, y = 0;
  for (let d = 0; d < WIDTH; d++) {
    x += (z[d] - ORIGIN[d]) * AXES[d];
    y += (z[d] - ORIGIN[d]) * AXES[WIDTH + d];
  }
  return [x, y];
}
const POINTS = Array.from({ length: N }, (_, i) => {
  const [x, y] = pointOf(codeOf(i));
  // one latent number is a line; its points are strewn over the height, which means nothing
  return WIDTH > 1 ? [x, y] : [x, 0.9 * (((i + 1) * 0.6180339887) % 1) - 0.45];
});
const VIEW = WIDTH > 1 ? DATA.view : [DATA.view[0], DATA.view[1], -0.5, 0.5];

class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.base = document.createElement("canvas");
    this.only = new Set(); // classes that are shown alone
    this.colour = 0;
    this.tiles = null;
  }
  get dark() { return matchMedia("(prefers-color-scheme: dark)").matches; }
  resize() {
    const { clientWidth, clientHeight } = this.canvas, ratio = devicePixelRatio || 1;
    Object.assign(this, { width: clientWidth, height: clientHeight, ratio });
    for (const canvas of [this.canvas, this.base]) {
      canvas.width = Math.max(1, Math.round(clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    }
    this.drawBase();
  }
  toScreen([x, y]) {
    const [x0, x1, y0, y1] = VIEW;
    return [((x - x0) / (x1 - x0)) * this.width, ((y1 - y) / (y1 - y0)) * this.height];
  }
  toPlane([px, py]) {
    const [x0, x1, y0, y1] = VIEW;
    const share = (value, size) => Math.min(Math.max(value / size, 0), 1);
    return [x0 + share(px, this.width) * (x1 - x0), y1 - share(py, this.height) * (y1 - y0)];
  }
  classColour(k) {
    const colour = DATA.palette[k % DATA.palette.length];
    if (!this.dark) return colour;
    return colour === "#000000" ? "#ffffff" : mixed(colour, "#ffffff", 0.15);
  }
  rampColour(share) {
    // the end that the page's own colour would swallow is left out
    const inside = Math.min(Math.max(share, 0), 1);
    const along = (this.dark ? 0.12 + 0.88 * inside : 0.92 * inside) * (DATA.ramp.length - 1);
    const i = Math.min(Math.floor(along), DATA.ramp.length - 2), t = along - i;
    return mixed(DATA.ramp[i], DATA.ramp[i + 1], t);
  }
  look(i) { // colour and marker of a point
    const colour = COLOURS[this.colour];
    if (!colour) return [this.classColour(0), "o"];
    const value = colour.of[i];
    if (colour.kind === "classes") {
      return [this.classColour(value), DATA.markers[Math.floor(value / DATA.palette.length)]];
    }
    return [this.rampColour(colour.high > colour.low ? (value - colour.low) / (colour.high - colour.low) : 0.5), "o"];
  }
  hides(i) {
    const colour = COLOURS[this.colour];
    return this.only.size > 0 && colour?.kind === "classes" && !this.only.has(colour.of[i]);
  }
  drawBase() {
    const context = this.base.getContext("2d"), { width, height } = this;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (this.tiles) context.drawImage(this.tiles, 0, 0, width, height);
    const size = Math.min(Math.max(Math.sqrt((width * height) / N) / 7, 2.2), 6);
    context.lineWidth = 0.75;
    context.strokeStyle = getComputedStyle(this.canvas).backgroundColor;
    for (const hidden of [true, false]) for (let i = 0; i < N; i++) {
      if (this.hides(i) !== hidden) continue;
      const [x, y] = this.toScreen(POINTS[i]), [colour, marker] = this.look(i);
      context.globalAlpha = hidden ? 0.12 : 0.85;
      context.fillStyle = colour;
      trace(context, marker, x, y, size);
      context.fill();
      context.stroke();
    }
    context.globalAlpha = 1;
  }
  // spot: a point; ends: points; way: points in order
  draw({ spot, ends, way }) {
    const { context } = this, ink = getComputedStyle(this.canvas).getPropertyValue("--spot").trim();
    const paper = getComputedStyle(this.canvas).backgroundColor;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.base, 0, 0);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.lineJoin = context.lineCap = "round";
    const stroke = (colour, lineWidth) => {
      Object.assign(context, { strokeStyle: colour, lineWidth });
      context.stroke();
    };
    if (way.length > 1) {
      context.beginPath();
      way.forEach((point) => context.lineTo(...this.toScreen(point)));
      stroke(paper, 6);
      stroke(ink, 2.5);
    }
    const [x, y] = this.toScreen(spot);
    context.beginPath();
    context.arc(x, y, 8, 0, 7);
    for (const [dx, dy] of [[0, 1], [0, -1], [1, 0], [-1, 0]]) {
      context.moveTo(x + 5 * dx, y + 5 * dy);
      context.lineTo(x + 17 * dx, y + 17 * dy);
    }
    stroke(paper, 5);
    stroke(ink, 2);
    ends.forEach((point, k) => {
      const [x, y] = this.toScreen(point);
      context.beginPath();
      context.arc(x, y, 11, 0, 7);
      context.fillStyle = ink;
      context.fill();
      stroke(paper, 2);
      context.fillStyle = paper;
      context.font = "600 13px system-ui, sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText("AB"[k], x, y + 0.5);
    });
  }
  // the real picture under a spot of the screen, or -1
  under([px, py], radius) {
    let best = -1, least = radius * radius;
    for (let i = 0; i < N; i++) {
      if (this.hides(i)) continue;
      const [x, y] = this.toScreen(POINTS[i]), far = (x - px) ** 2 + (y - py) ** 2;
      if (far <= least) [best, least] = [i, far];
    }
    return best;
  }
}

function mixed(one, other, share) {
  const [a, b] = [one, other].map((hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)));
  return `rgb(${a.map((value, k) => Math.round(value + share * (b[k] - value))).join(" ")})`;
}

function trace(context, marker, x, y, size) {
  context.beginPath();
  if (marker === "o") context.arc(x, y, size, 0, 7);
  else if (marker === "s") context.rect(x - 0.9 * size, y - 0.9 * size, 1.8 * size, 1.8 * size);
  else {
    context.moveTo(x, y - 1.2 * size);
    context.lineTo(x + 1.15 * size, y + 0.8 * size);
    context.lineTo(x - 1.15 * size, y + 0.8 * size);
    context.closePath();
  }
}
