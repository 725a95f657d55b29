// Drawing what the layout placed.

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
    g.dataset.key = keyOf(CLUSTER, number);
    place(g.dataset.key, g, left + x, top + y, inner);
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
  for (const box of scene.querySelectorAll(".box, .open")) box.classList.toggle("at", box.dataset.key === selected);
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
