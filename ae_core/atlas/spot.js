// What is at the spot: its picture, where it is, the nearest real pictures, and a slider for each latent.

const NEAREST = 6;
const at = (id) => document.getElementById(id);
const text = (value) => {
  const shown = Math.abs(value) < 100 ? value.toFixed(2) : value.toPrecision(3);
  return Number(shown) === 0 ? "0.00" : shown.replace("-", "−");
};

// An element; properties with a dash are attributes.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// What is known of a real picture, in a few words.
function nameOf(i, view) {
  const label = COLOURS.find((colour) => colour.kind === "classes");
  if (label) return label.names[label.of[i]];
  const colour = COLOURS[view.colour];
  return colour ? `${colour.name} ${text(colour.of[i])}` : `no. ${INDICES[i]}`;
}

function nearestTo(z, count) {
  const found = [];
  for (let i = 0; i < N; i++) {
    let far = 0;
    for (let d = 0; d < WIDTH; d++) far += (CODES[i * WIDTH + d] - z[d]) ** 2;
    if (found.length < count || far < found[found.length - 1].far) {
      found.push({ i, far });
      found.sort((a, b) => a.far - b.far);
      found.length = Math.min(found.length, count);
    }
  }
  return found.map(({ i, far }) => ({ i, far: Math.sqrt(far) }));
}

class Spot {
  constructor(sheet, view, pick) {
    this.sheet = sheet;
    this.view = view;
    this.cells = Array.from({ length: Math.min(NEAREST, N) }, () => {
      const canvas = make("canvas", { "aria-hidden": "true" }), name = make("span"), far = make("span", { className: "far" });
      const button = make("button", { type: "button" }, canvas, name, far), cell = { canvas, name, far, button, i: 0 };
      button.addEventListener("click", () => pick(cell.i));
      at("near").append(make("li", {}, button));
      return cell;
    });
  }
  real(canvas, i) {
    const { columns, size: [h, w] } = DATA.sheet;
    canvas.width = w;
    canvas.height = h;
    const left = (i % columns) * w, top = Math.floor(i / columns) * h;
    canvas.getContext("2d").drawImage(this.sheet, left, top, w, h, 0, 0, w, h);
  }
  show(z, picture, hovering) {
    show(at("picture"), picture);
    const [x, y] = pointOf(z), near = nearestTo(z, this.cells.length);
    let beyond = 0;
    const back = codeAt([x, y]);
    for (let d = 0; d < WIDTH; d++) beyond += (z[d] - back[d]) ** 2;
    // of a code that the page has only in part, what is at its place is not what the decoder makes of it
    at("spot-title").textContent = near[0].far < 1e-9 && WIDTH === DATA.latent ? "Recreated" : "Invented";
    const place = WIDTH > 1 ? `at (${text(x)}, ${text(y)})` : `at ${text(x)}`;
    const off = Math.sqrt(beyond) > 1e-6 * (VIEW[1] - VIEW[0]) ? `, ${text(Math.sqrt(beyond))} off the plane` : "";
    at("where").textContent = place + off + (hovering ? ", under the pointer" : "");
    near.forEach(({ i, far }, k) => {
      const cell = this.cells[k], name = nameOf(i, this.view);
      if (cell.i !== i || !cell.drawn) this.real(cell.canvas, i);
      Object.assign(cell, { i, drawn: true });
      cell.name.textContent = name;
      cell.far.replaceChildren(text(far), make("i", { textContent: " away" }));
      cell.button.setAttribute("aria-label", `Take ${name}, ${text(far)} away`);
    });
    this.words = `Spot ${place}${off}. Nearest: ${nameOf(near[0].i, this.view)}, ${text(near[0].far)} away.`;
  }
}

class Sliders {
  constructor(move) {
    at("slider-card").hidden = DATA.sliders.length === 0;
    const left = DATA.latent - DATA.sliders.length;
    at("slider-hint").textContent = "each over the range of the real codes, decoded live"
      + (left > 0 ? `; the ${DATA.sliders.length} that vary most of ${DATA.latent}` : "");
    this.rows = DATA.sliders.map(({ latent, low, high }) => {
      const name = `latent ${latent + 1}`, output = make("output");
      const input = make("input", { type: "range", min: low, max: high, step: "any", "aria-label": name });
      input.addEventListener("input", () => move(latent, Number(input.value)));
      input.addEventListener("keydown", (event) => { // "any" leaves the size of a step to the browser
        const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
        if (!way) return;
        event.preventDefault();
        input.value = Number(input.value) + (way * (high - low)) / 50;
        move(latent, Number(input.value));
      });
      at("sliders").append(make("label", {}, make("span", { textContent: name }), input, output));
      return { latent, input, output };
    });
  }
  show(z) {
    for (const { latent, input, output } of this.rows) {
      if (Number(input.value) !== z[latent]) input.value = z[latent];
      output.textContent = text(z[latent]);
    }
  }
}
