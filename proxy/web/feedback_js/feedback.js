/* Ratchet: thumbs in every element with data-ratchet-record="<x-ratchet-record-id>".

   data-ratchet-source: who votes, to be read; data-ratchet-ask: asks this after a thumb down
   and sends the correction; data-ratchet-labels: the five texts below

   By hand: Ratchet.vote(recordId, 1 | 0 | -1 | null, {source, comment, …}), Ratchet.recordId(headers) */
(() => {
  "use strict";
  const endpoint = new URL("feedback", document.currentScript.src).href;
  const attached = new WeakMap();

  const vote = async (record, feedback, more) => {
    const body = JSON.stringify({ record_id: record, feedback, ...more });
    if (navigator.sendBeacon?.(endpoint, body)) return true;
    return fetch(endpoint, { method: "POST", body, keepalive: true }).then((answer) => answer.ok, () => false);
  };

  const make = (parent, name, attrs, text = "") => {
    const space = /svg|path/.test(name) ? "2000/svg" : "1999/xhtml";
    const made = document.createElementNS("http://www.w3.org/" + space, name);
    for (const key in attrs) made.setAttribute(key, attrs[key]);
    made.append(text);
    return parent.appendChild(made);
  };

  const attach = (host) => {
    const { ratchetRecord: record, ratchetSource: source, ratchetAsk: ask, ratchetLabels: labels } = host.dataset;
    const old = attached.get(host);
    if (old?.record === record && host.contains(old.box)) return;
    old?.box.remove();
    if (!record) return;
    const [good, bad, send, thanks, failed] = (labels || "Good answer|Bad answer|Send|Thank you|Not sent").split("|");
    const box = make(host, "span", { class: "ratchet" });
    attached.set(host, { record, box });
    let given = null;

    const tell = async (feedback, more) => {
      given = feedback;
      show("");
      const sent = await vote(record, feedback, { ...(source && { source }), ...more });
      show(!sent ? failed : feedback === null ? "" : thanks);
      return sent;
    };
    const thumbs = [[1, good, 0], [-1, bad, 180]].map(([value, label, turn]) => {
      const button = make(box, "button", { type: "button", "aria-label": label });
      const d = "M2 10h4v11h-4zM6 11l5-9c2 0 3 1 3 3l-1 4h8l1 2-3 9-2 1H6";
      make(make(button, "svg", { viewBox: "0 0 24 24", width: "1.3em" }), "path", { d, transform: `rotate(${turn} 12 12)` });
      button.onclick = () => tell(given === value ? null : value);
      return [button, value];
    });
    const form = make(box, "form");
    const field = make(make(form, "label", {}, ask), "textarea", { required: "", maxlength: 20000 });
    make(form, "button", {}, send);
    const status = make(box, "span", { role: "status" });

    const show = (text) => {
      for (const [button, value] of thumbs) button.ariaPressed = value === given;
      form.hidden = !ask || given !== -1;
      status.textContent = text;
    };
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (!field.value.trim() || !(await tell(-1, { correction: field.value }))) return;
      form.hidden = true;
      thumbs[1][0].focus();
    };
    show("");
  };

  const attachAll = (root) => {
    if (root.dataset?.ratchetRecord) attach(root);
    root.querySelectorAll?.("[data-ratchet-record]").forEach(attach);
  };

  /* Adopted: a strict CSP allows it. :where: any rule of the page wins. */
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(
    ":where(.ratchet [aria-pressed]){background:none;border:0;color:inherit;cursor:pointer}" +
    ":where(.ratchet svg){fill:none;stroke:currentColor;stroke-width:2}" +
    ":where(.ratchet [aria-pressed=true] svg){fill:currentColor}");
  document.adoptedStyleSheets.push(sheet);

  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "attributes") attach(target);
      else addedNodes.forEach(attachAll);
    }
  }).observe(document, { subtree: true, childList: true, attributeFilter: ["data-ratchet-record"] });
  attachAll(document);
  const id = "x-ratchet-record-id";
  window.Ratchet = { vote, recordId: (all) => all.get(id) ?? all.get("llm_provider-" + id) };
})();
