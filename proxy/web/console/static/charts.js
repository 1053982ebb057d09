// Charts: <figure data-src data-chart> becomes a uPlot with a sentence below and the same numbers as a table.
// Figures with the same source share one request; nothing is fetched while the tab is hidden.
"use strict";

(() => {
  const drawn = new Map(); // figure → { plot, data }
  const $ = (selector, root) => root.querySelector(selector);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const thin = "\u202f";

  function seconds(v) {
    if (v === 0) return "0 s";
    if (v < 0.001) return `${+(v * 1e6).toPrecision(3)} µs`;
    if (v < 1) return `${+(v * 1e3).toPrecision(3)} ms`;
    return `${+v.toPrecision(3)} s`;
  }
  function count(v) {
    return v >= 10000 ? `${+(v / 1000).toPrecision(4)}${thin}k` : `${+v.toPrecision(4)}`;
  }
  const signed = (v) => `${v > 0 ? "+" : ""}${(100 * v).toFixed(1)} %`.replace("-", "−");
  const FORMATS = {
    share: (v) => `${+(100 * v).toFixed(2)} %`, change: signed, seconds, count, score: (v) => v.toFixed(3),
  };
  const coarse = (v) => `${v > 0 ? "+" : ""}${Math.round(100 * v)} %`.replace("-", "−");
  const format = (unit, v) => (v === null || v === undefined ? "–" : FORMATS[unit](v));

  // Along an axis: no decimals that are all zero.
  function along(unit, at) {
    const whole = unit === "change" && at.length > 1 && at[1] - at[0] >= 0.0099;
    return at.map((v) => (v === null ? "" : whole ? coarse(v) : format(unit, v)));
  }

  function two(n) { return String(n).padStart(2, "0"); }
  function clock(at, span) {
    const d = new Date(at * 1000), time = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
    if (span < 600) return `${time}:${two(d.getUTCSeconds())}`;
    const day = `${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
    return span > 3 * 86400 ? day : span > 86400 ? `${day} ${time}` : time;
  }

  function line(series, unit) {
    const look = {
      champion: { stroke: css("--champion"), width: 2 },
      challenger: { stroke: css("--challenger"), width: 2, dash: [6, 3] },
      control: { stroke: css("--control"), width: 2, dash: [2, 3] },
      estimate: { stroke: css("--challenger"), width: 2 },
      bound: { stroke: css("--band-edge"), width: 1 },
    }[series.role];
    const points = series.values.filter((v) => v !== null).length < 3 ? { show: true, size: 6 } : { show: false };
    return { label: series.label, value: (_, v) => format(unit, v), spanGaps: false, points, ...look };
  }

  // Horizontal marks (no difference, threshold), with their names at the right end.
  function marks(data) {
    return (u) => {
      const { ctx } = u, ratio = devicePixelRatio;
      ctx.save();
      ctx.font = `${11 * ratio}px system-ui`;
      ctx.fillStyle = ctx.strokeStyle = css("--muted");
      ctx.setLineDash([3 * ratio, 3 * ratio]);
      ctx.textAlign = "right";
      for (const mark of data.lines) {
        const y = Math.round(u.valToPos(mark.value, "y", true));
        if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) continue;
        ctx.beginPath();
        ctx.moveTo(u.bbox.left, y);
        ctx.lineTo(u.bbox.left + u.bbox.width, y);
        ctx.stroke();
        ctx.fillText(mark.label, u.bbox.left + u.bbox.width - 4 * ratio, mark.value > 0 ? y - 4 * ratio : y + 13 * ratio);
      }
      ctx.restore();
    };
  }

  function yRange(data) {
    return (_, low, high) => {
      if (low === null) return [0, 1];
      const values = data.lines.map((mark) => mark.value);
      if (data.unit === "share" || data.unit === "score") return [0, data.unit === "score" ? 1 : Math.min(1, Math.max(high * 1.1, 0.05))];
      if (data.unit !== "change") return [0, high > 0 ? high * 1.1 : 1];
      // the first looks know next to nothing: what is known now decides the scale, and they may leave it
      const now = data.series.map((s) => s.values.findLast((v) => v !== null)).filter((v) => v !== undefined);
      const most = 2.5 * Math.max(...now.map(Math.abs), ...values.map(Math.abs), 0.01);
      const [a, b] = [Math.max(Math.min(low, ...values), -most), Math.min(Math.max(high, ...values), most)];
      const pad = (b - a) * 0.08 || 0.1;
      return [a - pad, b + pad];
    };
  }

  // One instant alone has no extent: a minute around it.
  const xRange = (_, low, high) => (low !== null && low === high ? [low - 30, high + 30] : [low, high]);

  function options(box, data) {
    const span = data.x.length ? data.x[data.x.length - 1] - data.x[0] : 0;
    const axis = { stroke: css("--muted"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1 }, font: "11px system-ui" };
    const bounds = data.series.map((s, i) => (s.role === "bound" ? i + 1 : 0)).filter(Boolean);
    return {
      width: Math.max(box.clientWidth, 200), height: box.closest("figure").id === "chart-lift" ? 280 : 180,
      cursor: { drag: { x: false, y: false }, sync: { key: box.closest("figure").dataset.src } },
      scales: { x: { time: true, range: xRange }, y: { range: yRange(data) } },
      axes: [
        { ...axis, space: 70, size: 32, values: (_, at) => at.map((t) => clock(t, span)) },
        { ...axis, size: 66, values: (_, at) => along(data.unit, at) },
      ],
      series: [{ label: "UTC", value: (_, t) => (t === null ? "–" : clock(t, Math.min(span, 86401))) }, ...data.series.map((s) => line(s, data.unit))],
      bands: bounds.length === 2 ? [{ series: bounds, fill: css("--band") }] : [],
      hooks: { draw: [marks(data)] },
    };
  }

  function draw(figure, data) {
    const box = $(".plot", figure), known = drawn.get(figure);
    const columns = [data.x, ...data.series.map((s) => s.values)];
    const shape = JSON.stringify([data.unit, data.lines, data.series.map((s) => s.label)]);
    $("figcaption", figure).textContent = data.series.length ? data.summary : `Nothing to draw yet. ${data.summary}`;
    box.setAttribute("aria-label", `${$("h3", figure).textContent}. ${data.summary} The numbers are in the table below.`);
    figure.classList.toggle("empty", !data.series.length);
    if (known && known.shape === shape && !known.stale && data.x.length) {
      known.plot.setData(columns);
    } else {
      known?.plot.destroy();
      box.replaceChildren();
      drawn.set(figure, { plot: new uPlot(options(box, data), columns, box), shape });
    }
    drawn.get(figure).data = data;
    if ($("details", figure).open) tabulate(figure);
  }

  // The newest rows as a table, for those who read rather than look.
  function tabulate(figure) {
    const { data } = drawn.get(figure) || {};
    if (!data) return;
    const table = document.createElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    const cell = (row, text, tag = "td") => {
      const made = document.createElement(tag);
      made.textContent = text;
      if (tag === "th") made.scope = "col";
      row.append(made);
    };
    table.createCaption().textContent = `${$("h3", figure).textContent}, newest first`;
    for (const label of ["UTC", ...data.series.map((s) => s.label)]) cell(head, label, "th");
    for (let i = data.x.length - 1, rows = 0; i >= 0 && rows < 60; i -= 1) {
      if (data.series.every((s) => s.values[i] === null)) continue;
      const row = body.insertRow();
      rows += 1;
      cell(row, new Date(data.x[i] * 1000).toISOString().slice(0, 19).replace("T", " "));
      for (const s of data.series) cell(row, format(data.unit, s.values[i]));
    }
    $("details .scroll", figure).replaceChildren(table);
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
    for (const [figure, { plot }] of drawn) if (!figure.isConnected) { plot.destroy(); drawn.delete(figure); }
  }

  function redraw() {
    for (const [figure, known] of drawn) { known.stale = true; draw(figure, known.data); }
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
