// Charts: <figure data-src data-chart> becomes a uPlot with a legend, a sentence, and the same numbers as a table.
// Figures with the same source share one request; nothing is fetched while the tab is hidden.
"use strict";

(() => {
  const drawn = new Map(); // figure → { plot, data, shape }
  const $ = (selector, root) => root.querySelector(selector);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const known = (v) => v !== null && v !== undefined;

  // Numbers, as policies/wording.py writes them; a test compares the two.
  const commas = (text) => text.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const fixed = (v, digits) => {
    const [whole, rest] = v.toFixed(digits).split(".");
    return commas(whole) + (rest ? `.${rest}` : "");
  };
  const many = (v) => (Math.round(v) === 0 && v !== 0 ? (v > 0 ? "<1" : ">−1") : fixed(Math.round(v), 0).replace("-", "−"));
  function percent(part) {
    const value = 100 * part, apart = Math.min(Math.abs(value), Math.abs(100 - value));
    if (apart === 0) return `${value.toFixed(0)} %`;
    const digits = apart >= 1 ? 1 : apart >= 0.1 ? 2 : 3;
    let text = fixed(value, digits);
    if (digits > 1) text = text.replace(/0+$/, "").replace(/\.$/, ".0");
    if (!/[1-9]/.test(text)) return "<0.001 %";
    return value < 100 && text.startsWith("100") ? ">99.999 %" : `${text} %`.replace("-", "−");
  }
  function seconds(v) {
    if (v >= 172800) return `${fixed(v / 86400, 1)} days`;
    if (v >= 7200) return `${(v / 3600).toFixed(1)} h`;
    if (v >= 120) return `${(v / 60).toFixed(0)} min`;
    if (v <= 0) return "0 s";
    const [at, unit] = v < 0.0009995 ? [v * 1e6, "µs"] : v < 0.9995 ? [v * 1e3, "ms"] : [v, "s"];
    return `${at >= 99.95 ? at.toFixed(0) : +at.toPrecision(3)} ${unit}`;
  }
  function signed(change) {
    if (!change) return "0 %";
    const value = 100 * change, apart = Math.abs(value), digits = apart >= 1 ? 1 : apart >= 0.1 ? 2 : 3;
    let text = fixed(value, digits);
    if (digits > 1) text = text.replace(/0+$/, "").replace(/\.$/, ".0");
    if (!/[1-9]/.test(text)) return value > 0 ? "<+0.001 %" : ">−0.001 %";
    return `${value > 0 ? "+" : ""}${text} %`.replace("-", "−");
  }
  const score = (v) => (v && !/[1-9]/.test(v.toFixed(3)) ? (v > 0 ? "<0.001" : ">−0.001") : v.toFixed(3).replace("-", "−"));
  const count = (v) => (v >= 100 ? many(v) : `${+v.toPrecision(3)}`);
  const FORMATS = { share: percent, change: signed, seconds, count, score };
  const format = (unit, v) => (known(v) ? FORMATS[unit](v) : "–");

  // Along an axis: round numbers, without decimals that are all zero.
  function along(unit, at) {
    const bare = (v) => commas(`${+v.toPrecision(6)}`), sign = (v) => (v > 0 ? "+" : "");
    const words = {
      share: (v) => `${bare(100 * v)} %`, change: (v) => `${sign(v)}${bare(100 * v)} %`.replace("-", "−"), score: bare,
    }[unit] ?? FORMATS[unit];
    return at.map((v) => (known(v) ? words(v) : ""));
  }

  // The reader's own time of day, which uPlot's ticks lie on as well.
  const two = (n) => String(n).padStart(2, "0");
  function clock(at, span) {
    const d = new Date(at * 1000), time = `${two(d.getHours())}:${two(d.getMinutes())}`;
    if (span < 900) return `${time}:${two(d.getSeconds())}`;
    const day = `${two(d.getMonth() + 1)}-${two(d.getDate())}`;
    return span > 3 * 86400 ? day : span > 86400 ? `${day} ${time}` : time;
  }
  const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";

  const LOOKS = {
    champion: { color: "--champion", width: 2 },
    challenger: { color: "--challenger", width: 2, dash: [6, 3] },
    control: { color: "--control", width: 2, dash: [2, 3] },
    estimate: { color: "--challenger", width: 2 },
    bound: { color: "--band-edge", width: 1 },
  };
  // A value between two gaps would be no line: it is a dot.
  function alone(values) {
    const at = [];
    for (let i = 0; i < values.length; i += 1) if (known(values[i]) && !known(values[i - 1]) && !known(values[i + 1])) at.push(i);
    return at;
  }
  function line(series) {
    const { color, ...look } = LOOKS[series.role];
    const points = { show: true, size: 6, fill: css(color), filter: (u, i) => alone(u.data[i]) };
    return { label: series.label, spanGaps: false, stroke: css(color), points, ...look };
  }

  // Horizontal marks (no difference, threshold), with their names at the right end.
  function marks(held) {
    return (u) => {
      const { ctx } = u, ratio = devicePixelRatio;
      ctx.save();
      ctx.font = `${11 * ratio}px system-ui`;
      ctx.fillStyle = ctx.strokeStyle = css("--muted");
      ctx.setLineDash([3 * ratio, 3 * ratio]);
      ctx.textAlign = "right";
      for (const mark of held.data.lines) {
        const y = Math.round(u.valToPos(mark.value, "y", true));
        if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) continue;
        ctx.beginPath();
        ctx.moveTo(u.bbox.left, y);
        ctx.lineTo(u.bbox.left + u.bbox.width, y);
        ctx.stroke();
        // with a seam around it: lines that pass below would strike it out
        const right = u.bbox.left + u.bbox.width - 4 * ratio, foot = mark.value > 0 ? y - 4 * ratio : y + 13 * ratio;
        ctx.save();
        ctx.setLineDash([]);
        ctx.strokeStyle = css("--card");
        ctx.lineWidth = 4 * ratio;
        ctx.lineJoin = "round";
        ctx.strokeText(mark.label, right, foot);
        ctx.restore();
        ctx.fillText(mark.label, right, foot);
      }
      ctx.restore();
    };
  }

  const LEAST = { share: 0.01, seconds: 0.01, count: 1 };
  function yRange({ data }, low, high) {
    if (!known(low)) return [0, 1];
    if (data.unit === "score") return [0, 1];
    if (data.unit === "share") return [0, Math.min(1, Math.max(high * 1.1, LEAST.share))];
    if (data.unit !== "change") return [0, Math.max(high * 1.1, LEAST[data.unit])];
    // the first looks know next to nothing: what is known now decides the scale, and they may leave it
    const values = data.lines.map((mark) => mark.value);
    const now = data.series.map((s) => s.values.findLast(known)).filter(known);
    const most = 2.5 * Math.max(...now.map(Math.abs), ...values.map(Math.abs), 0.01);
    const [a, b] = [Math.max(Math.min(low, ...values), -most), Math.min(Math.max(high, ...values), most)];
    const pad = (b - a) * 0.08 || 0.1;
    return [Math.max(a - pad, -1), b + pad];
  }

  // A single instant has no extent, and a test of seconds next to none: some steps, or ten minutes, around it.
  function xRange({ data }) {
    if (!data.x.length) return [0, 1];
    const [first, last] = [data.x[0], data.x[data.x.length - 1]];
    const lacking = Math.max(0, Math.max(600, 6 * data.step) - (last - first)) / 2;
    return [first - lacking, last + lacking];
  }

  function options(box, held) {
    const { data } = held, [from, to] = xRange(held);
    const axis = { stroke: css("--muted"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1 }, font: "11px system-ui" };
    const bounds = data.series.map((s, i) => (s.role === "bound" ? i + 1 : 0)).filter(Boolean);
    return {
      width: Math.max(box.clientWidth, 200), height: box.closest("figure").id === "chart-lift" ? 280 : 180,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, sync: { key: box.closest("figure").dataset.src } },
      scales: { x: { time: true, range: () => xRange(held) }, y: { range: (_, low, high) => yRange(held, low, high) } },
      axes: [
        { ...axis, space: 70, size: 32, values: (_, at) => at.map((t) => clock(t, to - from)) },
        { ...axis, size: 66, values: (_, at) => along(data.unit, at) },
      ],
      series: [{}, ...data.series.map(line)],
      bands: bounds.length === 2 ? [{ series: bounds, fill: css("--band") }] : [],
      hooks: { draw: [marks(held)], setCursor: [(u) => tell(box.closest("figure"), u.cursor.idx)] },
    };
  }

  // The legend: how each line looks, its latest value or that under the pointer, and what that rests on.
  function swatch({ role }) {
    const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), drawing = document.createElementNS(ns, "line");
    const { color, width, dash } = LOOKS[role];
    for (const [name, value] of Object.entries({ width: 26, height: 10, "aria-hidden": true })) svg.setAttribute(name, value);
    for (const [name, value] of Object.entries({ x1: 0, x2: 26, y1: 5, y2: 5, stroke: css(color), "stroke-width": width + 1, "stroke-dasharray": (dash ?? []).join(" ") })) drawing.setAttribute(name, value);
    svg.append(drawing);
    return svg;
  }
  const resting = (s, i) => (known(s.n[i]) ? `n = ${many(s.n[i])}` : "");
  function overall(s, unit) { // of a share or a mean: all of it together
    if (unit !== "share" && unit !== "score") return "";
    let [sum, n] = [0, 0];
    s.values.forEach((v, i) => { if (known(v) && s.n[i]) { sum += v * s.n[i]; n += s.n[i]; } });
    return n ? ` · in all ${format(unit, sum / n)} (n = ${many(n)} ${s.of})` : "";
  }
  function legend(figure, data) {
    const list = $(".legend", figure);
    list.replaceChildren();
    for (const s of data.series) {
      const row = document.createElement("li"), name = document.createElement("span"), value = document.createElement("span");
      name.className = "label";
      name.textContent = s.label;
      value.className = "value";
      row.append(swatch(s), name, value);
      list.append(row);
    }
    tell(figure, null);
  }
  function tell(figure, at) {
    const { data } = drawn.get(figure) || {};
    if (!data) return;
    const under = known(at) && at < data.x.length ? at : null;
    data.series.forEach((s, row) => {
      const i = under ?? s.values.findLastIndex(known), value = $(`.legend li:nth-child(${row + 1}) .value`, figure);
      if (!value) return;
      const n = resting(s, i);
      const text = s.values.some(known)
        ? `${format(data.unit, s.values[i])}${n && ` (${n})`}${under === null ? overall(s, data.unit) : ""}` : "nothing in this time";
      if (value.textContent !== text) value.textContent = text;
    });
    const span = data.x.length ? data.x[data.x.length - 1] - data.x[0] : 0;
    $(".axes .when", figure).textContent = under === null ? `times in ${zone()}` : `at ${clock(data.x[under], Math.min(span, 86401))}`;
  }

  function draw(figure, data) {
    const box = $(".plot", figure), before = drawn.get(figure);
    const columns = [data.x, ...data.series.map((s) => s.values)];
    const shape = JSON.stringify([data.unit, data.lines, data.series.map((s) => s.label)]);
    const empty = !data.series.some((s) => s.values.some(known));
    $("figcaption", figure).textContent = empty ? `Nothing to draw yet. ${data.summary}` : data.summary;
    $(".axes .unit", figure).textContent = data.axis;
    figure.classList.toggle("empty", empty);
    if (before && before.shape === shape && !before.stale && !empty && before.plot) {
      before.data = data;
      before.plot.setData(columns);
    } else {
      before?.plot?.destroy();
      box.replaceChildren();
      const held = { data, shape, plot: null };
      drawn.set(figure, held);
      if (!empty) held.plot = new uPlot(options(box, held), columns, box);
      legend(figure, data);
    }
    tell(figure, null);
    const said = data.series.map((s) => `${s.label} ${format(data.unit, s.values.findLast(known))}`).join(", ");
    box.setAttribute("aria-label", `${$("h3", figure).textContent}. ${data.summary} Latest: ${said}. The numbers are in the table below.`);
    if ($("details", figure).open) tabulate(figure);
  }

  // The newest rows as a table, for those who read rather than look.
  function tabulate(figure) {
    const { data } = drawn.get(figure) || {};
    if (!data) return;
    const table = document.createElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    const cell = (row, content, tag = "td") => {
      const made = document.createElement(tag);
      made.append(content);
      if (tag === "th") made.scope = "col";
      row.append(made);
    };
    table.createCaption().textContent = `${$("h3", figure).textContent}: ${data.axis}, newest first`;
    for (const label of ["Time", ...data.series.map((s) => s.label)]) cell(head, label, "th");
    for (let i = data.x.length - 1, rows = 0; i >= 0 && rows < 60; i -= 1) {
      if (!data.series.some((s) => known(s.values[i]))) continue;
      const row = body.insertRow(), time = document.createElement("time"), iso = new Date(data.x[i] * 1000).toISOString();
      rows += 1;
      time.dateTime = iso;
      time.textContent = `${iso.slice(0, 19).replace("T", " ")} UTC`;
      cell(row, time);
      for (const s of data.series) {
        const n = resting(s, i);
        cell(row, `${format(data.unit, s.values[i])}${known(s.values[i]) && n ? ` (${n})` : ""}`);
      }
    }
    $("details .scroll", figure).replaceChildren(table);
    document.dispatchEvent(new Event("times"));
  }

  const busy = new Set();
  async function load(src, figures) {
    if (busy.has(src)) return;
    busy.add(src);
    try {
      const answer = await fetch(src, { headers: { accept: "application/json" } });
      if (!answer.ok) return; // the page itself says that it has no answer
      const charts = await answer.json();
      for (const figure of figures) if (figure.isConnected) draw(figure, charts[figure.dataset.chart]);
    } catch { /* the controller is away: the next tick asks again */ } finally {
      busy.delete(src);
    }
  }

  let ticks = 0;
  function refresh() {
    const sources = new Map();
    for (const figure of document.querySelectorAll("figure[data-src]")) {
      if (drawn.has(figure) && ticks % Number(figure.dataset.every)) continue;
      const { src } = figure.dataset;
      sources.set(src, [...(sources.get(src) || []), figure]);
    }
    ticks += 1;
    for (const [src, figures] of sources) load(src, figures);
    for (const [figure, { plot }] of drawn) if (!figure.isConnected) { plot?.destroy(); drawn.delete(figure); }
  }

  function redraw() {
    for (const [figure, before] of drawn) { before.stale = true; draw(figure, before.data); }
  }
  document.body.addEventListener("tick", refresh);
  document.addEventListener("toggle", (event) => {
    const figure = event.target.closest?.("figure[data-src]");
    if (figure && event.target.open) tabulate(figure);
  }, true);
  document.addEventListener("themechange", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
  refresh();
})();
