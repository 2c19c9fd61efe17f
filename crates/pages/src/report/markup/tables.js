// Tables with column heads that are buttons for sorting.

/** Returns the sort key of a cell: its number with all digits, otherwise its text. */
function sortingValue(cell) {
  if (!cell) return null;
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return text === "" || text === "–" ? null : text;
}

const words = new Intl.Collator("en", { numeric: true });

/** Compares two values for sorting; missing values come last in both directions. */
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b : words.compare(String(a), String(b));
  return direction * order;
}

/** Turns the text of a column head into a button. */
function headButton(head, pressed) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", pressed);
  return button;
}

/** Marks the column head that the rows are sorted by. */
function showSorted(heads, sorted, direction) {
  for (const head of heads) {
    if (head === sorted) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  let sorted = null;
  let direction = 1;
  for (const head of heads) {
    if (head.tagName !== "TH") continue;
    headButton(head, () => {
      direction = sorted === head ? -direction : 1;
      sorted = head;
      const at = head.cellIndex;
      const rows = [...body.rows].map((row, place) => ({ row, place, value: sortingValue(row.cells[at]) }));
      rows.sort((a, b) => compare(a.value, b.value, direction) || a.place - b.place);
      body.append(...rows.map(({ row }) => row));
      showSorted(heads, head, direction);
    });
  }
}
