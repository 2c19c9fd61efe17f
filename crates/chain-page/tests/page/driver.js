// Acts on the page like a reader, and writes a report of the results into the document.
(async () => {
  const settled = () => new Promise((done) => setTimeout(done, 50));
  while (document.documentElement.dataset.ready === undefined) await settled();
  const $ = (id) => document.getElementById(id);
  const canvas = (what) => document.querySelector(`.map[data-show="${what}"] canvas`);
  const steps = [];
  const look = async (what) => {
    await settled();
    steps.push({
      what,
      current: window.tokenrank.current(),
      hash: location.hash,
      chain: $("chain").textContent,
      large: canvas("chosen").toDataURL(),
      first: canvas("1").toDataURL(),
      steady: canvas("inf").toDataURL(),
      start: document.querySelector(".mark.start").style.cssText,
      reason: $("head-reason").textContent,
      headDisabled: $("head").disabled,
      top: [...document.querySelectorAll(`.top[data-show="inf"] span:first-child`)].map((span) => span.textContent),
    });
  };
  const change = (id, value) => {
    $(id).value = value;
    $(id).dispatchEvent(new Event("change", { bubbles: true }));
  };
  const clickAt = (map, x, y) => {
    const box = map.getBoundingClientRect();
    const at = { clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true };
    map.dispatchEvent(new PointerEvent("pointermove", at));
    map.dispatchEvent(new MouseEvent("click", at));
  };

  await look("opened");
  // 7 columns; 1.5 rows above the 5 rows of the image: the middle of row 3, column 5.
  clickAt(canvas("picture"), 5.5 / 7, (1.5 + 3.5) / 6.5);
  const tip = $("tip").textContent;
  await look("clicked");
  change("layer", "0");
  await look("layer");
  const head = document.querySelector('#lambda button[data-layer="1"][data-head="1"]');
  head.click();
  await look("head");
  document.querySelector('input[name="direction"][value="backward"]').click();
  await look("backward");
  document.querySelector('.map[data-show="picture"]').dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true }));
  await look("arrow");
  document.querySelectorAll("#other-tokens button")[1].click();
  await look("register");
  document.querySelector('.bounce[data-bounce="3"]').click();
  document.querySelector('input[name="scale"][value="maximum"]').click();
  await look("third bounce");
  change("layer", "mean");
  await look("mean of layers");
  location.hash = "layer=block.0&head=1&direction=forward&token=7&bounce=inf&scale=percentile&opacity=40&smooth=1";
  await look("linked");
  location.hash = "layer=none&head=9&direction=up&token=999&bounce=0&scale=x&opacity=-1&smooth=2";
  await look("nonsense");

  const report = element("pre", { id: "report" });
  const seen = JSON.stringify({ steps, tip, errors: window.failures, enabled: !head.disabled });
  // Base64 of UTF-8, so that nothing in it is mark-up.
  report.textContent = btoa(Array.from(new TextEncoder().encode(seen), (byte) => String.fromCharCode(byte)).join(""));
  document.body.append(report);
})();
