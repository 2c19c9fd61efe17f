// Shows probabilities of patches as maps on canvases: positions and colours of tokens, and the format of numbers.

/** Tokens that are not patches are drawn as rows of cells above the image, with a gap of half a cell. */
class Geometry {
  constructor(tokens, image) {
    const { rows, columns } = tokens.grid;
    Object.assign(this, { tokens, rows, columns, others: tokens.others });
    this.above = this.others.length > 0 ? Math.ceil(this.others.length / columns) + 0.5 : 0;
    const aspect = image ? image.naturalWidth / image.naturalHeight : columns / rows;
    this.aspect = aspect * (rows / (rows + this.above));
  }

  /** Returns column and row of a token's cell, in cells from the top left; the row may be fractional. */
  place(token) {
    if (this.tokens.isPatch(token)) {
      const [row, column] = this.tokens.patch(token);
      return [column, this.above + row];
    }
    const index = this.others.indexOf(token);
    return [index % this.columns, Math.floor(index / this.columns)];
  }

  /** Returns the token at a point given as fractions of the map's width and height, or null. */
  tokenAt(x, y) {
    const column = Math.floor(x * this.columns);
    const height = y * (this.rows + this.above);
    if (column < 0 || column >= this.columns || height < 0 || height >= this.rows + this.above) return null;
    if (height >= this.above) return this.tokens.grid.first + Math.floor(height - this.above) * this.columns + column;
    if (height >= this.above - 0.5) return null;
    return this.others[Math.floor(height) * this.columns + column] ?? null;
  }

  /** Places an element over a token's cell. */
  cover(element, token) {
    const [x, y] = this.place(token);
    element.style.left = `${(100 * x) / this.columns}%`;
    element.style.top = `${(100 * y) / (this.rows + this.above)}%`;
    element.style.width = `${100 / this.columns}%`;
    element.style.height = `${100 / (this.rows + this.above)}%`;
  }
}

/** Shows distributions as maps over the patches. Each way to show them has the same methods. */
class PatchView {
  constructor(tokens, image, viridis) {
    this.geometry = new Geometry(tokens, image);
    Object.assign(this, { tokens, image, viridis, grey: image && inGrey(image) });
  }

  /** Fills a map: its marks, `starts` of which are for the start, and the label of the cells above the image. */
  build(map, starts) {
    if (!map.querySelector("canvas")) map.append(element("canvas"));
    addMarks(map, starts);
    if (this.geometry.others.length > 0 && map.closest(".panel")) map.append(this.cellLabel());
  }

  /** Returns the label of the cells above the image. */
  cellLabel() {
    const { others, columns, rows, above } = this.geometry;
    const label = element("span", { className: "cell-label" });
    label.textContent =
      others.length === 1 ? this.tokens.name(others[0])
      : this.tokens.hasText ? `${others.length} tokens` : `${this.tokens.name(others[0])}, ${others.length - 1} more`;
    label.hidden = others.length > columns / 2;
    label.style.left = `${(100 * others.length) / columns}%`;
    label.style.height = `${100 / (rows + above)}%`;
    return label;
  }

  /** Returns the token under the pointer, or null. */
  tokenAt(map, event) {
    const box = map.querySelector("canvas").getBoundingClientRect();
    return this.geometry.tokenAt((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }

  /** Returns the patch that an arrow key leads to from a token, or null for another key. From what is not a patch, it is the middle. */
  next(map, token, key) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    if (!step) return null;
    const { rows, columns, first } = this.tokens.grid;
    const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);
    let [row, column] = [Math.floor(rows / 2), Math.floor(columns / 2)];
    if (token !== null && this.tokens.isPatch(token)) {
      const [from, at] = this.tokens.patch(token);
      [row, column] = [clamp(from + step[0], rows), clamp(at + step[1], columns)];
    }
    return first + row * columns + column;
  }

  /** Marks the start. */
  markStart(map, starts) {
    placeMarks(map, starts, (mark, token) => this.geometry.cover(mark, token));
  }

  /** Outlines a token, or none. */
  markHover(map, token) {
    const mark = map.querySelector(".mark.hover");
    mark.hidden = token === null;
    if (token !== null) this.geometry.cover(mark, token);
  }

  /** Shows a distribution, or the plain image if there is none. */
  show(map, state, scale, { opacity, smooth }) {
    const canvas = map.querySelector("canvas");
    const { geometry, viridis, grey } = this;
    if (!state) {
      drawPlainImage(canvas, { geometry, image: this.image, line: getComputedStyle(map).color });
      return;
    }
    const overlay = grey && map.closest(".panel") ? { image: grey, opacity: opacity / 100 } : {};
    drawMap(canvas, { state, scale, geometry, viridis, smooth, ...overlay });
    describe(canvas, this.tokens, state);
  }
}

/** Adds the marks of a map: of the token under the pointer, and `starts` of the start. */
function addMarks(map, starts) {
  map.append(element("div", { className: "mark start" }), element("div", { className: "mark hover", hidden: true }));
  for (let i = 1; i < starts; i += 1) map.append(element("div", { className: "mark start" }));
}

/** Shows one mark for each token of the start. */
function placeMarks(map, starts, cover) {
  map.querySelectorAll(".mark.start").forEach((mark, at) => {
    mark.hidden = at >= starts.length;
    if (!mark.hidden) cover(mark, starts[at]);
  });
}

/** Describes a map to readers who do not see it. */
function describe(drawing, tokens, state) {
  const best = state.reduce((best, probability, token) => (probability > state[best] ? token : best), 0);
  drawing.setAttribute("role", "img");
  drawing.setAttribute(
    "aria-label",
    `Map of token probabilities; largest: ${tokens.name(best)}, ${percent(state[best])}`,
  );
}

/** Viridis at 256 points, read from a string of hexadecimal colours. */
class Viridis {
  constructor(hex) {
    this.colours = hex.match(/.{6}/g).map((c) => [0, 2, 4].map((at) => parseInt(c.slice(at, at + 2), 16)));
  }

  /** Returns the colour of a value on a scale: red, green and blue. */
  of(value, { low, high }) {
    const t = high > low ? (value - low) / (high - low) : 0;
    return this.colours[Math.round(Math.min(Math.max(t, 0), 1) * 255)];
  }
}

/** Returns the colour scale of a map: from its minimum to its maximum or, to limit attention sinks, its 95th percentile. */
function colourScale(state, mode, tokens) {
  const sorted = Float64Array.from(tokens.coloured(state)).sort();
  const [low, largest] = [sorted[0], sorted[sorted.length - 1]];
  const percentile = sorted[Math.ceil(sorted.length * 0.95) - 1];
  const high = mode === "percentile" && percentile > low ? percentile : largest;
  return { low, high, clipped: high < largest };
}

/**
 * Draws a map, over an image if one is given.
 * options: { state, scale, geometry, viridis, smooth, image, opacity }
 */
function drawMap(canvas, { state, scale, geometry, viridis, smooth, image = null, opacity = 1 }) {
  const { rows, columns, above } = geometry;
  const context = fitted(canvas, geometry);
  const [cellWidth, cellHeight] = [canvas.width / columns, canvas.height / (rows + above)];
  const colour = (token) => viridis.of(state[token], scale);

  for (const token of geometry.others) {
    const [x, y] = geometry.place(token);
    context.fillStyle = `rgb(${colour(token)})`;
    context.fillRect(Math.round(x * cellWidth), Math.round(y * cellHeight), Math.ceil(cellWidth) - 1, Math.ceil(cellHeight) - 1);
  }

  const small = document.createElement("canvas");
  [small.width, small.height] = [columns, rows];
  const pixels = new ImageData(columns, rows);
  for (let patch = 0; patch < rows * columns; patch += 1) {
    pixels.data.set([...colour(geometry.tokens.grid.first + patch), 255], 4 * patch);
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  const top = Math.round(above * cellHeight);
  if (image) {
    context.drawImage(image, 0, top, canvas.width, canvas.height - top);
  }
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, top, canvas.width, canvas.height - top);
  context.globalAlpha = 1;
}

/** Draws the image, or plain cells without one, with empty cells for the tokens that are not patches. */
function drawPlainImage(canvas, { geometry, image, line }) {
  const { rows, columns, above } = geometry;
  const context = fitted(canvas, geometry);
  const [cellWidth, cellHeight] = [canvas.width / columns, canvas.height / (rows + above)];
  context.strokeStyle = line;
  for (const token of geometry.others) {
    const [x, y] = geometry.place(token);
    context.strokeRect(Math.round(x * cellWidth) + 0.5, Math.round(y * cellHeight) + 0.5, Math.ceil(cellWidth) - 2, Math.ceil(cellHeight) - 2);
  }
  const top = Math.round(above * cellHeight);
  if (image) {
    context.drawImage(image, 0, top, canvas.width, canvas.height - top);
    return;
  }
  context.globalAlpha = 0.35;
  const at = (place, size, end) => Math.min(Math.round(place * size) + 0.5, end - 0.5);
  for (let row = 0; row <= rows; row += 1) context.strokeRect(0, at(above + row, cellHeight, canvas.height), canvas.width, 0);
  for (let column = 0; column <= columns; column += 1) context.strokeRect(at(column, cellWidth, canvas.width), top, 0, canvas.height);
  context.globalAlpha = 1;
}

/** Returns a canvas with an image in grey (ITU-R BT.601). */
function inGrey(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const [red, green, blue] = pixels.data.subarray(at, at + 3);
    pixels.data.fill(0.299 * red + 0.587 * green + 0.114 * blue, at, at + 3);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Resizes a canvas to the pixels that it covers on the screen, which clears it. */
function fitted(canvas, geometry) {
  const width = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
  canvas.width = width;
  canvas.height = Math.max(1, Math.round(width / geometry.aspect));
  return canvas.getContext("2d");
}

/** Writes a probability as a percentage with three digits. */
function percent(probability) {
  const value = 100 * probability;
  if (value === 0) return "0 %";
  if (value < 0.001) return "< 0.001 %";
  return `${value >= 99.95 ? "100" : value.toFixed(value >= 10 ? 1 : value >= 0.1 ? 2 : 3)} %`;
}
