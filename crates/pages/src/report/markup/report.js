// The page: copies text and starts the other scripts.

function say(text) {
  document.getElementById("said").textContent = text;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // If the page may not use the clipboard, copy the selection.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function copyButton(text, label) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "copy", textContent: "copy", ariaLabel: label });
  button.dataset.copy = text;
  return button;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  await copy(button.dataset.copy);
  button.focus();
  button.textContent = "done";
  say("Copied");
  setTimeout(() => ((button.textContent = "copy"), say("")), 1500);
});

document.querySelectorAll("table[data-sortable]").forEach(makeSortable);
document.querySelectorAll("[data-curves]").forEach(makeCurves);
const itemTables = [...document.querySelectorAll("[data-items]")].filter((box) => box.querySelector("script")).map((box) => new Items(box));
document.documentElement.dataset.ready = itemTables.length;
