// The view as the fragment of the page's address, so that it can be linked.

/** In place of the number of a layer or head: the mean of all of them. */
const MEAN = "mean";
/** In place of a number of bounces: the steady state. */
const STEADY_BOUNCE = "inf";

/** In place of the number of a token: the word that the page opens with, which is several. */
const WORD = "word";

/** The fragment that leads back to what is chosen. */
function addressOf({ layer, smooth, ...rest }, layerName) {
  return `#${new URLSearchParams({ layer: layerName, ...rest, smooth: smooth ? 1 : 0 })}`;
}

/** What a fragment chooses; whatever makes no sense on this page is left out. */
function chosenBy(fragment, { layers, bounces, states, word }) {
  const said = new URLSearchParams(fragment.slice(1));
  const chosen = {};
  const read = (key, meaning) => {
    const value = said.has(key) ? meaning(said.get(key)) : undefined;
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
