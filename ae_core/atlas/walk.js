// A way through the codes: the walk between two real pictures, or one that was dragged; its frames, and a place on it.

const FRAMES = 11;

class Walk {
  constructor(decode, go) {
    this.decode = decode;
    this.go = go;
    this.clear(`Click two ${DATA.noun}s, or drag through empty space.`);
    at("along").addEventListener("input", () => go(this.codeAt(Number(at("along").value))));
  }
  clear(hint) {
    this.codes = [];
    this.version = (this.version ?? 0) + 1;
    at("walk-hint").textContent = hint;
    at("frames").replaceChildren();
    at("along-label").hidden = true;
    at("frames").hidden = true;
  }
  // the code at a share of the way's length
  codeAt(share) {
    const along = share * (this.codes.length - 1), i = Math.min(Math.floor(along), this.codes.length - 2);
    return this.codes[i].map((value, d) => value + (along - i) * (this.codes[i + 1][d] - value));
  }
  // codes: the corners of the way, evenly spaced; names: of its two ends
  set(codes, hint, names) {
    this.clear(hint);
    this.codes = codes;
    at("along-label").hidden = at("frames").hidden = false;
    at("along").value = 1; // where a walk ends, there the spot is
    const version = this.version, shares = Array.from({ length: FRAMES }, (_, k) => k / (FRAMES - 1));
    const cells = shares.map((share, k) => {
      const end = k === 0 || k === FRAMES - 1, canvas = make("canvas", { "aria-hidden": "true", width: 1, height: 1 });
      const name = end ? names[k && 1] : `${Math.round(100 * share)} %`;
      const label = make("span", { className: end ? "end" : "", textContent: name });
      const button = make("button", { type: "button", "aria-label": `Frame ${k + 1} of ${FRAMES}` }, canvas, label);
      button.addEventListener("click", () => {
        at("along").value = share;
        this.go(this.codeAt(share));
      });
      at("frames").append(make("li", {}, button));
      return { canvas, share, button };
    });
    this.cells = cells;
    const next = (k) => { // one frame at a time, so that the pointer is not kept waiting
      if (version !== this.version || k === cells.length) return;
      show(cells[k].canvas, this.decode(this.codeAt(cells[k].share)));
      requestAnimationFrame(() => next(k + 1));
    };
    next(0);
  }
  // mark the frame that is at z, where one is
  mark(z) {
    if (!this.codes.length) return;
    for (const { button, share } of this.cells) {
      const code = this.codeAt(share);
      button.setAttribute("aria-current", String(code.every((value, d) => Math.abs(value - z[d]) < 1e-9)));
    }
  }
}

// A dragged way as some corners at even distances along it.
function evenly(points, count) {
  const sums = [0];
  for (let k = 1; k < points.length; k++) {
    sums.push(sums[k - 1] + Math.hypot(points[k][0] - points[k - 1][0], points[k][1] - points[k - 1][1]));
  }
  const total = sums[sums.length - 1];
  return Array.from({ length: count }, (_, n) => {
    const goal = (total * n) / (count - 1);
    let k = 1;
    while (k < points.length - 1 && sums[k] < goal) k++;
    const share = sums[k] > sums[k - 1] ? (goal - sums[k - 1]) / (sums[k] - sums[k - 1]) : 0;
    return points[k - 1].map((value, d) => value + share * (points[k][d] - value));
  });
}
