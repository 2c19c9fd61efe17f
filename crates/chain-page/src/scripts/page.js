// The page: the chosen view, the numbers that follow from it, and how they are shown.

/** Maximum number of decoded matrices that are kept; others are decoded again when needed. */
const KEPT_MATRICES = 12;
/** Number of tokens listed below a map. */
const TOP_TOKENS = 8;

/** Stands for the start instead of a number of bounces: the map of the plain image or of the distribution that walks start from. */
const START = "picture";

const $ = (id) => document.getElementById(id);

class Page {
  constructor(data, images) {
    this.data = data;
    this.tokens = new Tokens(data.layout);
    this.viridis = new Viridis(data.viridis);
    const { tokens, viridis } = this;
    this.large = tokens.grid ? new PatchView(tokens, images, viridis) : new WordView(tokens, viridis);
    this.small = tokens.grid ? this.large : new RowView(tokens, viridis);
    this.matrices = new Map();
    this.chosen = {};
    this.n = data.states;
    this.state = {
      // The average, as in the figures.
      layer: data.layers.length > 1 ? MEAN : 0,
      head: MEAN,
      direction: "forward",
      token: data.word ? WORD : data.token,
      bounce: 1,
      scale: "percentile",
      opacity: 65,
      smooth: false,
    };
  }

  // ---- numbers of the chosen view

  /** Returns the matrix of a layer and head, decoded at most once while it is kept. */
  matrix(layer, head) {
    const key = `${layer}/${head}`;
    let matrix = this.matrices.get(key);
    if (!matrix) {
      if (layer === MEAN) {
        matrix = meanMatrix(this.data.layers.map((_, each) => this.matrix(each, MEAN)));
      } else {
        matrix = decodeMatrix($(`map-${layer}-${head}`).textContent, this.n);
      }
    }
    this.matrices.delete(key);
    this.matrices.set(key, matrix);
    if (this.matrices.size > KEPT_MATRICES) this.matrices.delete(this.matrices.keys().next().value);
    return matrix;
  }

  /** Returns the chosen chain and its steady state. */
  chain() {
    const { layer, head, direction } = this.state;
    const key = `${layer}/${head}/${direction}`;
    if (this.chosen.key !== key) {
      const chain = new Chain(this.matrix(layer, head), this.n, this.data.alpha, direction);
      this.chosen = { key, chain, steady: chain.steady() };
    }
    return this.chosen;
  }

  /** Returns the numbers shown now, for scripts that read the page. */
  current() {
    const { chain, steady } = this.chain();
    const { layer, head, direction, token } = this.state;
    return {
      layer: this.layerName(layer),
      head,
      direction,
      token,
      alpha: this.data.alpha,
      bounces: chain.bounces(this.startState(), this.data.bounces).map((state) => Array.from(state)),
      steady: Array.from(steady.state),
      steps: steady.steps,
      converged: steady.converged,
    };
  }

  /** Returns the weights of all tokens if walks start from such, or undefined. */
  startWeights() {
    return (this.state.token === WORD && this.data.word.weights) || undefined;
  }

  /** Returns the distribution that walks start from. */
  startState() {
    const weights = this.startWeights();
    if (weights) return Float64Array.from(weights);
    const state = new Float64Array(this.n);
    const tokens = this.startTokens();
    for (const token of tokens) state[token] = 1 / tokens.length;
    return state;
  }

  /** Returns the tokens that walks start from with equal probabilities, which are marked. */
  startTokens() {
    return this.state.token === WORD ? this.data.word.tokens : [this.state.token];
  }

  layerName(layer) {
    return layer === MEAN ? MEAN : this.data.layers[layer].name;
  }

  /** Returns the reason why no head can be picked, or an empty string. */
  headsMissing() {
    if (this.state.layer === MEAN) return "Heads belong to a layer: pick a layer first.";
    const { embedded, lambda2 } = this.data.layers[this.state.layer];
    if (embedded) return "";
    return lambda2.length ? "The maps of single heads are too large to embed." : "This page has no maps of single heads.";
  }

  // ---- choosing

  /** Changes the view, makes it consistent and shows it. */
  choose(changes) {
    Object.assign(this.state, changes);
    const layer = this.data.layers[this.state.layer];
    if (this.state.head !== MEAN && !(layer && this.state.head < layer.embedded)) this.state.head = MEAN;
    this.show();
    if (hasAddress()) history.replaceState(null, "", addressOf(this.state, this.layerName(this.state.layer)));
  }

  // ---- showing

  build() {
    const { data, tokens } = this;
    const strip = $("strip");
    if (!tokens.grid && data.word?.weights) strip.append(this.tile(START, "start"));
    for (let bounce = 1; bounce <= data.bounces; bounce += 1) strip.append(this.tile(bounce, `n = ${bounce}`));
    strip.append(this.tile(STEADY_BOUNCE, "n = ∞"));
    for (const map of document.querySelectorAll(".map")) this.watch(map);
    this.small.label?.(strip);
    const others = tokens.grid ? tokens.others.filter((token) => !tokens.isPadding(token)) : [];
    for (const token of data.word ? [WORD, ...others] : others) {
      const name = token === WORD ? data.word.name : tokens.name(token);
      // A prompt has many tokens, so buttons show only the spelling.
      const textContent = token !== WORD && tokens.spelling(token) || name;
      const button = element("button", { type: "button", textContent, title: name });
      button.dataset.token = token;
      button.addEventListener("click", () => this.choose({ token }));
      $("other-tokens").append(button);
    }
    $("other-tokens").hidden = $("other-tokens").children.length === 0;

    $("layer").addEventListener("change", ({ target }) => {
      this.choose({ layer: target.value === MEAN ? MEAN : +target.value });
    });
    $("head").addEventListener("change", ({ target }) => {
      this.choose({ head: target.value === MEAN ? MEAN : +target.value });
    });
    for (const name of ["direction", "scale"]) {
      for (const radio of document.getElementsByName(name)) {
        radio.addEventListener("change", () => this.choose({ [name]: radio.value }));
      }
    }
    $("opacity")?.addEventListener("input", ({ target }) => this.choose({ opacity: +target.value }));
    $("smooth")?.addEventListener("change", ({ target }) => this.choose({ smooth: target.checked }));
    for (const cell of document.querySelectorAll("#lambda button")) {
      const [layer, head] = [cell.dataset.layer, cell.dataset.head].map((value) => (value === MEAN ? MEAN : +value));
      cell.addEventListener("click", () => this.choose({ layer, head }));
    }
    this.drawBars();
    window.addEventListener("hashchange", () => this.choose(chosenBy(location.hash, this.data)));
    let width = 0;
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === width) return;
      width = contentRect.width;
      requestAnimationFrame(() => this.show());
    }).observe(document.querySelector("main"));
    window.matchMedia("print").addEventListener("change", () => this.show());
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show());
  }

  /** Returns the map of a bounce; its name is a button, except for the start. */
  tile(bounce, name) {
    const tile = element("li");
    const label = bounce === START ? element("span") : element("button", { type: "button", className: "bounce" });
    label.textContent = name;
    label.dataset.bounce = bounce;
    if (bounce !== START) label.addEventListener("click", () => this.choose({ bounce }));
    const map = element("div", { className: "map" });
    map.dataset.show = bounce;
    tile.append(label, map, element("span", { className: "range" }));
    return tile;
  }

  /** Returns the way in which a map shows distributions. */
  view(map) {
    return map.closest("#strip") ? this.small : this.large;
  }

  /** Fills a map, and adds reactions to pointer and keyboard. */
  watch(map) {
    const view = this.view(map);
    // Each token of a word has a mark.
    view.build(map, this.data.word?.tokens.length ?? 1);
    const tokenOf = (event) => view.tokenAt(map, event);
    map.addEventListener("click", (event) => {
      const token = tokenOf(event);
      if (token !== null) this.choose({ token });
    });
    map.addEventListener("pointermove", (event) => this.hover(map, tokenOf(event), event));
    map.addEventListener("pointerleave", () => this.hover(map, null));
    if (map.tabIndex < 0) return;
    map.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const token = view.next(map, this.state.token === WORD ? null : this.state.token, event.key);
      if (token === null) return;
      event.preventDefault();
      this.choose({ token });
      view.reveal?.(map, token);
    });
  }

  /** Outlines a token in every map, and shows its probability in the map under the pointer. */
  hover(map, token, event) {
    for (const each of document.querySelectorAll(".map")) this.view(each).markHover(each, token);
    const tip = $("tip");
    tip.hidden = token === null;
    if (token === null) return;
    const shown = this.shown(map.dataset.show);
    const { name, number } = this.tokens.title(token);
    const lines = [element("b", { textContent: name }), number && ` · ${number}`];
    if (shown) {
      const times = shown[token] * this.n;
      lines.push(element("br"), `${percent(shown[token])} · ${times.toPrecision(times < 1 ? 2 : 3)} × uniform`);
    }
    tip.replaceChildren(...lines);
    const [x, y] = [event.clientX + 14, event.clientY + 16];
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x, document.documentElement.clientWidth - box.width - 4))}px`;
    tip.style.top = `${y + box.height > window.innerHeight ? y - box.height - 30 : y}px`;
  }

  /** Returns the distribution that a map shows: of one bounce, of the chosen bounce, the steady state, or null. */
  shown(what) {
    if (what === "chosen") return this.shown(String(this.state.bounce));
    if (what === STEADY_BOUNCE) return this.chain().steady.state;
    if (what === START) return this.startWeights() || !this.tokens.grid ? this.startState() : null;
    return this.bounces[+what - 1];
  }

  show() {
    const { data } = this;
    const { chain } = this.chain();
    this.bounces = chain.bounces(this.startState(), data.bounces);
    this.showControls();
    this.showWords();
    for (const map of document.querySelectorAll(".map")) this.showMap(map);
    for (const list of document.querySelectorAll(".top")) this.showTop(list);
  }

  showControls() {
    const { state, data } = this;
    $("layer").value = state.layer;
    const reason = this.headsMissing();
    const heads = reason ? 0 : data.layers[state.layer].embedded;
    const options = Array.from({ length: heads }, (_, head) => new Option(`head ${head}`, head));
    $("head").replaceChildren(new Option("mean of heads", MEAN), ...options);
    $("head").value = state.head;
    $("head").disabled = reason !== "";
    $("head").title = reason;
    $("head-reason").textContent = reason;
    for (const name of ["direction", "scale"]) {
      for (const radio of document.getElementsByName(name)) radio.checked = radio.value === state[name];
    }
    if ($("opacity")) $("opacity").value = state.opacity;
    if ($("smooth")) $("smooth").checked = state.smooth;
    const pressed = (button, yes) => button.setAttribute("aria-pressed", String(yes));
    for (const button of document.querySelectorAll(".bounce")) {
      pressed(button, button.dataset.bounce === String(state.bounce));
    }
    for (const button of $("other-tokens").children) pressed(button, button.dataset.token === String(state.token));
    for (const cell of document.querySelectorAll("#lambda button")) {
      pressed(cell, cell.dataset.layer === String(state.layer) && cell.dataset.head === String(state.head));
    }
  }

  showWords() {
    const { state, data, tokens } = this;
    const layer = state.layer === MEAN ? "mean of layers" : data.layers[state.layer].name;
    const head = state.head === MEAN ? "mean of heads" : `head ${state.head}`;
    const lambda = state.head === MEAN ? undefined : data.layers[state.layer].lambda2[state.head];
    const several = state.token === WORD;
    const { name, number } = several ? { name: data.word.name, number: "" } : tokens.title(state.token);
    const start = number ? `${name} (${number})` : name;
    $("chain").textContent = [
      `${layer}, ${head}`,
      state.direction,
      `start: ${start}`,
      ...(Number.isFinite(lambda) ? [`λ₂ = ${lambda.toFixed(3)}`] : []),
      `α = ${data.alpha}`,
    ].join(" · ");
    $("start-words").textContent = start;
    const forward = state.direction === "forward";
    const mean = this.startWeights() ? "weighted mean" : "mean";
    const { bounce } = state;
    $("map-title").textContent =
      bounce === STEADY_BOUNCE ? "In the long run, n = ∞" : bounce === 1 ? "After 1 bounce" : `After ${bounce} bounces`;
    $("map-words").textContent =
      bounce === STEADY_BOUNCE ? `The walk has forgotten where it started: this is TokenRank.${this.mask()}`
      : bounce === 1
        ? forward
          ? `Where the start ${several ? `tokens attend: the ${mean} of their rows` : "token attends: its row"} of the matrix.`
          : `Which tokens attend to the start ${several ? "tokens: their columns" : "token: its column"} of the matrix.`
        : forward ? `Where following the attention leads in ${bounce} steps.` : `From a token to those that attend to it, ${bounce} times over.`;
    const { steady } = this.chain();
    $("rank-words").textContent =
      `${forward ? "Incoming" : "Outgoing"} attention: each token’s probability in the long run, from any start. ` +
      (steady.converged ? `${steady.steps} steps of the power method.${this.mask()}` : `Not converged after ${steady.steps} steps: the chain has no unique steady state, or mixes very slowly.`);
  }

  /** Says what the mask decides of the steady state if the attention is causal; an empty string if it is not. */
  mask() {
    const { layers } = this.data;
    const chosen = this.state.layer === MEAN ? layers : [layers[this.state.layer]];
    const { triangle } = chosen[0];
    if (!triangle || chosen.some((layer) => layer.triangle !== triangle)) return "";
    const onward = (triangle === "earlier") === (this.state.direction === "forward") ? ["earlier", "first"] : ["later", "last"];
    return ` The attention is causal: walks only move to ${onward[0]} tokens and collect on the ${onward[1]} one, whatever the network has learned.`;
  }

  showMap(map) {
    const { state } = this;
    const view = this.view(map);
    const distribution = this.shown(map.dataset.show);
    view.markStart(map, this.startTokens());
    const scale = distribution && colourScale(distribution, state.scale, this.tokens);
    view.show(map, distribution, scale, state);
    if (!distribution) return;
    const most = `${scale.clipped ? "≥ " : ""}${percent(scale.high)}`;
    const bar = map.parentElement.querySelector(".bar");
    if (bar) {
      const middle = percent((scale.low + scale.high) / 2);
      [percent(scale.low), middle, most].forEach((text, at) => (bar.querySelectorAll("span")[at].textContent = text));
    } else if (map.closest("#strip")) {
      map.parentElement.querySelector(".range").textContent = most;
    }
  }

  drawBars() {
    const stops = [0, 32, 64, 96, 128, 160, 192, 224, 255].map((at) => `rgb(${this.viridis.colours[at]})`);
    for (const bar of document.querySelectorAll(".bar i")) bar.style.background = `linear-gradient(90deg, ${stops})`;
  }

  /** Lists the tokens with the largest probabilities in the map above the list. */
  showTop(list) {
    const state = this.shown(list.dataset.show);
    const order = Array.from(state.keys()).sort((a, b) => state[b] - state[a]).slice(0, TOP_TOKENS);
    const rows = order.map((token) => {
      const button = element("button", { type: "button", title: "Start from this token" });
      const bar = element("i");
      bar.style.width = `${(100 * state[token]) / state[order[0]]}%`;
      button.append(
        element("span", { textContent: this.tokens.listed(token) }),
        element("span", { className: "track" }),
        element("span", { className: "share", textContent: percent(state[token]) }),
      );
      button.querySelector(".track").append(bar);
      button.addEventListener("click", () => this.choose({ token }));
      const row = element("li");
      row.append(button);
      return row;
    });
    list.replaceChildren(...rows);
  }
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

async function main() {
  const data = JSON.parse($("data").textContent);
  const images = [$("picture"), $("reference")];
  await Promise.all(images.map((image) => image?.decode()));
  const page = new Page(data, images);
  page.build();
  if (hasAddress()) Object.assign(page.state, chosenBy(location.hash, data));
  page.choose({});
  window.tokenrank = { current: () => page.current(), choose: (changes) => page.choose(changes) };
  document.documentElement.dataset.ready = "";
}

main();
