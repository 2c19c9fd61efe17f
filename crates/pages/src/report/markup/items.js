// The items of a run: sorts, filters and shows them one page at a time.

/** Number of best or worst items that a quick filter shows. */
const AT_AN_END = 50;

class Items {
  constructor(box) {
    this.box = box;
    this.data = JSON.parse(box.querySelector("script").textContent);
    this.table = box.querySelector("table.drill");
    this.body = this.table.tBodies[0];
    this.heads = [...this.table.tHead.querySelectorAll("[data-sort]")];
    this.count = this.data.ids.length;
    this.failed = new Map(this.data.failed);
    this.flagged = this.data.flagged?.[1] ?? [];
    this.names = this.data.ids.map((id) => id.toLocaleLowerCase());
    this.images = new Map(this.data.thumbnails.map(([item, uri, width, height]) => [item, { uri, width, height }]));
    for (const [item, width, height] of this.data.drawn) {
      const uri = this.body.querySelector(`tr[data-item="${item}"] img`).getAttribute("src");
      this.images.set(item, { uri, width, height });
    }
    this.withImages = this.images.size > 0;
    this.open = new Set();
    this.state = { score: 0, method: this.data.lead, minus: null, show: "all", filter: "", page: 0, size: this.data.shown };
    this.byKey();
    this.listen();
    this.draw();
  }

  listen() {
    const { box, state } = this;
    const find = (name) => box.querySelector(`[data-${name}]`);
    const changed = (element, then) => element?.addEventListener("change", () => (then(element.value), this.again()));
    changed(find("score"), (value) => ((state.score = Number(value)), this.byKey()));
    changed(find("method"), (value) => ((state.method = Number(value)), this.byKey()));
    changed(find("minus"), (value) => ((state.minus = value === "" ? null : Number(value)), this.byKey()));
    changed(find("size"), (value) => (state.size = Number(value)));
    find("filter").addEventListener("input", (event) => {
      state.filter = event.target.value.trim().toLocaleLowerCase();
      this.again();
    });
    for (const choice of box.querySelectorAll(".bar input[type=radio]")) {
      choice.addEventListener("change", () => ((state.show = choice.value), this.byKey(), this.again()));
    }
    for (const button of box.querySelectorAll("[data-go]")) {
      button.addEventListener("click", () => ((state.page += Number(button.dataset.go)), this.draw()));
    }
    for (const head of this.heads) {
      headButton(head, () => {
        const { sort } = head.dataset;
        const direction = state.sort === sort ? -state.direction : this.firstDirection(sort);
        Object.assign(state, { sort, direction });
        this.again();
      });
    }
  }

  get score() {
    return this.data.scores[this.state.score];
  }

  /** Returns the number by which items are worst: the score of the method, or the method minus another. */
  key(item) {
    const { method, minus } = this.state;
    const value = this.score.values[method][item];
    if (minus === null || value === null) return value;
    const other = this.score.values[minus][item];
    return other === null ? null : value - other;
  }

  /** Returns the direction in which the worst items come first; for scores that are neither good nor bad, the largest. */
  get worstFirst() {
    return this.score.better > 0 ? 1 : -1;
  }

  firstDirection(sort) {
    return sort.startsWith("method-") || sort === "difference" ? this.worstFirst : 1;
  }

  /** Sorts by the chosen method or difference. */
  byKey() {
    const { state } = this;
    state.sort = state.minus === null ? `method-${state.method}` : "difference";
    state.direction = state.show === "best" ? -this.worstFirst : this.worstFirst;
  }

  again() {
    this.state.page = 0;
    this.draw();
  }

  /** Returns the sort key of an item. */
  value(item) {
    const [kind, place] = this.state.sort.split("-");
    if (kind === "id") return this.data.ids[item];
    if (kind === "line") return this.data.lines[item];
    if (kind === "fact") return this.data.facts[place].values[item] || null;
    if (kind === "difference") return this.key(item);
    return this.score.values[place][item];
  }

  /** Returns the items that pass the filters, in order. */
  chosen() {
    const { show, filter, direction } = this.state;
    let items = [];
    if (show === "failed") items = [...this.failed.keys()];
    else if (show === "flagged") items = [...this.flagged];
    else for (let item = 0; item < this.count; item += 1) items.push(item);
    if (show === "worst" || show === "best") {
      const order = show === "worst" ? this.worstFirst : -this.worstFirst;
      const keys = items.map((item) => this.key(item));
      items = items.filter((item) => keys[item] !== null);
      items.sort((a, b) => order * (keys[a] - keys[b]) || a - b);
      items = items.slice(0, AT_AN_END);
    }
    if (filter) items = items.filter((item) => this.names[item].includes(filter));
    const values = new Map(items.map((item) => [item, this.value(item)]));
    return items.sort((a, b) => compare(values.get(a), values.get(b), direction) || a - b);
  }

  draw() {
    const { state } = this;
    const items = this.chosen();
    const pages = Math.max(1, Math.ceil(items.length / state.size));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const first = state.page * state.size;
    const shown = items.slice(first, first + state.size);
    const rows = shown.flatMap((item) => (this.open.has(item) ? [this.row(item), this.more(item)] : [this.row(item)]));
    this.body.replaceChildren(...(rows.length ? rows : [this.nothing()]));

    const head = (sort) => this.heads.find((head) => head.dataset.sort === sort);
    head("difference").hidden = state.minus === null;
    showSorted(this.heads, head(state.sort), state.direction);
    const end = first + shown.length;
    const all = this.data.all.toLocaleString("en");
    const of = items.length === this.data.all ? "" : `, of ${all} in all`;
    this.box.querySelector("[data-range]").textContent = items.length
      ? `${(first + 1).toLocaleString("en")}–${end.toLocaleString("en")} of ${items.length.toLocaleString("en")}${of}`
      : `0 of ${all}`;
    const [back, on] = this.box.querySelectorAll("[data-go]");
    const held = document.activeElement;
    back.disabled = state.page === 0;
    on.disabled = state.page === pages - 1;
    // If the focused button becomes disabled, the focus moves to the other one.
    if (held === back && back.disabled) on.focus();
    if (held === on && on.disabled) back.focus();
    this.box.querySelector("[data-meaning]").textContent = this.score.meaning;
  }

  columns() {
    return Number(this.withImages) + 2 + this.data.facts.length + this.data.methods.length + Number(this.state.minus !== null);
  }

  nothing() {
    const row = document.createElement("tr");
    const cell = row.insertCell();
    cell.colSpan = this.columns();
    cell.className = "nothing";
    cell.textContent = "No item matches.";
    return row;
  }

  text(value, sign = false) {
    if (value === null) return "–";
    const text = number(value, this.score);
    return sign && value > 0 ? `+${text}` : text;
  }

  image(item) {
    const { uri, width, height } = this.images.get(item);
    const image = document.createElement("img");
    Object.assign(image, { width, height, alt: "", src: uri });
    return image;
  }

  record(item) {
    const link = document.createElement("a");
    link.href = this.data.records;
    link.textContent = `line ${this.data.lines[item]}`;
    return link;
  }

  row(item) {
    const { data, state } = this;
    const row = document.createElement("tr");
    row.dataset.item = item;
    const cell = (text, name = "") => {
      const cell = row.insertCell();
      cell.textContent = text;
      if (name) cell.className = name;
      return cell;
    };
    if (this.withImages) {
      const holder = cell("", "thumb");
      if (this.images.has(item)) holder.append(this.image(item));
    }
    const head = document.createElement("th");
    head.scope = "row";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = data.ids[item];
    button.setAttribute("aria-expanded", this.open.has(item));
    button.addEventListener("click", () => this.toggle(item, row, button));
    head.append(button);
    if (this.failed.has(item)) {
      const reason = document.createElement("small");
      reason.textContent = this.failed.get(item);
      head.append(reason);
    }
    row.append(head);
    for (const fact of data.facts) cell(fact.values[item], "text");
    if (state.minus !== null) cell(this.text(this.key(item), true), "key");
    this.score.values.forEach((values, method) =>
      cell(this.text(values[item]), method === state.method && state.minus === null ? "key" : ""),
    );
    cell("").append(this.record(item));
    return row;
  }

  toggle(item, row, button) {
    if (this.open.delete(item)) row.nextElementSibling.remove();
    else {
      this.open.add(item);
      row.after(this.more(item));
    }
    button.setAttribute("aria-expanded", this.open.has(item));
  }

  /** Returns a row with all details of an item. */
  more(item) {
    const { data } = this;
    const row = document.createElement("tr");
    row.className = "more";
    const cell = row.insertCell();
    cell.colSpan = this.columns();
    const inside = document.createElement("div");
    inside.className = "inside";
    cell.append(inside);
    if (this.images.has(item)) inside.append(this.image(item));
    if (!this.failed.has(item)) inside.append(this.scores(item));
    const links = document.createElement("p");
    links.className = "words";
    const command = `sed -n ${data.lines[item]}p records.jsonl`;
    links.append("Record: ", this.record(item), " of records.jsonl (", code(command), " ", copyButton(command, "Copy the command"), ")");
    data.folders.forEach((folder, method) => {
      const link = document.createElement("a");
      link.href = `${folder}/${encodeURIComponent(data.ids[item])}.png`;
      link.textContent = data.methods[method];
      links.append(method ? ", " : ". Images: ", link);
    });
    inside.append(links);
    return row;
  }

  scores(item) {
    const { data } = this;
    const table = document.createElement("table");
    const heads = table.createTHead().insertRow();
    const head = (row, text, scope) => {
      const head = document.createElement("th");
      Object.assign(head, { scope, textContent: text });
      row.append(head);
      return head;
    };
    head(heads, "Method", "col").className = "text";
    for (const score of data.scores) head(heads, score.title, "col");
    if (data.strips) head(heads, `${data.strips.title}, ${data.strips.steps[0]} to ${data.strips.steps.at(-1)}`, "col").className = "text";
    const body = table.createTBody();
    data.methods.forEach((name, method) => {
      const row = body.insertRow();
      head(row, name, "row");
      for (const score of data.scores) {
        const value = score.values[method][item];
        row.insertCell().textContent = value === null ? "–" : number(value, score);
      }
      if (data.strips) row.insertCell().append(strip(data.strips, method, item));
    });
    return table;
  }
}

/** Writes a number with a minus sign that is as wide as a plus. */
function number(value, { digits }) {
  return value.toFixed(digits).replace("-", "−");
}

/** Draws a mark for each step: tall and blue if the answer was right, low and orange if it was wrong. */
function strip({ steps, right }, method, item) {
  const marks = right[method][item];
  const strip = document.createElement("span");
  strip.className = "strip";
  strip.role = "img";
  const wrong = [...marks].flatMap((mark, step) => (mark === "0" ? [steps[step]] : []));
  strip.ariaLabel = wrong.length ? `wrong at ${wrong.join(", ")}` : "right at every step";
  [...marks].forEach((mark, step) => {
    const bar = document.createElement("i");
    bar.title = `${steps[step]} removed: ${mark === "1" ? "right" : "wrong"}`;
    if (mark === "1") bar.className = "right";
    strip.append(bar);
  });
  return strip;
}

function code(text) {
  const code = document.createElement("code");
  code.textContent = text;
  return code;
}
