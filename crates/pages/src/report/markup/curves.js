// Curves: shows the values at a fraction of removed tokens, and highlights one line.

function makeCurves(box) {
  const charts = [...box.querySelectorAll("svg.chart")].map((chart) => ({
    chart,
    cursor: chart.querySelector(".cursor"),
    places: chart.dataset.x.split(" ").map(Number),
  }));
  const slider = box.querySelector(".at input");
  const at = box.querySelector("[data-at]");
  const entries = [...box.querySelectorAll(".legend li")];
  const fractions = [...box.querySelector("details table").tHead.rows[0].cells].slice(1);
  const values = entries.map((entry) =>
    [...entry.querySelectorAll(".value")].map((span) => ({ span, values: (span.dataset.values ?? "").split(" ") })),
  );

  const show = (step) => {
    slider.value = step;
    const fraction = fractions[step]?.textContent ?? "";
    at.textContent = `${fraction} % removed`;
    slider.setAttribute("aria-valuetext", `${fraction} % of the tokens removed`);
    for (const { cursor, places } of charts) {
      cursor.setAttribute("x1", places[step]);
      cursor.setAttribute("x2", places[step]);
      cursor.setAttribute("visibility", "visible");
    }
    for (const entry of values) for (const { span, values } of entry) span.textContent = values[step] ?? "–";
  };

  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const { chart, places } of charts) {
    chart.addEventListener("pointermove", (event) => {
      const frame = chart.getBoundingClientRect();
      const x = ((event.clientX - frame.left) / frame.width) * chart.viewBox.baseVal.width;
      const gaps = places.map((place) => Math.abs(place - x));
      show(gaps.indexOf(Math.min(...gaps)));
    });
  }

  const light = (series) => {
    if (series === null) delete box.dataset.lit;
    else box.dataset.lit = series;
    for (const line of box.querySelectorAll(".series")) line.classList.toggle("lit", line.dataset.series === series);
  };
  for (const element of [...entries, ...box.querySelectorAll(".series")]) {
    const { series } = element.dataset;
    element.addEventListener("pointerenter", () => light(series));
    element.addEventListener("pointerleave", () => light(null));
  }
  // Not on the lines: an SVG element with a focus listener becomes a tab stop without a name.
  for (const entry of entries) {
    entry.addEventListener("focus", () => light(entry.dataset.series));
    entry.addEventListener("blur", () => light(null));
  }
  show(Math.floor((fractions.length - 1) / 2));
}
