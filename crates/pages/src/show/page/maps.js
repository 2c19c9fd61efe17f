// Draws maps of token probabilities on canvases: positions and colours of tokens, and the format of numbers.

/** Tokens that are not patches are drawn as rows of cells above the image, with a gap of half a cell. */
class Geometry {
  constructor(layout, image, text = []) {
    const [rows, columns] = layout.image;
    const segments = { special: layout.special, text: layout.text, image: rows * columns };
    this.text = text;
    this.rows = rows;
    this.columns = columns;
    this.tokens = [];
    for (const segment of layout.order) {
      if (segment === "image") this.firstPatch = this.tokens.length;
      for (let index = 0; index < segments[segment]; index += 1) this.tokens.push({ segment, index });
    }
    this.others = this.tokens.map((_, token) => token).filter((token) => !this.isPatch(token));
    this.above = this.others.length > 0 ? Math.ceil(this.others.length / columns) + 0.5 : 0;
    this.aspect = (image.naturalWidth / image.naturalHeight) * (rows / (rows + this.above));
  }

  isPatch(token) {
    return this.tokens[token].segment === "image";
  }

  /** Returns column and row of a token's cell, in cells from the top left; the row may be fractional. */
  place(token) {
    if (this.isPatch(token)) {
      const patch = token - this.firstPatch;
      return [patch % this.columns, this.above + Math.floor(patch / this.columns)];
    }
    const index = this.others.indexOf(token);
    return [index % this.columns, Math.floor(index / this.columns)];
  }

  /** Returns the token at a point given as fractions of the map's width and height, or null. */
  tokenAt(x, y) {
    const column = Math.floor(x * this.columns);
    const height = y * (this.rows + this.above);
    if (column < 0 || column >= this.columns || height < 0 || height >= this.rows + this.above) return null;
    if (height >= this.above) return this.firstPatch + Math.floor(height - this.above) * this.columns + column;
    if (height >= this.above - 0.5) return null;
    return this.others[Math.floor(height) * this.columns + column] ?? null;
  }

  /** Returns row and column of a patch, counted from 0. */
  patch(token) {
    const patch = token - this.firstPatch;
    return [Math.floor(patch / this.columns), patch % this.columns];
  }

  /** Returns the name of a token. */
  name(token) {
    const { segment, index } = this.tokens[token];
    if (segment === "text") return `text ${index} ${this.spelling(token) || "padding"}`;
    if (segment === "special") return index === 0 ? "CLS" : `register ${index}`;
    const [row, column] = this.patch(token);
    return `row ${row}, column ${column}`;
  }

  /** Returns the quoted spelling of a text token; an empty string for other tokens and padding. */
  spelling(token) {
    const { segment, index } = this.tokens[token];
    return segment === "text" && index < this.text.length ? `“${this.text[index]}”` : "";
  }

  /** Whether a token is padding of the text. */
  isPadding(token) {
    const { segment, index } = this.tokens[token];
    return segment === "text" && index >= this.text.length;
  }

  /** Returns the part of a state that sets the colour scale: with text, only the image. */
  coloured(state) {
    const patches = this.rows * this.columns;
    return this.tokens[0].segment === "text" ? state.slice(this.firstPatch, this.firstPatch + patches) : state;
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

/** Viridis at 256 points, read from a string of hexadecimal colours. */
class Viridis {
  constructor(hex) {
    this.colours = hex.match(/.{6}/g).map((c) => [0, 2, 4].map((at) => parseInt(c.slice(at, at + 2), 16)));
  }

  at(t) {
    return this.colours[Math.round(Math.min(Math.max(t, 0), 1) * 255)];
  }
}

/** Returns the colour scale of a map: from its minimum to its maximum or, to limit attention sinks, its 95th percentile. */
function colourScale(state, mode, geometry) {
  const sorted = Float64Array.from(geometry.coloured(state)).sort();
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
  const span = scale.high - scale.low;
  const colour = (token) => viridis.at(span > 0 ? (state[token] - scale.low) / span : 0);

  for (const token of geometry.others) {
    const [x, y] = geometry.place(token);
    context.fillStyle = `rgb(${colour(token)})`;
    context.fillRect(Math.round(x * cellWidth), Math.round(y * cellHeight), Math.ceil(cellWidth) - 1, Math.ceil(cellHeight) - 1);
  }

  const small = document.createElement("canvas");
  [small.width, small.height] = [columns, rows];
  const pixels = new ImageData(columns, rows);
  for (let patch = 0; patch < rows * columns; patch += 1) {
    pixels.data.set([...colour(geometry.firstPatch + patch), 255], 4 * patch);
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

/** Draws the image, with empty cells for the tokens that are not patches. */
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
  context.drawImage(image, 0, top, canvas.width, canvas.height - top);
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
