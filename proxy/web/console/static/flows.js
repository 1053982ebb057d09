// What a page offers beside looking: text to copy, filters that keep a name, text that is not lost, a log that is followed.
// As app.js: no inline script, nothing evaluated, and without it the pages still show everything.
"use strict";

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const say = (text) => { const line = document.querySelector("#announce"); if (line) line.textContent = text; };

  // Copying. Outside of https and localhost a browser has no clipboard for us: then the text is selected, and copied so.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "unseen";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const what = button.dataset.copy;
    const text = what === "link" ? new URL(button.dataset.link, location.href).href : document.querySelector(what).textContent;
    const name = button.dataset.name ?? (button.dataset.name = button.textContent);
    const done = await copy(text);
    button.textContent = done ? "Copied" : "Select it and copy";
    say(done ? "Copied." : "It could not be copied: select it.");
    setTimeout(() => { button.textContent = name; }, 2000);
  });
  const offer = () => { for (const hidden of all("[data-copy][hidden]")) hidden.hidden = false; };
  document.addEventListener("htmx:afterSettle", offer);
  offer();

  // Filters under a name of the reader's: kept in this browser, as addresses that mean the same anywhere.
  const KEY = "ratchet-filters";
  function saved() {
    try {
      const found = JSON.parse(localStorage.getItem(KEY) || "[]");
      return Array.isArray(found) ? found.filter((one) => typeof one.name === "string" && /^\/records(\?|$)/.test(one.url)) : [];
    } catch { return []; }
  }
  function keep(filters) {
    try { localStorage.setItem(KEY, JSON.stringify(filters)); return true; } catch { return false; }
  }
  function show() {
    for (const list of all("[data-saved]")) {
      const filters = saved();
      list.hidden = !filters.length;
      list.replaceChildren(...filters.map(({ name, url }) => {
        const item = document.createElement("li"), link = document.createElement("a"), forget = document.createElement("button");
        link.href = url;
        link.textContent = name;
        forget.type = "button";
        forget.className = "quiet";
        forget.textContent = "✕";
        forget.setAttribute("aria-label", `Forget the filter ${name}`);
        forget.addEventListener("click", () => {
          keep(saved().filter((one) => one.name !== name));
          show();
          say(`The filter ${name} is forgotten.`);
        });
        item.append(link, forget);
        return item;
      }));
    }
  }
  for (const form of all("[data-save]")) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const name = form.elements.name.value.trim();
      if (!name) return;
      const done = keep([...saved().filter((one) => one.name !== name), { name, url: form.dataset.save }]);
      say(done ? `The filter ${name} is saved in this browser.` : "This browser lets nothing be saved: copy the link.");
      form.reset();
      show();
    });
  }
  show();

  // What is typed and not sent yet is kept in this tab: a session may end over a long correction, and logging in is
  // another page. It goes when it is sent, with the dialog that is closed, and when somebody logs out.
  const DRAFT = "ratchet-draft:";
  const drafts = (form) => all("[data-draft]", form);
  function place({ form, name }) {
    const verb = form.elements.verb?.value;
    return `${DRAFT}${form.getAttribute("action")}${verb ? `?${verb}` : ""}#${name}`;
  }
  function put(field, text) {
    try {
      if (text) sessionStorage.setItem(place(field), text);
      else sessionStorage.removeItem(place(field));
    } catch { /* blocked, or full: as without this */ }
  }
  function giveBack(form) {
    let found = false;
    for (const field of drafts(form)) {
      let text = null;
      try { text = sessionStorage.getItem(place(field)); } catch { /* blocked */ }
      if (!text || text === field.value || field.disabled) continue;
      field.value = text;
      found = true;
      if (field.closest("details")) field.closest("details").open = true;
    }
    return found;
  }
  document.addEventListener("input", ({ target }) => {
    if (target.matches("[data-draft]")) put(target, target.value === target.defaultValue ? "" : target.value);
  });
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (detail.xhr.status < 200 || detail.xhr.status > 299) return; // `successful` are refusals, too, that are shown
    if (detail.pathInfo?.requestPath === "/logout") {
      for (const key of Object.keys(sessionStorage)) if (key.startsWith(DRAFT)) sessionStorage.removeItem(key);
    }
    const sent = detail.requestConfig?.verb === "post" && detail.requestConfig.formData;
    if (!sent || !detail.elt.matches("form")) return;
    for (const field of drafts(detail.elt)) {
      if (field.dataset.draft && sent.get("act") !== field.dataset.draft) continue;
      if (field.value !== sent.get(field.name)) continue; // something was typed since
      put(field, "");
      if (field.dataset.draft && field.name !== "correction") field.value = ""; // a correction stands; a comment is said
    }
  });
  const order = document.querySelector("#command");
  const reopened = () => { if (order?.open) giveBack(order.querySelector("form")); };
  document.addEventListener("click", (event) => { if (event.target.closest("[data-verb]")) reopened(); });
  order?.addEventListener("close", () => { for (const field of drafts(order)) put(field, ""); });
  reopened();
  let found = false;
  for (const form of all("form:not(#command form)")) found = giveBack(form) || found;
  const told = found && document.querySelector("#vote-answer");
  if (told) told.textContent = "What you had written and not sent is here again.";

  // A log that grows: what came since is added at its end, while somebody looks, until the run has ended.
  const MOST_CHARS = 500_000;
  const asking = new WeakSet();
  async function follow(box) {
    if (asking.has(box)) return;
    asking.add(box);
    try {
      const answer = await fetch(`${box.dataset.log}?from=${box.dataset.next}`, { headers: { "x-ratchet-csrf": "1" } });
      if (!answer.ok) return;
      const { text, next, gap, there, ended } = await answer.json();
      const pre = box.querySelector("pre"), state = box.querySelector("[data-log-state]");
      if (next < Number(box.dataset.next)) pre.textContent = `… the log has begun anew\n${text}`;
      else if (gap && text) pre.textContent = `… lines that are not shown: the log is longer\n${text}`;
      else if (text) pre.append(text);
      if (pre.textContent.length > MOST_CHARS) {
        const kept = pre.textContent.slice(-MOST_CHARS / 2);
        pre.textContent = `… earlier lines\n${kept.slice(kept.indexOf("\n") + 1)}`;
      }
      box.dataset.next = next;
      if (text && box.querySelector("[data-follow]")?.checked) pre.scrollTop = pre.scrollHeight;
      if (ended && !text) {
        delete box.dataset.log;
        state.textContent = "The run has ended: this is all of it.";
      } else if (there) state.textContent = "It grows while the training runs.";
    } catch { /* asked again at the next tick */ } finally { asking.delete(box); }
  }
  document.body.addEventListener("tick", () => { for (const box of all("[data-log]")) follow(box); });
  // a page that renews itself moves the log, and a browser forgets then how far it was scrolled
  const isFollowed = (pre) => pre.parentElement.querySelector("[data-follow]")?.checked;
  const tops = new Map();
  document.addEventListener("htmx:beforeSwap", () => { for (const pre of all("[data-log] pre")) tops.set(pre, pre.scrollTop); });
  function settle() {
    for (const pre of all("[data-log] pre")) {
      if (isFollowed(pre)) pre.scrollTop = pre.scrollHeight;
      else if (tops.has(pre)) pre.scrollTop = tops.get(pre);
    }
    tops.clear();
  }
  document.addEventListener("htmx:afterSettle", settle);
  settle();
})();
