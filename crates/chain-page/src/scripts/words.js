// Shows probabilities of tokens that are not patches: as coloured words, and as rows of cells.

/** Space and signs that show a token in running text: { before, shown, breaks }. */
function inText(piece, spaced) {
  if (piece === "") return { before: "", shown: "∅", breaks: 0 };
  const breaks = piece.match(/\n/g)?.length ?? 0;
  const blank = piece.trim() === "";
  const before = !spaced || (!blank && piece.startsWith(" ")) ? " " : "";
  const rest = spaced && before ? piece.slice(1) : piece;
  const shown = visible(blank ? rest.replaceAll(" ", "␣") : rest);
  return { before, shown, breaks };
}

/** Letters of scripts that are written from right to left. */
const RIGHT_TO_LEFT = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

/** Returns the colour of text on a background: black or white, whichever has more contrast (WCAG 2). */
function inkOn(background) {
  const linear = background.map((part) => (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
}

/** Shows distributions as coloured words, with the methods of PatchView. */
class WordView {
  constructor(tokens, viridis) {
    Object.assign(this, { tokens, viridis });
    // Without any white space, each token is a word of its own.
    this.spaced = tokens.all.some(({ piece }) => piece && /\s/.test(piece));
  }

  build(map) {
    this.tokens.all.forEach((token, number) => {
      const { kind, name, piece } = token;
      const { before, shown, breaks } =
        kind === "text" ? inText(piece, this.spaced) : { before: " ", shown: kind === "padding" ? "·" : visible(name), breaks: 0 };
      const word = element("bdi", { className: `word ${kind}`, textContent: shown });
      word.dataset.token = number;
      if (before && number > 0) map.append(before);
      map.append(word);
      for (let i = 0; i < Math.min(breaks, 2); i += 1) map.append(element("br"));
    });
    map.words = [...map.querySelectorAll(".word")];
    map.style.background = `rgb(${this.viridis.colours[0]})`;
    // The words are isolated from each other, so the direction is that of the first letter.
    const letter = this.tokens.all.map(({ piece }) => piece?.match(/\p{L}/u)?.[0]).find(Boolean);
    map.dir = letter && RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr";
  }

  tokenAt(map, event) {
    const word = event.target.closest?.(".word");
    return word && map.contains(word) ? +word.dataset.token : null;
  }

  /** Returns the token that a key leads to: the one before or after, the nearest one in the line above or below, the first or last. */
  next(map, token, key) {
    const last = this.tokens.all.length - 1;
    const from = token ?? 0;
    switch (key) {
      case "ArrowLeft":
      case "ArrowRight":
        return Math.min(Math.max(from + ((key === "ArrowRight") === (map.dir === "ltr") ? 1 : -1), 0), last);
      case "Home":
        return 0;
      case "End":
        return last;
      case "ArrowUp":
      case "ArrowDown":
        return this.acrossLines(map, from, key === "ArrowUp" ? -1 : 1);
      default:
        return null;
    }
  }

  acrossLines(map, from, step) {
    const boxes = map.words.map((word) => word.getClientRects()[0]);
    const middle = ({ left, right }) => (left + right) / 2;
    const { height } = boxes[from];
    const sameLine = (a, b) => Math.abs(a - b) < height / 2;
    let first = from;
    while (boxes[first] && sameLine(boxes[first].top, boxes[from].top)) first += step;
    let best = from;
    for (let each = first; boxes[each] && sameLine(boxes[each].top, boxes[first].top); each += step) {
      const distance = (token) => Math.abs(middle(boxes[token]) - middle(boxes[from]));
      if (best === from || distance(each) < distance(best)) best = each;
    }
    return best;
  }

  markStart(map, starts) {
    const marked = new Set(starts);
    map.words.forEach((word, token) => word.classList.toggle("start", marked.has(token)));
  }

  markHover(map, token) {
    map.hovered?.classList.remove("hover");
    map.hovered = token === null ? undefined : map.words[token];
    map.hovered?.classList.add("hover");
  }

  show(map, state, scale) {
    map.words.forEach((word, token) => {
      const colour = this.viridis.of(state[token], scale);
      word.style.background = `rgb(${colour})`;
      word.style.color = inkOn(colour);
    });
  }

  /** Scrolls to a token that a key led to. */
  reveal(map, token) {
    map.words[token].scrollIntoView({ block: "nearest" });
  }
}

/** Width in pixels of a column that has room for its word, written upwards. */
const LABELLED_COLUMN = 15;

/** Shows distributions as rows of cells, one for each token, with the methods of PatchView. */
class RowView {
  constructor(tokens, viridis) {
    Object.assign(this, { tokens, viridis, count: tokens.all.length });
  }

  build(map, starts) {
    map.append(element("canvas"));
    addMarks(map, starts);
  }

  /** Adds the words of the columns if there is room, otherwise the numbers of some of the tokens. */
  label(strip) {
    const row = element("li", { className: "axis" });
    const axis = element("div");
    row.setAttribute("aria-hidden", "true");
    row.append(element("span"), axis, element("span"));
    strip.append(row);
    new ResizeObserver(([{ contentRect }]) => {
      const words = contentRect.width / this.count >= LABELLED_COLUMN;
      const distance = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500].find((each) => (each * contentRect.width) / this.count >= 30) ?? 1000;
      const ticks = [];
      for (let token = 0; token < this.count; token += words ? 1 : distance) {
        const tick = element("span", { className: words ? "upright" : "", textContent: words ? this.short(token) : token });
        tick.style.left = `${(100 * (token + 0.5)) / this.count}%`;
        ticks.push(tick);
      }
      axis.replaceChildren(...ticks);
      axis.style.height = words ? `${Math.max(...ticks.map((tick) => tick.offsetHeight)) + 4}px` : "";
    }).observe(axis);
  }

  short(token) {
    const { kind, name, piece } = this.tokens.all[token];
    if (kind === "padding") return "·";
    const text = kind === "text" ? inText(piece, true).shown : name;
    return text.length > 14 ? `${text.slice(0, 13)}…` : text;
  }

  tokenAt(map, event) {
    const box = map.querySelector("canvas").getBoundingClientRect();
    const token = Math.floor(((event.clientX - box.left) / box.width) * this.count);
    return token >= 0 && token < this.count ? token : null;
  }

  cover(mark, token) {
    mark.style.left = `${(100 * token) / this.count}%`;
    mark.style.width = `${100 / this.count}%`;
  }

  markStart(map, starts) {
    placeMarks(map, starts, (mark, token) => this.cover(mark, token));
  }

  markHover(map, token) {
    const mark = map.querySelector(".mark.hover");
    mark.hidden = token === null;
    if (token !== null) this.cover(mark, token);
  }

  show(map, state, scale) {
    const canvas = map.querySelector("canvas");
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    const context = canvas.getContext("2d");
    const edge = (token) => Math.round((token * canvas.width) / this.count);
    // A gap between columns where there is room.
    const gap = canvas.width / this.count >= 6 * ratio ? Math.round(ratio) : 0;
    for (let token = 0; token < this.count; token += 1) {
      context.fillStyle = `rgb(${this.viridis.of(state[token], scale)})`;
      context.fillRect(edge(token), 0, edge(token + 1) - edge(token) - gap, canvas.height);
    }
    describe(canvas, this.tokens, state);
  }
}
