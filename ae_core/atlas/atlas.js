// The page: what pointer and keys do, and one redraw for each of the screen's.

async function start() {
  const { decoder } = DATA, sheet = await pictureOf(DATA.sheet.picture);
  const decode = decoder.kind === "page" ? ownDecoder(decoder) : await gridDecoder(decoder, VIEW);
  const canvas = at("plane"), view = new View(canvas);
  let pinned = codeOf(nearestTo(codeAt([(VIEW[0] + VIEW[1]) / 2, (VIEW[2] + VIEW[3]) / 2]), 1)[0].i);
  let hover = null, ends = [], trail = [], waiting = false, saying = 0;

  const spot = new Spot(sheet, view, pick), walk = new Walk(decode, pin);
  const sliders = new Sliders((latent, value) => {
    const z = Float64Array.from(pinned);
    z[latent] = value;
    pin(z);
  });
  at("back").addEventListener("click", () => pin(codeAt(pointOf(pinned))));

  function pin(z) {
    pinned = Float64Array.from(z);
    hover = null;
    changed();
  }
  function changed() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }
  function shownPoint(z) { // a single latent's height on the screen is free
    const point = pointOf(z);
    return WIDTH > 1 ? point : [point[0], 0];
  }
  function draw() {
    waiting = false;
    const z = hover ?? pinned;
    const way = trail.length ? trail : walk.codes.map(shownPoint);
    view.draw({ spot: shownPoint(z), ends: ends.map((i) => POINTS[i]), way });
    spot.show(z, decode(z), hover !== null);
    sliders.show(z);
    walk.mark(z);
    clearTimeout(saying);
    if (hover === null) saying = setTimeout(() => { at("said").textContent = spot.words; }, 500);
  }

  // Take a real picture: the first of a walk, or its last.
  function pick(i) {
    pin(codeOf(i));
    if (ends.length === 1 && ends[0] !== i) {
      ends.push(i);
      const names = ends.map((end, k) => `${"AB"[k]}: ${nameOf(end, view)}`);
      const hint = `from ${nameOf(ends[0], view)} to ${nameOf(ends[1], view)}, on a straight line`;
      walk.set(ends.map(codeOf), hint, names);
    } else if (ends[0] !== i || ends.length === 2) {
      ends = [i];
      walk.clear(`A is a ${DATA.noun} (${nameOf(i, view)}); now click another.`);
    }
    changed();
  }
  function letGo() {
    ends = [];
    walk.clear(`Click two ${DATA.noun}s, or drag through empty space.`);
    changed();
  }

  // The pointer.
  let down = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || down) return;
    canvas.setPointerCapture(event.pointerId);
    down = { id: event.pointerId, from: place(event), dragging: false };
    hover = codeAt(view.toPlane(down.from));
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event), point = view.toPlane([x, y]);
    if (down && down.id !== event.pointerId) return;
    const slack = event.pointerType === "mouse" ? 5 : 10;
    if (down && !down.dragging && Math.hypot(x - down.from[0], y - down.from[1]) > slack) {
      down.dragging = true;
      letGo();
      trail = [view.toPlane(down.from)];
    }
    if (down?.dragging) trail.push(point);
    hover = codeAt(point);
    changed();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (down?.id !== event.pointerId) return;
    const { dragging } = down, spotOnScreen = place(event);
    down = null;
    const way = trail;
    trail = [];
    if (dragging) {
      walk.set(evenly(way, FRAMES).map(codeAt), "the way that you dragged", ["start", "end"]);
      pin(codeAt(way[way.length - 1]));
      return;
    }
    const i = view.under(spotOnScreen, event.pointerType === "mouse" ? 10 : 20);
    if (i >= 0) pick(i);
    else pin(codeAt(view.toPlane(spotOnScreen)));
  });
  canvas.addEventListener("pointercancel", () => {
    down = hover = null;
    trail = [];
    changed();
  });
  canvas.addEventListener("pointerleave", () => {
    if (down) return;
    hover = null;
    changed();
  });

  // Keys.
  canvas.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (dx || dy) {
      const share = event.shiftKey ? 0.1 : 0.02, [x, y] = pointOf(pinned);
      const to = [x + dx * share * (VIEW[1] - VIEW[0]), y + dy * share * (VIEW[3] - VIEW[2])];
      to[0] = Math.min(Math.max(to[0], VIEW[0]), VIEW[1]);
      to[1] = Math.min(Math.max(to[1], VIEW[2]), VIEW[3]);
      // along the plane, as far off it as before
      pin(pinned.map((value, d) => value + (to[0] - x) * AXES[d] + (to[1] - y) * AXES[WIDTH + d]));
    } else if (event.key === "Enter" || event.key === " ") pick(nearestTo(pinned, 1)[0].i);
    else if (event.key === "Escape") letGo();
    else return;
    event.preventDefault();
  });

  // Colours.
  const choice = at("colour");
  at("colour-choice").hidden = COLOURS.length === 0;
  COLOURS.forEach(({ name }, k) => choice.append(make("option", { value: k, textContent: name })));
  function coloured() {
    view.colour = Number(choice.value) || 0;
    view.only.clear();
    legend();
    view.drawBase();
    changed();
  }
  choice.addEventListener("change", coloured);
  function legend() {
    const colour = COLOURS[view.colour], box = at("legend");
    box.replaceChildren();
    box.className = "";
    if (colour?.kind === "classes") {
      box.append(...colour.names.map((name, k) => {
        const mark = make("canvas", { width: 28, height: 28, "aria-hidden": "true" }), pen = mark.getContext("2d");
        mark.style.width = mark.style.height = "14px";
        pen.fillStyle = view.classColour(k);
        trace(pen, DATA.markers[Math.floor(k / DATA.palette.length)], 14, 14, 10);
        pen.fill();
        const button = make("button", { type: "button", "aria-pressed": view.only.has(k) }, mark, name);
        button.addEventListener("click", () => {
          if (!view.only.delete(k)) view.only.add(k);
          button.setAttribute("aria-pressed", view.only.has(k));
          box.className = view.only.size ? "some" : "";
          view.drawBase();
          changed();
        });
        return button;
      }));
    } else if (colour) {
      const ramp = make("span", { id: "ramp" }), stops = Array.from({ length: 9 }, (_, k) => view.rampColour(k / 8));
      ramp.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
      box.append(make("span", { textContent: text(colour.low) }), ramp, make("span", { textContent: text(colour.high) }));
    }
  }

  // What is in between: the plane filled with decoded pictures, a row at a time.
  let filling = 0;
  function fill() {
    const run = ++filling;
    view.tiles = null;
    if (at("between").checked) {
      const { h, w } = decode(pinned), cell = 46;
      const columns = Math.max(2, Math.round(view.width / cell));
      const rows = WIDTH > 1 ? Math.max(2, Math.round(view.height / ((cell * h) / w))) : 1;
      const tiles = make("canvas", { width: columns * w, height: rows * h }), pen = tiles.getContext("2d");
      const tile = document.createElement("canvas"), [x0, x1, y0, y1] = VIEW;
      view.tiles = tiles;
      let drawn = 0;
      const next = (k) => {
        if (run !== filling) return;
        const until = performance.now() + 16;
        for (; k < rows * columns && performance.now() < until; k++) {
          const i = k % columns, j = Math.floor(k / columns);
          show(tile, decode(codeAt([x0 + ((i + 0.5) / columns) * (x1 - x0), y1 - ((j + 0.5) / rows) * (y1 - y0)])));
          pen.drawImage(tile, i * w, j * h);
        }
        if (k === rows * columns || until > drawn + 150) {
          drawn = until;
          view.drawBase();
          changed();
        }
        if (k < rows * columns) requestAnimationFrame(() => next(k));
      };
      requestAnimationFrame(() => next(0));
    }
    view.drawBase();
    changed();
  }
  at("between").addEventListener("change", fill);

  at("axis-x").textContent = DATA.axes[0];
  at("axis-y").textContent = DATA.axes[1] && `↑ ${DATA.axes[1]}`;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    legend();
    view.drawBase();
    changed();
  });
  new ResizeObserver(() => {
    view.resize();
    if (at("between").checked) fill();
    draw(); // at once: a canvas that changes its size is empty
  }).observe(canvas);
  view.resize();
  coloured();
  // A walk to begin with: from the middle of the points furthest to the left to that of those furthest to the right.
  if (N > 1) {
    const order = POINTS.map((_, i) => i).sort((a, b) => POINTS[a][0] - POINTS[b][0]), quarter = Math.ceil(N / 4);
    const middle = (part) => [0, 1].map((axis) => part.map((i) => POINTS[i][axis]).sort((a, b) => a - b)[part.length >> 1]);
    for (const part of [order.slice(0, quarter), order.slice(-quarter)]) pick(nearestTo(codeAt(middle(part)), 1)[0].i);
  }
  // For a console, and for whoever wants to check: the page's decoder, and the state.
  window.atlas = { decode: (z) => Array.from(decode(z).x), codes: () => CODES, shown: () => Array.from(hover ?? pinned) };
  document.documentElement.dataset.ready = "true";
}

start();
