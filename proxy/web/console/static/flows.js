// What a page offers beside looking: text to copy, filters that keep a name, a log that is followed.
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
})();
