// Keys, the token of writes, and times in the viewer's zone. Everything else is in the pages: a key presses a button that is there.
"use strict";
(() => {
  const all = (query, from = document) => Array.from(from.querySelectorAll(query));
  const one = (query, from = document) => from.querySelector(query);

  // Writes carry the token of the session, which only pages of this server know.
  const token = one("meta[name=csrf]");
  document.addEventListener("htmx:configRequest", (event) => {
    if (token) event.detail.headers["X-CSRF-Token"] = token.content;
  });

  // What went wrong is said in the words of the server, and stays until the next key.
  const notice = one("#notice");
  const say = (text) => {
    notice.replaceChildren();
    if (text) notice.append(Object.assign(document.createElement("p"), { textContent: text }));
  };
  document.addEventListener("htmx:responseError", (event) => {
    const parsed = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
    say(parsed.body.textContent.trim() || `The server answered ${event.detail.xhr.status}.`);
    // An answer to what was tried before would stand beside the error as if it were about this.
    if (event.detail.target.id.endsWith("-answer")) event.detail.target.replaceChildren();
    const item = event.detail.elt.closest("[data-item]");
    if (item) item.classList.remove("sent");
  });
  document.addEventListener("htmx:sendError", () => say("The server cannot be reached. Nothing was written."));

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const format = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  const localise = (from) => {
    for (const time of all("time[datetime]:not([data-local])", from)) {
      time.title = time.textContent;
      time.textContent = format.format(new Date(time.dateTime)).replace(",", "");
      time.dataset.local = "";
    }
  };
  // On a narrow screen a row is a block, whose cells say what they are.
  const label = (from) => {
    for (const table of all(".scroll > table:not(.matrix, .usual, .labelled)", from)) {
      const titles = all(":scope > thead th", table).map((each) => (one(".hidden", each) ? "" : each.textContent.trim()));
      for (const cell of all(":scope > tbody > tr > *", table)) cell.dataset.label = titles[cell.cellIndex] || "";
      table.classList.add("labelled");
    }
  };
  // A telephone shows the queue before its filters, and the entry of the navigation that one is at.
  if (matchMedia("(max-width: 900px)").matches) for (const each of all("[data-fold]")) each.open = false;
  one(".top nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  for (const place of all("[data-zone]")) place.textContent = zone.replaceAll("_", " ");
  localise(document);
  label(document);

  // One item of a list is active: the keys are about it.
  const items = () => all("[data-item]");
  const active = () => one("[data-item].active");
  // The form of answers is in the active case only: fifty of them would be a third of the page.
  const offerAnswer = (item) => {
    const template = one("#answer-form");
    const place = one(".more", item);
    if (!template || !place || one("form.answer", place)) return;
    for (const other of all("form.answer")) if (!other.closest(".sent")) other.remove();
    const form = template.content.firstElementChild.cloneNode(true);
    form.elements.flags.value = item.dataset.flags;
    form.elements.entity.value = (one(".whom bdi", item) || {}).textContent || "";
    if (item.hasAttribute("data-mine")) {
      one('[data-key="c"] span', form).textContent = "Give back";
      one('[data-key="c"]', form).setAttribute("hx-vals", '{"release": "yes"}');
    }
    place.append(form);
    htmx.process(form);
  };
  const activate = (item, focus = true) => {
    if (!item) return;
    for (const other of all("[data-item].active")) if (other !== item) other.classList.remove("active");
    item.classList.add("active");
    offerAnswer(item);
    if (focus) item.focus({ preventScroll: true });
    item.scrollIntoView({ block: "nearest" });
  };
  const isOpen = (item) => !item.hasAttribute("data-answered") && !item.classList.contains("sent");
  const step = (by, wanted = () => true) => {
    const listed = items();
    const at = listed.indexOf(active());
    for (let place = at + by; place >= 0 && place < listed.length; place += by) {
      if (wanted(listed[place])) return activate(listed[place]), true;
    }
    return false;
  };
  const onward = () => {
    if (step(1, isOpen)) return;
    const first = items().find(isOpen);
    if (first) return activate(first);
    pending.reload = Boolean(one("[data-list][data-reload], ol[data-list]"));
  };
  const pending = { reload: false, sent: 0, bulk: false };

  // What is answered moves aside at once; the server's word takes its place when it comes.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const item = event.detail.elt.closest("[data-item]");
    if (item && event.detail.pathInfo.requestPath === "/verdicts" && one("[data-list]")) {
      pending.sent += 1;
      item.classList.add("sent");
      if (item === active()) onward();
    }
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.pathInfo && event.detail.pathInfo.requestPath === "/verdicts") {
      pending.sent = Math.max(0, pending.sent - 1);
      if (pending.reload && pending.sent === 0 && !one("[data-refused]")) location.assign(location.pathname + location.search.replace(/[?&]cursor=[^&]*/, ""));
    }
  });
  const answered = [];
  document.addEventListener("htmx:afterSwap", (event) => {
    localise(document);
    label(document);
    const dialog = one("#bulk-dialog");
    if (dialog && event.detail.target === dialog) {
      if (!dialog.open) dialog.showModal();
      const focus = one("[autofocus]", dialog) || one("button", dialog);
      if (focus) focus.focus();
    }
  });
  document.addEventListener("htmx:load", (event) => {
    const item = event.detail.elt;
    for (const picture of all(".picture", item)) picture.scrollLeft = (picture.scrollWidth - picture.clientWidth) / 2;
    localise(item);
    if (!item.matches || !item.matches("[data-item]")) return;
    if (item.hasAttribute("data-answered")) {
      if (item.hasAttribute("data-refused")) say("Not everything was written: see the marked line.");
      else answered.push(item);
      if (!active()) activate(item);
    } else if (!active() || item.id === pending.back) {
      activate(item);
      pending.back = "";
    }
  });

  const list = one("[data-list]");
  if (list) {
    const order = items().map((item) => item.dataset.open).filter(Boolean);
    if (list.tagName === "OL") sessionStorage.setItem("queue", JSON.stringify(order));
    activate(items()[0], document.activeElement === document.body);
  }
  document.addEventListener("click", (event) => {
    const item = event.target.closest("[data-item]");
    if (item && item !== active()) activate(item, false);
    if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
    if (event.target.closest("[data-select-page]")) selectPage();
    const every = event.target.closest("[data-select-all]");
    if (every) sendBulk("", every.dataset.selectAll);
  });

  // Selection, and one answer for all of it.
  const boxes = () => all('li.case input[type="checkbox"]');
  const chosen = () => boxes().filter((box) => box.checked);
  const showSelected = () => {
    const place = one("#selected");
    const count = chosen().length;
    if (place) place.textContent = count ? `${count} selected: f, g or o answers all` : "";
  };
  const selectPage = () => {
    const every = boxes().every((box) => box.checked);
    for (const box of boxes()) box.checked = !every;
    showSelected();
  };
  document.addEventListener("change", (event) => event.target.matches('li.case input[type="checkbox"]') && showSelected());
  const sendBulk = (verdict, address) => {
    const form = one("#bulk");
    if (!form || pending.bulk) return;
    form.elements.verdict.value = verdict;
    form.elements.flags.value = address ? "" : JSON.stringify(chosen().flatMap((box) => JSON.parse(box.closest("li").dataset.flags)));
    const query = address ? new URL(address, location).search : location.search;
    pending.bulk = true; // until the dialog is there a key would answer the active case
    const free = () => { pending.bulk = false; };
    htmx.ajax("POST", `/bulk${query}`, { source: form, target: "#bulk-dialog", swap: "innerHTML", values: { flags: form.elements.flags.value, verdict } }).then(free, free);
  };

  // Neighbours of a flag's page in the queue it was opened from.
  const neighbour = (by) => {
    const order = JSON.parse(sessionStorage.getItem("queue") || "[]");
    const at = order.indexOf(location.pathname);
    const next = at < 0 ? undefined : order[at + by];
    location.assign(next || "/queue");
  };

  const press = (key, from) => {
    const button = all(`[data-key="${key}"]`, from).find((each) => each.checkVisibility());
    if (button) button.click();
    return Boolean(button);
  };
  const VERDICTS = { f: "fraud", g: "genuine", o: "no_opinion" };
  const keys = {
    j: () => (list ? step(1) || follow("[data-next]") : neighbour(1)),
    k: () => (list ? step(-1) : neighbour(-1)),
    Enter: () => { if (list && active()) location.assign(active().dataset.open); else if (!list && one("[data-answered]")) neighbour(1); },
    s: () => {
      const item = active();
      if (!item || !list || !isOpen(item)) return;
      onward();
      item.classList.add("snoozed");
      item.classList.remove("active");
      item.parentElement.append(item);
    },
    x: () => active() && press("x", active()),
    c: () => { const item = active() || document; pending.back = active() ? active().id : ""; press("c", item); },
    n: () => { const field = one('[data-key="n"]', active() || document); if (field) field.focus(); },
    u: () => {
      const dialog = one("dialog[open]");
      if (dialog) return press("u", dialog);
      while (answered.length && !answered[answered.length - 1].isConnected) answered.pop();
      const item = answered.pop();
      if (item) { for (const other of all("[data-item].active")) other.classList.remove("active"); press("u", item); }
      else press("u", one("[data-answered]") || document);
    },
    "/": () => one("#jump").focus(),
    "?": () => one("#keys").showModal(),
  };
  const follow = (query) => { const link = one(query); if (link) location.assign(link.href); return Boolean(link); };
  const inField = (target) => target.matches("input:not([type=checkbox],[type=radio]),textarea,select");
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (inField(event.target)) {
      const isNote = event.target.dataset.key === "n";
      if (event.key === "Escape" || (event.key === "Enter" && isNote)) {
        event.preventDefault();
        const item = event.target.closest("[data-item]");
        if (item) item.focus({ preventScroll: true }); else event.target.blur();
      }
      return;
    }
    if (pending.bulk) return event.preventDefault();
    if (one("dialog[open]") && event.key !== "u") return;
    say("");
    if (event.key in VERDICTS) {
      event.preventDefault();
      if (chosen().length) sendBulk(VERDICTS[event.key]);
      else press(event.key, active() || document);
    } else if (event.key in keys && !(event.key === "Enter" && event.target.closest("a,button,summary"))) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".jump")) one("#jump-answer")?.replaceChildren();
  });
  document.addEventListener("close", (event) => {
    if (event.target.id === "bulk-dialog" && one("[data-done]", event.target)) location.reload();
  }, true);
})();
