"use strict";
// Text of the model reaches the page through textContent and attributes only, never as markup.
(() => {
  const $ = id => document.getElementById(id);
  const make = (tag, cls, text, parent) => {
    const element = document.createElement(tag);
    if (cls) element.className = cls;
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const draw = (tag, attributes, parent) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  };
  const hue = group => Math.round((group * 137.508 + 211) % 360);
  const data = JSON.parse($("data").textContent);
  document.documentElement.classList.add("js");

  // ---- Tables

  const groupRows = [...document.querySelectorAll("tbody.group")];
  const rowOf = new Map(groupRows.map(body => [Number(body.dataset.group), body]));
  for (const [group, body] of rowOf) {
    body.querySelector(".dot").style.setProperty("--hue", hue(group));
    const row = body.querySelector(".row");
    const toggle = () => choose(body.classList.contains("chosen") ? null : group);
    row.addEventListener("click", toggle);
    row.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
  }

  const headers = [...document.querySelectorAll("th[data-sort]")];
  headers.forEach((th, column) => th.addEventListener("click", () => {
    const numeric = th.dataset.sort === "number";
    const first = numeric ? "descending" : "ascending";
    const order = th.ariaSort === "none" ? first : th.ariaSort === "ascending" ? "descending" : "ascending";
    for (const other of headers) other.ariaSort = other === th ? order : "none";
    const key = body => body.rows[0].cells[column].dataset.value;
    const compare = numeric
      ? (a, b) => key(a) - key(b)
      : (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
    const sign = order === "ascending" ? 1 : -1;
    const sorted = [...groupRows].sort((a, b) => sign * compare(a, b));
    th.closest("table").append(...sorted);
  }));

  $("filter").addEventListener("input", event => {
    const wanted = event.target.value.trim().toLowerCase();
    const pinned = document.querySelectorAll("#pinned tr");
    for (const row of [...groupRows, ...pinned]) {
      row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
    }
    for (const reason of document.querySelectorAll("#pinned details")) {
      reason.hidden = [...reason.querySelectorAll("tr")].every(row => row.hidden);
    }
  });

  function drawStrip(canvas, kept, units) {
    canvas.width = units;
    canvas.height = kept.length;
    const pixels = canvas.getContext("2d");
    pixels.fillStyle = getComputedStyle(document.body).getPropertyValue("--accent");
    kept.forEach((bits, line) => {
      for (let unit = 0; unit < units; unit++) {
        const digit = parseInt(bits[unit >> 2], 16);
        if (digit & (8 >> (unit & 3))) pixels.fillRect(unit, line, 1, 1);
      }
    });
    if (kept.length > 1) canvas.style.height = `${Math.min(160, Math.max(16, 5 * kept.length))}px`;
  }

  let chosen = null;
  function choose(group) {
    chosen = group;
    for (const [other, body] of rowOf) {
      const open = other === group;
      body.classList.toggle("chosen", open);
      body.querySelector(".row").ariaExpanded = open;
    }
    if (group !== null) {
      const body = rowOf.get(group);
      const strip = body.querySelector("canvas");
      const { kept, units } = data ? data.groups[group] : {};
      if (strip && kept) drawStrip(strip, kept, units);
      else if (strip) strip.hidden = true;
      body.scrollIntoView({ block: "nearest" });
    }
    if (data) showChosen();
  }

  if (!data) {
    $("bar").hidden = $("graph").style.display = "none";
    make("p", "empty", "The network is not part of a report that was read from JSON, so there is no graph.", $("view"));
    return;
  }

  // ---- What touches which group

  const [NODE, CLUSTER, PORT_IN, PORT_OUT, INPUT, OUTPUT] = [0, 1, 2, 3, 4, 5];
  const { nodes, values, axes, pins, strings, clusters } = data;
  const union = sets => new Set(sets.flatMap(set => [...set]));
  const axisGroups = axes.map(tokens => new Set(tokens.filter(t => Array.isArray(t) && t[1] >= 0).map(t => t[1])));
  const valueGroups = values.map(value => union(value[2].map(axis => axisGroups[axis])));
  const isParameter = value => values[value][3] !== "";
  const nodeGroups = nodes.map(node => union([...node.in.map(([, v]) => v), ...node.out].map(v => valueGroups[v])));
  const weightGroups = nodes.map(node => union(node.in.filter(([, v]) => values[v][3] === "parameter").map(([, v]) => valueGroups[v])));
  const parentOf = new Map(), homeOf = new Map(), members = clusters.map(() => []);
  clusters.forEach((cluster, number) => {
    for (const [kind, k] of cluster.items) {
      if (kind === NODE) { homeOf.set(k, number); members[number].push(k); }
      if (kind === CLUSTER) { parentOf.set(k, number); members[number].push(...members[k]); }
    }
  });
  const clusterGroups = members.map(inside => union(inside.map(n => nodeGroups[n])));
  const clusterWeights = members.map(inside => union(inside.map(n => weightGroups[n])));

  // ---- Text of boxes: lines of pieces [text, class, reference]

  const shortOp = op => op.split(".")[1] || op;
  const dims = value => {
    const pieces = [["["]];
    values[value][2].forEach((axis, i) => {
      if (i) pieces.push([", "]);
      for (const token of axes[axis]) pieces.push(Array.isArray(token) ? [String(token[0]), "dim", token[1]] : [token]);
    });
    return [...pieces, ["]"]];
  };
  const middle = (text, most) => text.length <= most ? text : `${text.slice(0, most / 2 - 1)}…${text.slice(1 - most / 2)}`;
  const inside = (path, cluster) => {
    const outer = clusters[cluster].path;
    return outer && path.startsWith(`${outer}.`) ? path.slice(outer.length + 1) : path;
  };

  function nodeLines(number) {
    const node = nodes[number], lines = [[[shortOp(strings[node.op]), "strong"]]];
    const weights = node.in.filter(([, v]) => values[v][3] === "parameter");
    const source = node.in.find(([, v]) => !isParameter(v));
    const module = strings[node.module];
    if (weights.length) {
      const name = inside(module, homeOf.get(number));
      if (name && name !== clusters[homeOf.get(number)].path) lines[0].push([`  ${middle(name, 28)}`, "quiet"]);
    }
    for (const [name, v] of weights.slice(0, 4)) lines.push([[`${strings[name]} `, "quiet"], ...dims(v)]);
    if (weights.length > 4) lines.push([[`and ${weights.length - 4} more`, "quiet"]]);
    const out = node.out[0];
    const same = source && out !== undefined && String(values[source[1]][2]) === String(values[out][2]);
    if (out !== undefined && (weights.length || !same)) lines.push([["→ ", "quiet"], ...dims(out)]);
    return lines;
  }
  function clusterLines(number) {
    const cluster = clusters[number], count = members[number].length;
    const lines = [[[middle(cluster.label, 34), "strong"], [`  ${count} operators`, "quiet"]]];
    const given = cluster.items.filter(([kind]) => kind === PORT_OUT).map(([, v]) => v);
    for (const v of given.slice(0, 2)) lines.push([["→ ", "quiet"], ...dims(v)]);
    if (given.length > 2) lines.push([[`and ${given.length - 2} more`, "quiet"]]);
    return lines;
  }
  const endLines = (kind, v) => [[[kind === INPUT ? "input" : "output", "strong"], [`  ${middle(values[v][0], 30)}`, "quiet"]], dims(v)];

  // ---- Layout: the rows and the order in them are given, here everything gets its place

  const LINE = 17, PAD = 9, LID = 22, GAP_X = 20, GAP_Y = 26, THIN = 10, MARGIN = 14;
  const pen = document.createElement("canvas").getContext("2d");
  const family = getComputedStyle(document.body).fontFamily;
  const widths = new Map();
  function widthOf(text, bold) {
    const key = `${bold}${text}`;
    if (!widths.has(key)) {
      pen.font = `${bold ? 600 : 400} 12px ${family}`;
      widths.set(key, pen.measureText(text).width);
    }
    return widths.get(key);
  }
  const boxes = new Map();
  function boxOf(kind, number) {
    const key = `${kind}/${number}`;
    if (!boxes.has(key)) {
      if (kind === PORT_IN || kind === PORT_OUT) boxes.set(key, { w: THIN, h: 0, lines: [] });
      else {
        const lines = kind === NODE ? nodeLines(number) : kind === CLUSTER ? clusterLines(number) : endLines(kind, number);
        const width = line => line.reduce((sum, [text, cls]) => sum + widthOf(text, cls === "strong" || cls === "dim"), 0);
        const w = Math.max(30, ...lines.map(width)) + 2 * PAD + 4;
        const chips = kind === CLUSTER && clusterWeights[number].size ? 12 : 0;
        boxes.set(key, { w: Math.ceil(w), h: lines.length * LINE + 10 + chips, lines });
      }
    }
    return boxes.get(key);
  }

  const distance = (a, b) => a.thin && b.thin ? 6 : a.thin || b.thin ? 12 : GAP_X;

  // Positions closest to the wanted ones that keep order and distance (pool adjacent violators).
  function spread(row, wanted) {
    const offsets = [0];
    for (let i = 1; i < row.length; i++) {
      offsets.push(offsets[i - 1] + (row[i].w + row[i - 1].w) / 2 + distance(row[i], row[i - 1]));
    }
    const blocks = [];
    row.forEach((entry, i) => {
      let block = { sum: (wanted[i] - offsets[i]) * entry.weight, weight: entry.weight, count: 1 };
      while (blocks.length && blocks.at(-1).sum / blocks.at(-1).weight > block.sum / block.weight) {
        const last = blocks.pop();
        block = { sum: last.sum + block.sum, weight: last.weight + block.weight, count: last.count + block.count };
      }
      blocks.push(block);
    });
    let i = 0;
    for (const block of blocks) {
      for (let k = 0; k < block.count; k++, i++) row[i].x = block.sum / block.weight + offsets[i];
    }
  }

  // Make a line through several rows of vertical pieces, as few as its neighbours allow.
  function straighten(chain, rows) {
    const room = chain.map(entry => {
      const row = rows[entry.row], i = row.indexOf(entry);
      const [left, right] = [row[i - 1], row[i + 1]];
      const gap = other => (entry.w + other.w) / 2 + distance(entry, other);
      return [left ? left.x + gap(left) : -Infinity, right ? right.x - gap(right) : Infinity];
    });
    for (let from = 0; from < chain.length;) {
      let [low, high] = room[from], to = from + 1;
      while (to < chain.length && Math.max(low, room[to][0]) <= Math.min(high, room[to][1])) {
        low = Math.max(low, room[to][0]);
        high = Math.min(high, room[to][1]);
        to++;
      }
      const part = chain.slice(from, to);
      const mean = part.reduce((sum, entry) => sum + entry.x, 0) / part.length;
      if (low <= high) for (const entry of part) entry.x = Math.min(high, Math.max(low, mean));
      from = to;
    }
  }

  const opened = new Set([data.root]);
  function arrange(number) {
    const cluster = clusters[number];
    const items = cluster.items.map(([kind, k]) => {
      const inner = kind === CLUSTER && opened.has(k) ? arrange(k) : null;
      const box = inner || boxOf(kind, k);
      return { kind, k, inner, w: box.w, h: box.h, lines: box.lines, weight: 1, up: [], down: [], thin: box.h === 0 };
    });
    const passing = cluster.edges.map(() => new Map());
    const rows = cluster.rows.map((row, r) => row.map(entry => {
      if (entry >= 0) { items[entry].row = r; return items[entry]; }
      const thin = { w: 2, h: 0, weight: 0.001, up: [], down: [], thin: true, row: r };
      passing[~entry].set(r, thin);
      return thin;
    }));
    const links = [];
    cluster.edges.forEach(([value, from, to], e) => {
      const source = items[from];
      const last = Math.max(...to.map(t => items[t].row));
      for (let r = source.row; r < last; r++) {
        const a = r === source.row ? source : passing[e].get(r);
        const next = to.map(t => items[t]).filter(t => t.row === r + 1);
        if (r + 1 < last) next.push(passing[e].get(r + 1));
        for (const b of next) {
          const link = { value, e, a, b, outX: a.inner ? a.inner.outX.get(value) - a.w / 2 : 0, inX: b.inner ? b.inner.inX.get(value) - b.w / 2 : 0 };
          a.down.push(link);
          b.up.push(link);
          links.push(link);
        }
      }
    });
    for (const row of rows) {
      let x = 0;
      for (const entry of row) { entry.x = x + entry.w / 2; x += entry.w + GAP_X; }
    }
    // A box follows boxes: if it followed passing lines too, chains with many skips would drift.
    const solid = (list, other) => list.some(l => !l[other].thin) ? list.filter(l => !l[other].thin) : list;
    const above = entry => solid(entry.up, "a").map(l => l.a.x + l.outX - l.inX);
    const below = entry => solid(entry.down, "b").map(l => l.b.x + l.inX - l.outX);
    const mean = (list, otherwise) => list.length ? list.reduce((s, n) => s + n, 0) / list.length : otherwise;
    for (let sweep = 0; sweep < 8; sweep++) {
      for (const row of rows) spread(row, row.map(e => mean(above(e), mean(below(e), e.x))));
      for (const row of [...rows].reverse()) spread(row, row.map(e => mean(sweep < 6 ? below(e) : [...above(e), ...below(e)], e.x)));
    }
    for (let round = 0; round < 3; round++) for (const chain of passing) straighten([...chain.values()], rows);
    const left = Math.min(...rows.flat().map(e => e.x - e.w / 2));
    const isRoot = number === data.root;
    const margin = isRoot ? 0 : MARGIN;
    let y = isRoot ? 0 : LID, widest = 0;
    const tops = [], bottoms = [];
    rows.forEach((row, r) => {
      const height = Math.max(...row.map(e => e.h));
      const bend = Math.max(0, ...row.flatMap(e => e.up).map(l => Math.abs(l.a.x + l.outX - l.b.x - l.inX)));
      if (r) y += Math.min(60, GAP_Y + bend / 14);
      tops.push(y);
      for (const entry of row) {
        entry.x += margin - left;
        entry.y = y + (height - entry.h) / 2;
        widest = Math.max(widest, entry.x + entry.w / 2 + margin);
      }
      y += height;
      bottoms.push(y);
    });
    const ports = kind => new Map(items.filter(i => i.kind === kind).map(i => [i.k, i.x]));
    const label = isRoot ? 0 : widthOf(clusters[number].label, true) + 60;
    const extra = Math.max(0, label - widest) / 2;
    if (extra) for (const entry of rows.flat()) entry.x += extra;
    const hasBottom = items.some(i => i.kind === PORT_OUT);
    return {
      number, items, rows, tops, bottoms, links, passing,
      w: widest + 2 * extra, h: y + (isRoot || hasBottom ? 0 : MARGIN), inX: ports(PORT_IN), outX: ports(PORT_OUT),
    };
  }

  // ---- Drawing

  const scene = $("scene"), graph = $("graph");
  let layout, places, drawn;  // places: rectangle of each box by its key; drawn: those of elements

  function writeLines(parent, lines, x, y) {
    lines.forEach((line, i) => {
      const text = draw("text", { x, y: y + i * LINE }, parent);
      for (const [content, cls, reference] of line) {
        const span = draw("tspan", {}, text);
        span.textContent = content;
        // Runs of blanks would collapse.
        if (content.startsWith("  ")) { span.textContent = content.trim(); span.setAttribute("dx", 7); }
        if (cls === "dim") tint(span, reference);
        else if (cls) span.setAttribute("class", cls);
      }
    });
  }
  function tint(element, reference) {
    element.setAttribute("class", reference >= 0 ? "dim g" : "dim p");
    element.dataset.reference = reference;
    if (reference >= 0) element.style.setProperty("--hue", hue(reference));
  }
  function chips(parent, groups, x, y, vertical, room) {
    const list = [...groups].sort((a, b) => a - b);
    const step = vertical ? room / list.length : Math.min(11, room / list.length);
    list.forEach((group, i) => {
      const size = vertical ? { x, y: y + i * step, width: 4, height: step } : { x: x + i * step, y, width: Math.max(1, step - 2), height: 8, rx: 2 };
      const chip = draw("rect", { ...size, class: "side" }, parent);
      chip.style.setProperty("--hue", hue(group));
      chip.dataset.reference = group;
    });
  }

  const keyOf = (kind, k, home) => `${kind}/${k}/${kind >= INPUT ? home : ""}`;
  function place(key, element, x, y, { w, h }, write) {
    const rectangle = { element, x, y, w, h, write, seen: true };
    places.set(key, rectangle);
    drawn.push(rectangle);
  }

  // Items are placed within their cluster; `left` and `top` say where that is.
  function drawItem(item, parent, left, top, home) {
    const { kind, k } = item;
    if (kind === PORT_IN || kind === PORT_OUT) return;
    const [x, y] = [round(item.x - item.w / 2), round(item.y)];
    if (item.inner) {
      drawCluster(item.inner, parent, x, y, left, top);
      return;
    }
    const cls = kind === CLUSTER ? "box folded" : kind === NODE ? "box" : "box end";
    const box = draw("g", { class: cls, transform: `translate(${x} ${y})` }, parent);
    box.dataset.key = keyOf(kind, k, home);
    box.groups = kind === NODE ? nodeGroups[k] : kind === CLUSTER ? clusterGroups[k] : valueGroups[k];
    draw("rect", { width: item.w, height: item.h, rx: 6 }, box);
    if (kind === NODE && weightGroups[k].size) chips(box, weightGroups[k], 1, 5, true, item.h - 10);
    place(box.dataset.key, box, left + x, top + y, item, () => {
      writeLines(box, item.lines, PAD + 3, LINE);
      if (kind === CLUSTER && clusterWeights[k].size) chips(box, clusterWeights[k], PAD + 3, item.h - 15, false, item.w - 2 * PAD - 6);
    });
  }

  const curve = (x0, y0, x1, y1) => Math.abs(x0 - x1) < 0.5 ? `L${x1} ${y1}` : `C${x0} ${(y0 + y1) / 2} ${x1} ${(y0 + y1) / 2} ${x1} ${y1}`;
  const round = n => Math.round(n * 10) / 10;

  function drawEdges(inner, parent) {
    // Several values at one box: each gets a place of its own on the border.
    for (const item of inner.items) {
      if (item.inner || item.thin) continue;
      for (const [side, slot, other] of [["up", "inX", l => l.a.x + l.outX], ["down", "outX", l => l.b.x + l.inX]]) {
        const byEdge = new Map();
        for (const link of item[side]) byEdge.set(link.e, [...(byEdge.get(link.e) || []), link]);
        const order = [...byEdge.values()].sort((p, q) => other(p[0]) - other(q[0]));
        const step = Math.min(18, (item.w - 24) / Math.max(1, order.length));
        order.forEach((same, i) => same.forEach(link => { link[slot] = (i - (order.length - 1) / 2) * step; }));
        if (order.length === 1 && order[0].length === 1) {
          const slant = other(order[0][0]) - item.x;  // a small one is better taken away than drawn
          if (Math.abs(slant) < item.w / 2 - 8) order[0][0][slot] = Math.abs(slant) < 16 ? slant : 0;
        }
      }
    }
    const lines = new Map(), ends = new Map();
    for (const { value, a, b, outX, inX } of inner.links) {
      const x0 = round(a.x + outX), x1 = round(b.x + inX);
      const start = a.kind === PORT_IN ? 0 : a.lines || a.inner ? a.y + a.h : inner.tops[a.row];
      const floor = inner.bottoms[a.row], ceiling = inner.tops[b.row];
      const end = b.kind === PORT_OUT ? inner.h : b.lines || b.inner ? b.y : ceiling;
      const path = `M${x0} ${round(start)}L${x0} ${round(floor)}${curve(x0, round(floor), x1, round(ceiling))}L${x1} ${round(end)}`;
      lines.set(value, (lines.get(value) || "") + path);
      if (b.lines && b.kind !== PORT_OUT) ends.set(value, `${ends.get(value) || ""}M${x1} ${round(end)}l-3.5 -6h7z`);
    }
    for (const [value, d] of lines) {
      const [group] = valueGroups[value];
      for (const [cls, path] of [["edge", d], ["barb", ends.get(value)]]) {
        if (!path) continue;
        const element = draw("path", { class: group === undefined ? cls : `${cls} g`, d: path }, parent);
        if (group !== undefined) element.style.setProperty("--hue", hue(group));
        element.dataset.value = value;
        element.groups = valueGroups[value];
      }
    }
  }

  function drawCluster(inner, parent, x, y, left, top) {
    const { number } = inner, isRoot = number === data.root;
    const g = draw("g", { class: isRoot ? "" : "open", transform: `translate(${x} ${y})` }, parent);
    if (!isRoot) {
      place(keyOf(CLUSTER, number), g, left + x, top + y, inner);
      draw("rect", { width: inner.w, height: inner.h, rx: 8 }, g);
      const lid = draw("rect", { class: "lid", width: inner.w, height: LID - 4, rx: 8 }, g);
      lid.dataset.lid = number;
      draw("text", { x: 10, y: 15 }, g).textContent = `− ${clusters[number].label}`;
    }
    drawEdges(inner, g);
    for (const item of inner.items) drawItem(item, g, left + x, top + y, number);
  }

  let selected = null;
  function redraw() {
    layout = arrange(data.root);
    places = new Map();
    drawn = [];
    scene.replaceChildren();
    drawCluster(layout, scene, 0, 0, 0, 0);
    mark();
    showChosen();
    apply();
  }
  function mark() {
    for (const box of scene.querySelectorAll(".box")) box.classList.toggle("at", box.dataset.key === selected);
  }
  function showChosen() {
    scene.classList.toggle("picked", chosen !== null);
    $("legend").textContent = chosen === null ? "" : data.groups[chosen].name;
    if (chosen === null) return;
    const on = [];
    for (const element of scene.querySelectorAll(".box, .edge, .barb")) {
      const touches = element.groups.has(chosen);
      element.classList.toggle("on", touches);
      if (touches && element.dataset.key) on.push(element.dataset.key);
    }
    const shown = key => {
      const p = places.get(key), { width, height } = graph.getBoundingClientRect();
      const [x, y] = [(p.x + p.w / 2) * view.k + view.x, (p.y + p.h / 2) * view.k + view.y];
      return x > 0 && x < width && y > 0 && y < height;
    };
    if (on.length && !on.some(shown)) centre(on[0]);
  }

  // ---- Pan and zoom

  const READABLE = 0.75;
  const view = { k: 1, x: 0, y: 0 };
  let waiting = false;
  function apply() {
    scene.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; cull(); });
  }
  // Leave out what cannot be seen or read: large networks have tens of thousands of elements.
  function cull() {
    const { width, height } = graph.getBoundingClientRect();
    const far = view.k < 0.3;
    scene.classList.toggle("far", far);
    for (const entry of drawn) {
      const [x, y] = [entry.x * view.k + view.x, entry.y * view.k + view.y];
      const seen = x < width + 100 && y < height + 100 && x + entry.w * view.k > -100 && y + entry.h * view.k > -100;
      if (seen !== entry.seen) {
        entry.seen = seen;
        entry.element.style.display = seen ? "" : "none";
      }
      if (seen && !far && entry.write) {
        entry.write();
        entry.write = null;
      }
    }
  }
  function zoom(factor, x, y) {
    const k = Math.min(4, Math.max(0.02, view.k * factor));
    view.x = x - (x - view.x) * k / view.k;
    view.y = y - (y - view.y) * k / view.k;
    view.k = k;
    apply();
  }
  // The whole graph, or where its text would become too small, its upper end.
  function fit(readable) {
    const { width, height } = graph.getBoundingClientRect();
    const across = Math.min(1, (width - 40) / layout.w);
    const whole = Math.min(across, (height - 40) / layout.h);
    view.k = whole >= readable ? whole : Math.max(readable, across);
    view.x = (width - layout.w * view.k) / 2;
    view.y = Math.max(20, (height - layout.h * view.k) / 2);
    apply();
  }
  function centre(key) {
    const place = places.get(key), { width, height } = graph.getBoundingClientRect();
    view.k = Math.max(view.k, 0.7);
    view.x = width / 2 - (place.x + place.w / 2) * view.k;
    view.y = height / 2 - (place.y + Math.min(place.h, height) / 2) * view.k;
    apply();
  }
  graph.addEventListener("wheel", event => {
    event.preventDefault();
    const { left, top } = graph.getBoundingClientRect();
    const pixels = event.deltaMode === 1 ? event.deltaY * 30 : event.deltaY;
    zoom(Math.exp(-Math.max(-120, Math.min(120, pixels)) / 400), event.clientX - left, event.clientY - top);
  }, { passive: false });
  let drag = null;
  graph.addEventListener("pointerdown", event => {
    if (event.button === 0) drag = { x: event.clientX, y: event.clientY, from: { ...view }, moved: false };
  });
  graph.addEventListener("pointermove", event => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) > 4) {
      drag.moved = true;
      graph.setPointerCapture(event.pointerId);
      graph.classList.add("dragging");
    }
    if (drag.moved) { view.x = drag.from.x + dx; view.y = drag.from.y + dy; apply(); }
  });
  const middleOf = () => { const { width, height } = graph.getBoundingClientRect(); return [width / 2, height / 2]; };
  $("in").addEventListener("click", () => zoom(1.3, ...middleOf()));
  $("out").addEventListener("click", () => zoom(1 / 1.3, ...middleOf()));
  $("fit").addEventListener("click", () => fit(0));

  // ---- Opening and closing modules

  function toggle(number) {
    const key = keyOf(CLUSTER, number);
    const before = places.get(key), [x, y] = [before.x * view.k + view.x, before.y * view.k + view.y];
    if (!opened.delete(number)) opened.add(number);
    redraw();
    const after = places.get(key);
    view.x = x + (before.w - after.w) / 2 * view.k - after.x * view.k;
    view.y = y - after.y * view.k;
    apply();
  }
  function visible(set) {
    let count = 0;
    const closed = [];
    const visit = number => {
      for (const [kind, k] of clusters[number].items) {
        if (kind !== CLUSTER) count++;
        else if (set.has(k)) visit(k);
        else { count++; closed.push(k); }
      }
    };
    visit(data.root);
    return { count, closed };
  }
  const FIRST_VIEW = 48;
  for (;;) {
    const closed = visible(opened).closed.filter(number => !clusters[number].aside);
    const more = new Set([...opened, ...closed]);
    if (!closed.length || visible(more).count > FIRST_VIEW) break;
    closed.forEach(number => opened.add(number));
  }
  $("open").addEventListener("click", () => { visible(opened).closed.forEach(number => opened.add(number)); redraw(); fit(READABLE); });
  $("close").addEventListener("click", () => { opened.clear(); opened.add(data.root); redraw(); fit(READABLE); });

  // ---- Details and hovering

  graph.addEventListener("pointerup", event => {
    graph.classList.remove("dragging");
    const dragged = drag && drag.moved;
    drag = null;
    if (dragged || event.button !== 0) return;
    const target = document.elementFromPoint(event.clientX, event.clientY);
    const reference = target?.closest("[data-reference]");
    const box = target?.closest(".box");
    if (target?.dataset.lid) return toggle(Number(target.dataset.lid));
    if (reference && Number(reference.dataset.reference) >= 0) return choose(Number(reference.dataset.reference));
    if (!box) { select(null); if (target === graph) choose(null); return; }
    const [kind, k] = box.dataset.key.split("/").map(Number);
    if (kind === CLUSTER) toggle(k);
    else select(box.dataset.key);
  });
  graph.addEventListener("pointercancel", () => { drag = null; });

  function select(key) {
    selected = key;
    mark();
    const card = $("card");
    card.hidden = key === null;
    if (key === null) return;
    card.replaceChildren();
    const close = make("button", "close", "×", card);
    close.ariaLabel = "Close";
    close.addEventListener("click", () => select(null));
    const [kind, k] = key.split("/").map(Number);
    if (kind === NODE) nodeCard(card, nodes[k]);
    else {
      make("h3", "", values[k][0], card);
      valueLine(card, kind === INPUT ? "input" : "output", k);
    }
  }
  function valueLine(card, label, value) {
    const line = make("div", "line", undefined, card);
    make("span", "", label, line);
    const shape = make("span", "", undefined, line);
    make("span", "", `${strings[values[value][1]]} `, shape);
    for (const [text, cls, reference] of dims(value)) {
      const span = make("span", "", text, shape);
      if (cls === "dim") tint(span, reference);
    }
  }
  function section(card, title, lines) {
    if (!lines.length) return;
    make("h4", "", title, card);
    for (const [label, value] of lines) valueLine(card, label, value);
  }
  function nodeCard(card, node) {
    make("h3", "", node.name, card);
    make("div", "", strings[node.op], card);
    if (strings[node.module]) { make("h4", "", "Module", card); make("div", "", strings[node.module], card); }
    if (strings[node.source]) { make("h4", "", "Called at", card); make("code", "", strings[node.source], card); }
    if (strings[node.arguments]) { make("h4", "", "Arguments", card); make("code", "", strings[node.arguments], card); }
    const named = ([argument, v]) => [`${strings[argument]}: ${values[v][0]}`, v];
    section(card, "Inputs", node.in.filter(([, v]) => !isParameter(v)).map(named));
    section(card, "Parameters", node.in.filter(([, v]) => isParameter(v)).map(named));
    section(card, "Outputs", node.out.map(v => [values[v][0], v]));
  }
  $("card").addEventListener("click", event => {
    const reference = Number(event.target.closest("[data-reference]")?.dataset.reference ?? -1);
    if (reference >= 0) choose(reference);
  });

  function explain(reference) {
    if (reference >= 0) {
      const { name, units, stay, guarantee } = data.groups[reference];
      return `Group ${name}\n${units} units${stay < units ? `, ${stay} stay` : ""}\n${guarantee}`;
    }
    const [reason, node, source] = pins[-1 - reference];
    return ["Kept whole", reason, node < 0 ? "" : `by ${nodes[node].name}`, strings[source]].filter(Boolean).join("\n");
  }
  const tip = $("tip");
  document.addEventListener("pointermove", event => {
    const at = event.target instanceof Element ? event.target.closest("[data-reference], [data-value]") : null;
    const inGraph = at && (graph.contains(at) || $("card").contains(at));
    tip.hidden = !inGraph || Boolean(drag?.moved);
    if (tip.hidden) return;
    const { reference, value } = at.dataset;
    tip.textContent = reference !== undefined
      ? explain(Number(reference))
      : `${values[value][0]}\n${strings[values[value][1]]} ${dims(Number(value)).map(([text]) => text).join("")}`;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(innerWidth - width - 8, event.clientX + 14))}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 8 : event.clientY + 18}px`;
  });

  // ---- Search

  function reveal(key, home) {
    let changed = false;
    for (let c = home; c !== undefined && c !== data.root; c = parentOf.get(c)) {
      if (!opened.has(c)) { opened.add(c); changed = true; }
    }
    if (changed) redraw();
    centre(key);
  }
  const goToNode = k => { reveal(keyOf(NODE, k), homeOf.get(k)); select(keyOf(NODE, k)); };
  const index = [];
  clusters.forEach((cluster, k) => { if (k !== data.root && !cluster.aside) index.push({ text: cluster.path, kind: "module", go: () => { reveal(keyOf(CLUSTER, k), parentOf.get(k)); } }); });
  const readers = new Map();
  nodes.forEach((node, k) => { for (const [, v] of node.in) if (isParameter(v) && !readers.has(v)) readers.set(v, k); });
  for (const [v, k] of readers) index.push({ text: values[v][0], kind: values[v][3], go: () => goToNode(k) });
  nodes.forEach((node, k) => index.push({ text: node.name, kind: shortOp(strings[node.op]), go: () => goToNode(k) }));
  data.groups.forEach((group, k) => index.push({ text: group.name, kind: "group", go: () => choose(k) }));
  for (const entry of index) entry.key = `${entry.text} ${entry.kind}`.toLowerCase();

  const search = $("search"), found = $("found");
  let hits = [], at = 0;
  function list() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    hits = words.length ? index.filter(entry => words.every(word => entry.key.includes(word))) : [];
    hits = hits.sort((a, b) => a.text.length - b.text.length).slice(0, 40);
    at = 0;
    found.replaceChildren();
    hits.forEach((hit, i) => {
      const line = make("li", i === at ? "at" : "", hit.text, found);
      make("span", "", hit.kind, line);
      line.addEventListener("pointerdown", event => { event.preventDefault(); go(hit); });
    });
    if (words.length && !hits.length) make("li", "", "nothing found", found);
    found.hidden = !words.length;
  }
  function go(hit) { found.hidden = true; search.blur(); hit.go(); }
  search.addEventListener("input", list);
  search.addEventListener("focus", list);
  search.addEventListener("blur", () => { found.hidden = true; });
  search.addEventListener("keydown", event => {
    if (event.key === "Enter" && hits[at]) go(hits[at]);
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp" || !hits.length) return;
    event.preventDefault();
    at = (at + (event.key === "ArrowDown" ? 1 : hits.length - 1)) % hits.length;
    [...found.children].forEach((line, i) => line.classList.toggle("at", i === at));
    found.children[at].scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("keydown", event => {
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !typing) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape") { typing ? event.target.blur() : (select(null), choose(null)); }
  });
  const byName = new Map(nodes.map((node, k) => [node.name, k]));
  for (const row of document.querySelectorAll("tr[data-node]")) {
    const k = byName.get(row.dataset.node);
    if (k !== undefined) row.addEventListener("click", () => goToNode(k));
  }

  redraw();
  fit(READABLE);
  cull();
  addEventListener("resize", apply);
})();
