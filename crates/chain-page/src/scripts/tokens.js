// The tokens that are the states of the chains: what each is, and its name.

/** Characters that are invisible themselves, some of which change how others are shown; joiners only if they stand alone. */
const HIDDEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\u2028\u2029\u3164\uffa0]|^[\u200c\u200d]+$/gu;

/** Writes a text with a visible sign for line breaks, tabs and hidden characters. */
function visible(text) {
  const codes = (hidden) => Array.from(hidden, (c) => `\\u{${c.codePointAt(0).toString(16)}}`).join("");
  return text.replaceAll(/\r?\n/g, "↵").replaceAll("\t", "⇥").replaceAll(HIDDEN, codes);
}

/** The tokens in sequence order, from the parts of the layout. */
class Tokens {
  constructor(parts) {
    this.all = [];
    this.grid = null;
    this.reference = null;
    let index = 0;
    for (const { named, text, grid, reference } of parts) {
      for (const name of named ?? []) this.all.push({ kind: "named", name });
      for (const piece of text?.pieces ?? []) this.all.push({ kind: "text", index: index++, piece });
      for (let i = 0; i < (text?.padding ?? 0); i += 1) this.all.push({ kind: "padding", index: index++ });
      if (grid) this.grid = this.patches(grid);
      if (reference) this.reference = this.patches(reference);
    }
    /** The grids of patches: of the image, then of the reference image. */
    this.grids = [this.grid, this.reference].filter(Boolean);
    this.hasText = index > 0;
    this.others = this.all.map((_, token) => token).filter((token) => !this.isPatch(token));
  }

  /** Adds the patches of a grid, and returns the grid with its first token and the token behind its last one. */
  patches({ rows, columns }) {
    const first = this.all.length;
    for (let i = 0; i < rows * columns; i += 1) this.all.push({ kind: "patch" });
    return { rows, columns, first, end: this.all.length };
  }

  isPatch(token) {
    return this.all[token].kind === "patch";
  }

  isPadding(token) {
    return this.all[token].kind === "padding";
  }

  /** Returns the grid that a patch belongs to. */
  gridOf(token) {
    return this.grids.find(({ first, end }) => token >= first && token < end);
  }

  /** Returns row and column of a patch in its grid, counted from 0. */
  patch(token) {
    const { first, columns } = this.gridOf(token);
    return [Math.floor((token - first) / columns), (token - first) % columns];
  }

  /** Returns the name of a token. Next to patches a text token has its number in the text, elsewhere its spelling only. */
  name(token) {
    const { kind, name, index } = this.all[token];
    if (kind === "named") return name;
    if (kind === "patch") {
      const [row, column] = this.patch(token);
      return `${this.gridOf(token) === this.reference ? "reference " : ""}row ${row}, column ${column}`;
    }
    const text = this.spelling(token) || "padding";
    return this.grid ? `text ${index} ${text}` : text;
  }

  /** Returns name and number of a token. A token whose name is its number has no other. */
  title(token) {
    const name = this.name(token);
    return name === String(token) ? { name: `token ${token}`, number: "" } : { name, number: `token ${token}` };
  }

  /** Returns the name of a token in a list of words, where one word may occur several times. */
  listed(token) {
    return this.grid || this.all[token].kind === "named" ? this.name(token) : `${token} ${this.name(token)}`;
  }

  /** Returns the quoted spelling of a text token; an empty string for other tokens. */
  spelling(token) {
    const { kind, piece } = this.all[token];
    if (kind !== "text") return "";
    const blank = piece.trim() === "";
    const text = blank && !this.grid ? piece.replaceAll(" ", "␣") : piece;
    return `“${visible(blank ? text : text.replace(/^ /, ""))}”`;
  }

  /** Returns the part of a state that sets the colour scale: with text and patches, only the patches. */
  coloured(state) {
    if (!this.grid || !this.hasText) return state;
    return state.filter((_, token) => this.isPatch(token));
  }
}
