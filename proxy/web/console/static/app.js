// What the pages do by themselves: refresh while somebody looks, commands with a reason, themes, keys, relative times.
// No framework but htmx, no inline script, nothing evaluated: see the Content-Security-Policy in page.py.
"use strict";

(() => {
  const TICK_MS = 2000, QUICK_MS = 500;
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Times. The server writes UTC; the reader's own time of day, and how long ago that is, only the browser knows.
  function ago(seconds) {
    const s = Math.abs(seconds);
    const [n, unit] = s < 90 ? [s, "s"] : s < 5400 ? [s / 60, "min"] : s < 172800 ? [s / 3600, "h"] : [s / 86400, "days"];
    return seconds < 0 ? `in ${Math.round(n)} ${unit}` : `${Math.round(n)} ${unit} ago`;
  }
  const two = (n) => String(n).padStart(2, "0");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "your time zone";
  function tellTimes() {
    for (const time of all("time")) {
      const at = new Date(time.dateTime), known = !Number.isNaN(at.valueOf());
      if (!known) continue;
      const utc = at.toISOString().slice(0, 19).replace("T", " "), beside = [];
      if (at.getTimezoneOffset()) {
        const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
        const local = `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
        if (time.textContent !== local) time.textContent = local;
        time.title = `${local} in ${zone}, ${utc} UTC`;
        beside.push(`${utc.slice(0, 10) === day ? utc.slice(11) : utc.slice(5)} UTC`);
      }
      if (!time.closest("figure")) beside.push(ago((Date.now() - at) / 1000));
      if (time.dataset.beside !== beside.join(", ")) time.dataset.beside = beside.join(", ");
    }
  }
  if (new Date().getTimezoneOffset() && $("#zone")) $("#zone").textContent = `times in ${zone}, UTC beside them`;
  document.addEventListener("times", () => { tellTimes(); reachable(); });

  // Refresh: one event that live regions listen to, only while the tab is in view.
  const state = $("#live-state");
  let failedSince = null;
  function told(ok) {
    if (!state) return;
    failedSince = ok ? null : failedSince ?? Date.now();
    state.textContent = ok ? "live" : `no answer for ${Math.round((Date.now() - failedSince) / 1000)} s`;
    state.classList.toggle("lost", !ok);
  }
  const send = (name) => document.body.dispatchEvent(new CustomEvent(name));
  let leaving = false; // while logging out: what is asked now would only be refused
  const watched = () => !document.hidden && !leaving;
  setInterval(() => { if (watched()) { send("tick"); tellTimes(); } }, TICK_MS);
  setInterval(() => { if (watched() && $("[data-command=pending]")) send("quick"); }, QUICK_MS);
  document.addEventListener("visibilitychange", () => { if (watched()) send("tick"); });
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.pathInfo?.requestPath !== "/logout") return;
    leaving = true;
    $("#live")?.dispatchEvent(new CustomEvent("htmx:abort"));
  });

  let phase = $("#phase")?.dataset.phase;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (target.hasAttribute("data-swap-errors")) {
      event.detail.shouldSwap = xhr.status !== 204;
      event.detail.isError = false;
      if (!(xhr.getResponseHeader("content-type") || "").includes("html")) {
        target.textContent = `Not done: the answer was ${xhr.status}.`;
        event.detail.shouldSwap = false;
      }
    } else if (target.id === "command-situation") {
      const asked = event.detail.pathInfo.requestPath; // another order may have been opened since
      event.detail.shouldSwap &&= asked.endsWith(`/${dialog.querySelector("form").elements.verb.value}`);
    } else if (target.id === "live" && event.detail.shouldSwap) {
      // the same text again would only cost the reader's selection and focus
      const edition = xhr.getResponseHeader("x-ratchet-edition");
      event.detail.shouldSwap = target.dataset.edition !== edition;
      target.dataset.edition = edition;
    }
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const { xhr, target } = event.detail;
    if (xhr.status === 401 && state && !leaving) location.reload(); // the session has ended: to the log-in page
    if (event.detail.pathInfo?.requestPath === "/logout" && !event.detail.successful) leaving = false;
    if (target.id === "live") told(xhr.status > 0 && xhr.status < 500);
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) document.addEventListener(name, ({ detail }) => {
    if (detail.elt.matches("[data-counts]")) $(".found", detail.elt).textContent = "Not counted: no answer came.";
    const form = detail.elt.closest("form"), answer = form && ($("[data-swap-errors]", form.closest(".rowvote") ?? form) || $("#vote-answer"));
    if (answer) answer.textContent = "No answer came, so it may not be done: see whether it was, before you do it again.";
  });
  document.addEventListener("htmx:afterSwap", () => { // before it is painted
    // forms at once, not when they have settled: one that is sent before would go the browser's way, to another page
    for (const form of all("form[hx-post]")) htmx.process(form);
    tellTimes();
    reachable();
  });
  document.addEventListener("htmx:afterSettle", () => {
    const chip = $("#phase");
    if (chip && chip.dataset.phase !== phase) {
      phase = chip.dataset.phase;
      $("#announce").textContent = `The phase is now ${phase}.`;
    }
    if ($("[data-command=done]")) send("tick");
  });

  // Tables that are wider than their card become lists: each cell with the name of its column before it. What still is
  // wider (charts' numbers) a keyboard can scroll, and a screen reader knows what it is.
  function labelled(table) {
    if (table.dataset.labelled) return;
    table.dataset.labelled = "yes";
    const names = all("thead th", table).map((th) => [...th.childNodes].filter((node) => !node.classList?.contains("what")).map((node) => node.textContent).join("").trim());
    for (const row of all("tbody tr", table)) {
      let column = 0;
      for (const cell of row.cells) {
        const whole = cell.colSpan >= names.length;
        if (cell.tagName === "TD" && !whole && names[column]) cell.dataset.label = names[column];
        column += cell.colSpan;
      }
    }
  }
  function reachable() {
    for (const turn of all(".talk li")) {
      if (turn.scrollHeight > turn.clientHeight + 1) turn.tabIndex = 0; // a long answer: keys scroll it, too
      else turn.removeAttribute("tabindex");
    }
    for (const box of all(".scroll")) {
      const table = $("table", box);
      if (table?.tHead && !box.closest("figure")) {
        labelled(table);
        table.classList.remove("stacked");
        table.classList.toggle("stacked", innerWidth <= 640 || box.scrollWidth > box.clientWidth + 1);
      }
      box.classList.toggle("cut", box.scrollWidth > box.clientWidth + 1);
      const wide = box.scrollWidth > box.clientWidth && !$("a, button, input, summary", box);
      if (wide) {
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", $("caption", box)?.textContent || "Table");
      } else for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
  }
  addEventListener("resize", reachable);
  document.addEventListener("toggle", reachable, true);

  // Orders: one dialog for all of them; the reason is required, who asked is remembered here.
  const dialog = $("#command");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-verb]");
    if (button && dialog) openOrder(button);
    else if (event.target.closest("[data-close]")) dialog.close();
  });
  let opener = null;
  function openOrder(button) {
    const { verb, name, about, run } = button.dataset;
    opener = button;
    const form = $("form", dialog);
    $("#command-title").textContent = name;
    $("#command-about").textContent = about;
    $("#command-answer").replaceChildren();
    $("#command-situation").replaceChildren();
    htmx.ajax("GET", `/actions/about/${verb}`, { target: "#command-situation", swap: "innerHTML" });
    form.elements.verb.value = verb;
    form.elements.run.value = run ?? "";
    form.elements.why.value = "";
    form.elements.who.value = recall("ratchet-who");
    for (const part of all("[data-only]", form)) {
      part.hidden = part.dataset.only !== verb;
      for (const input of all("input, textarea", part)) {
        input.disabled = part.hidden;
        input.required = !part.hidden && !("optional" in input.dataset);
        if (input.type === "password") input.value = "";
        if (input.type === "checkbox") input.checked = false; // keys go only where it was said for this order
      }
    }
    $(".submit", form).textContent = name;
    dialog.showModal();
    // under a finger a field would bring the keyboard up, over the very words that are to be read first
    if (matchMedia("(pointer: coarse)").matches) $("#command-title").focus();
    else (form.elements[{ share: "share", challenge: "url" }[verb]] ?? form.elements.why).focus();
    dialog.scrollTop = 0;
  }
  dialog?.addEventListener("close", () => {
    // back to the button, which the page may have made anew since; a browser knows only the old one, and none that a
    // finger has pressed. Where the order has taken it away: to the beginning of what is shown.
    const again = (opener?.id && document.getElementById(opener.id)) || opener;
    (again?.isConnected && again.checkVisibility() ? again : $("#main")).focus();
  });
  dialog?.addEventListener("submit", (event) => remember("ratchet-who", event.target.elements.who.value));

  // What a word means: beside the "?" that was pressed; where there is no room, at the foot of the page.
  document.addEventListener("toggle", (event) => {
    const note = event.target, asked = event.newState === "open" && note.matches?.(".meaning") && $(`[popovertarget="${note.id}"]:focus, [popovertarget="${note.id}"]:hover`);
    if (!asked || innerWidth <= 640) return;
    const at = asked.getBoundingClientRect(), { width, height } = note.getBoundingClientRect();
    const below = at.bottom + 6 + height < innerHeight;
    note.style.inset = `${below ? at.bottom + 6 : Math.max(6, at.top - height - 6)}px auto auto ${Math.max(6, Math.min(at.left - 12, innerWidth - width - 12))}px`;
  }, true);

  // Themes.
  $("#theme")?.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember("ratchet-theme", root.dataset.theme);
    document.dispatchEvent(new Event("themechange"));
  });

  function recall(name) { try { return localStorage.getItem(name) || ""; } catch { return ""; } }
  function remember(name, value) { try { localStorage.setItem(name, value); } catch { /* blocked: asked again */ } }

  // Keys: j and k through the rows of a table.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !["j", "k"].includes(event.key)) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    const links = all("table[data-keys] tbody tr").map((row) => $("a", row)).filter(Boolean);
    const at = links.indexOf(document.activeElement);
    const next = links[event.key === "j" ? Math.min(at + 1, links.length - 1) : Math.max(at - 1, 0)];
    next?.focus();
  });

  // A vote in a row of a list: its keys, where the focus goes if what was pressed is no longer there, and a word of it.
  const VOTES = { "+": "up", "=": "up", "-": "down", u: "undo" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input, textarea, select, dialog")) return;
    const button = VOTES[event.key] && $(`.thumbs button[value=${VOTES[event.key]}]`, event.target.closest("tr") ?? document.createElement("p"));
    if (!button) return;
    event.preventDefault();
    button.click();
  });
  document.addEventListener("htmx:afterSettle", ({ detail: { target } }) => {
    const row = target.matches(".rowvote") && $("[data-say]", target);
    if (!row) return;
    $("#announce").textContent = row.dataset.say;
    if (document.activeElement === document.body && target.dataset.pressed) $("button", row)?.focus();
    delete target.dataset.pressed;
  });
  document.addEventListener("htmx:beforeSwap", ({ detail: { target } }) => {
    if (target.matches(".rowvote") && target.contains(document.activeElement)) target.dataset.pressed = "yes";
  });

  // Keys of their own: a button or a link with data-key is pressed by it, wherever the focus is but in a field.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    const found = all("[data-key]").find((one) => one.dataset.key.split(" ").includes(event.key));
    if (!found || found.disabled) return;
    event.preventDefault();
    found.click();
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const said = event.detail.target.id === "live" && $("[data-announce]", event.detail.target);
    if (said) $("#announce").textContent = said.dataset.announce;
  });

  // A name that is asked for on several pages is remembered here.
  for (const field of all("[data-recall]")) {
    if (!field.value) field.value = recall(field.dataset.recall);
    field.form?.addEventListener("submit", () => remember(field.dataset.recall, field.value));
  }

  tellTimes();
  reachable();
})();
