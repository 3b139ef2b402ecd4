"use strict";
(() => {
  const blocked = () => Promise.reject(new Error("this page loads nothing"));
  const loader = { load: blocked, sanitize: blocked, http: blocked, file: blocked };
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");

  function showTooltip(_handler, event, _item, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    tip.textContent = String(value);
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 12, window.innerWidth - box.width - 8);
    const y = event.clientY + 16 + box.height > window.innerHeight ? event.clientY - box.height - 10 : event.clientY + 16;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${y}px`;
  }

  function selectOption(figure, value) {
    const select = figure?.querySelector("select");
    if (!select || ![...select.options].some((option) => option.value === value)) return;
    select.value = value;
    figure.view.signal("selected", value).runAsync();
  }

  async function draw(figure) {
    const container = figure.querySelector(".drawing");
    try {
      const spec = JSON.parse(figure.querySelector("script").textContent);
      const options = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, tooltip: showTooltip, loader };
      const { view } = await vegaEmbed(container, spec, options);
      figure.view = view;
      figure.querySelector("select")?.addEventListener("change", (event) => selectOption(figure, event.target.value));
      const target = figure.dataset.drives;
      if (target) view.addEventListener("click", (_event, item) => selectOption(document.getElementById(target), item?.datum?.option));
      figure.dataset.rendered = "yes";
    } catch (error) {
      container.textContent = container.getAttribute("aria-label");
      console.error(error);
    }
  }

  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
  document.querySelectorAll("figure.chart").forEach(draw);
})();
