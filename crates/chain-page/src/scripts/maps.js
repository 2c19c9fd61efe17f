// Shows probabilities of patches as maps on canvases: positions and colours of tokens, and the format of numbers.

/**
 * Tokens that are not patches are drawn as rows of cells above the image, with a gap of half a cell. A reference image lies
 * below the image, as wide as the image, with an equal gap. Heights are in cells of the image.
 */
class Geometry {
  /** `images` are those of the grids, in order; one that is missing leaves plain cells. */
  constructor(tokens, images) {
    const { rows, columns } = tokens.grid;
    Object.assign(this, { tokens, columns, others: tokens.others });
    this.above = this.others.length > 0 ? Math.ceil(this.others.length / columns) + 0.5 : 0;
    const aspects = tokens.grids.map((grid, at) => {
      const image = images[at];
      return image ? image.naturalWidth / image.naturalHeight : grid.columns / grid.rows;
    });
    /** Each grid with its image, and its top and height. */
    this.bands = [];
    this.height = this.above;
    tokens.grids.forEach((grid, at) => {
      const top = at === 0 ? this.height : this.height + 0.5;
      const height = at === 0 ? rows : (rows * aspects[0]) / aspects[at];
      this.bands.push({ ...grid, image: images[at] ?? null, top, height });
      this.height = top + height;
    });
    this.aspect = aspects[0] * (rows / this.height);
  }

  /** Returns the cell of a token as fractions of the map: { x, y, width, height }. */
  cell(token) {
    const band = this.bands.find(({ first, end }) => token >= first && token < end);
    if (band) {
      const [row, column] = this.tokens.patch(token);
      const height = band.height / band.rows;
      return { x: column / band.columns, y: (band.top + row * height) / this.height, width: 1 / band.columns, height: height / this.height };
    }
    const index = this.others.indexOf(token);
    const row = Math.floor(index / this.columns);
    return { x: (index % this.columns) / this.columns, y: row / this.height, width: 1 / this.columns, height: 1 / this.height };
  }

  /** Returns the token at a point given as fractions of the map's width and height, or null. */
  tokenAt(x, y) {
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return null;
    const height = y * this.height;
    for (const { top, height: tall, rows, columns, first } of this.bands) {
      const row = Math.floor(((height - top) / tall) * rows);
      if (row >= 0 && row < rows) return first + row * columns + Math.floor(x * columns);
    }
    if (height >= this.above - 0.5) return null;
    return this.others[Math.floor(height) * this.columns + Math.floor(x * this.columns)] ?? null;
  }

  /** Places an element over a token's cell. */
  cover(element, token) {
    const { x, y, width, height } = this.cell(token);
    element.style.left = `${100 * x}%`;
    element.style.top = `${100 * y}%`;
    element.style.width = `${100 * width}%`;
    element.style.height = `${100 * height}%`;
  }
}

/** Shows distributions as maps over the patches. Each way to show them has the same methods. */
class PatchView {
  constructor(tokens, images, viridis) {
    this.geometry = new Geometry(tokens, images);
    Object.assign(this, { tokens, viridis, greys: images.map((image) => image && inGrey(image)) });
  }

  /** Fills a map: its marks, `starts` of which are for the start, and the label of the cells above the image. */
  build(map, starts) {
    if (!map.querySelector("canvas")) map.append(element("canvas"));
    addMarks(map, starts);
    if (this.geometry.others.length > 0 && map.closest(".panel")) map.append(this.cellLabel());
  }

  /** Returns the label of the cells above the image. */
  cellLabel() {
    const { others, columns, height } = this.geometry;
    const label = element("span", { className: "cell-label" });
    label.textContent =
      others.length === 1 ? this.tokens.name(others[0])
      : this.tokens.hasText ? `${others.length} tokens` : `${this.tokens.name(others[0])}, ${others.length - 1} more`;
    label.hidden = others.length > columns / 2;
    label.style.left = `${(100 * others.length) / columns}%`;
    label.style.height = `${100 / height}%`;
    return label;
  }

  /** Returns the token under the pointer, or null. */
  tokenAt(map, event) {
    const box = map.querySelector("canvas").getBoundingClientRect();
    return this.geometry.tokenAt((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }

  /**
   * Returns the patch that an arrow key leads to from a token, or null for another key. From what is not a patch, it is the middle
   * of the image. Up and down also lead from one image to the other.
   */
  next(map, token, key) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    if (!step) return null;
    const { grid, grids } = this.tokens;
    const at = ({ first, columns }, row, column) => first + row * columns + column;
    if (token === null || !this.tokens.isPatch(token)) return at(grid, Math.floor(grid.rows / 2), Math.floor(grid.columns / 2));
    const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);
    const from = this.tokens.gridOf(token);
    let [row, column] = this.tokens.patch(token);
    [row, column] = [row + step[0], clamp(column + step[1], from.columns)];
    const next = grids[grids.indexOf(from) + step[0]];
    if (next && (row < 0 || row >= from.rows)) {
      return at(next, step[0] > 0 ? 0 : next.rows - 1, Math.floor(((column + 0.5) * next.columns) / from.columns));
    }
    return at(from, clamp(row, from.rows), column);
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
    const { geometry, viridis, greys } = this;
    if (!state) {
      drawPlainImages(canvas, { geometry, line: getComputedStyle(map).color });
      return;
    }
    const overlay = map.closest(".panel") ? { images: greys, opacity: opacity / 100 } : {};
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

/** Returns the cells of the tokens that are not patches, in pixels of a canvas: { token, x, y, width, height }. */
function otherCells(canvas, geometry) {
  return geometry.others.map((token) => {
    const { x, y, width, height } = geometry.cell(token);
    const [left, top] = [Math.round(x * canvas.width), Math.round(y * canvas.height)];
    return { token, x: left, y: top, width: Math.ceil(width * canvas.width), height: Math.ceil(height * canvas.height) };
  });
}

/** Returns top and height of a grid in pixels of a canvas. The last grid ends where the canvas ends. */
function bandPixels(canvas, geometry, { top, height }) {
  const [from, to] = [top, top + height].map((at) => Math.round((at / geometry.height) * canvas.height));
  return [from, to - from];
}

/**
 * Draws a map, over images if some are given.
 * options: { state, scale, geometry, viridis, smooth, images, opacity }
 */
function drawMap(canvas, { state, scale, geometry, viridis, smooth, images = [], opacity = 1 }) {
  const context = fitted(canvas, geometry);
  const colour = (token) => viridis.of(state[token], scale);

  for (const { token, x, y, width, height } of otherCells(canvas, geometry)) {
    context.fillStyle = `rgb(${colour(token)})`;
    context.fillRect(x, y, width - 1, height - 1);
  }

  geometry.bands.forEach((band, at) => {
    const { rows, columns, first } = band;
    const small = document.createElement("canvas");
    [small.width, small.height] = [columns, rows];
    const pixels = new ImageData(columns, rows);
    for (let patch = 0; patch < rows * columns; patch += 1) {
      pixels.data.set([...colour(first + patch), 255], 4 * patch);
    }
    small.getContext("2d").putImageData(pixels, 0, 0);
    const [top, height] = bandPixels(canvas, geometry, band);
    if (images[at]) {
      context.drawImage(images[at], 0, top, canvas.width, height);
      context.globalAlpha = opacity;
    }
    context.imageSmoothingEnabled = smooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, top, canvas.width, height);
    context.globalAlpha = 1;
  });
}

/** Draws the images, or plain cells without one, with empty cells for the tokens that are not patches. */
function drawPlainImages(canvas, { geometry, line }) {
  const context = fitted(canvas, geometry);
  context.strokeStyle = line;
  for (const { x, y, width, height } of otherCells(canvas, geometry)) {
    context.strokeRect(x + 0.5, y + 0.5, width - 2, height - 2);
  }
  for (const band of geometry.bands) {
    const [top, height] = bandPixels(canvas, geometry, band);
    if (band.image) {
      context.drawImage(band.image, 0, top, canvas.width, height);
      continue;
    }
    const { rows, columns } = band;
    context.globalAlpha = 0.35;
    const at = (fraction, size) => Math.min(Math.round(fraction * size) + 0.5, size - 0.5);
    for (let row = 0; row <= rows; row += 1) context.strokeRect(0, top + at(row / rows, height), canvas.width, 0);
    for (let column = 0; column <= columns; column += 1) context.strokeRect(at(column / columns, canvas.width), top, 0, height);
    context.globalAlpha = 1;
  }
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
