// The view as the fragment of the page's address, so that it can be shared as a link.

/** Stands for the mean of all layers or heads instead of a number. */
const MEAN = "mean";
/** Stands for the steady state instead of a number of bounces. */
const STEADY_BOUNCE = "inf";

/** Stands for the word that the page opens with, a start of several tokens, instead of the number of a token. */
const WORD = "word";

/** Whether the page has an address that can hold the view; a frame in a notebook has none. */
function hasAddress() {
  return location.protocol !== "about:";
}

/** Returns the fragment for the chosen view. */
function addressOf({ layer, smooth, ...rest }, layerName) {
  return `#${new URLSearchParams({ layer: layerName, ...rest, smooth: smooth ? 1 : 0 })}`;
}

/** Reads the view from a fragment; values that are invalid on this page are ignored. */
function chosenBy(fragment, { layers, bounces, states, word }) {
  const given = new URLSearchParams(fragment.slice(1));
  const chosen = {};
  const read = (key, meaning) => {
    const value = given.has(key) ? meaning(given.get(key)) : undefined;
    if (value !== undefined) chosen[key] = value;
  };
  const within = (text, low, high) => (/^\d+$/.test(text) && +text >= low && +text <= high ? +text : undefined);
  const oneOf = (text, ...all) => (all.includes(text) ? text : undefined);

  read("layer", (name) => {
    const layer = layers.findIndex((layer) => layer.name === name);
    return layer >= 0 ? layer : oneOf(name, MEAN);
  });
  read("head", (text) => oneOf(text, MEAN) ?? within(text, 0, Infinity));
  read("direction", (text) => oneOf(text, "forward", "backward"));
  read("token", (text) => within(text, 0, states - 1) ?? (word ? oneOf(text, WORD) : undefined));
  read("bounce", (text) => oneOf(text, STEADY_BOUNCE) ?? within(text, 1, bounces));
  read("scale", (text) => oneOf(text, "percentile", "maximum"));
  read("opacity", (text) => within(text, 0, 100));
  read("smooth", (text) => ({ 0: false, 1: true })[text]);
  return chosen;
}
