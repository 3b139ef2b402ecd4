"use strict";
(() => {
  const refused = () => Promise.reject(new Error("this page loads nothing"));
  const loader = { load: refused, sanitize: refused, http: refused, file: refused };
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");

  function show(_handler, event, _item, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    tip.textContent = String(value);
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 12, window.innerWidth - box.width - 8);
    const y = event.clientY + 16 + box.height > window.innerHeight ? event.clientY - box.height - 10 : event.clientY + 16;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${y}px`;
  }

  function pick(figure, value) {
    const select = figure?.querySelector("select");
    if (!select || ![...select.options].some((option) => option.value === value)) return;
    select.value = value;
    figure.view.signal("shown", value).runAsync();
  }

  async function draw(figure) {
    const place = figure.querySelector(".drawing");
    try {
      const spec = JSON.parse(figure.querySelector("script").textContent);
      const options = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, tooltip: show, loader };
      const { view } = await vegaEmbed(place, spec, options);
      figure.view = view;
      figure.querySelector("select")?.addEventListener("change", (event) => pick(figure, event.target.value));
      const driven = figure.dataset.drives;
      if (driven) view.addEventListener("click", (_event, item) => pick(document.getElementById(driven), item?.datum?.pick));
      figure.dataset.drawn = "yes";
    } catch (error) {
      place.textContent = place.getAttribute("aria-label");
      console.error(error);
    }
  }

  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
  document.querySelectorAll("figure.chart").forEach(draw);
})();
