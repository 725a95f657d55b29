// Finding nodes, parameters, modules and groups by name.

function reveal(key, home) {
  let changed = false;
  for (let c = home; c !== undefined && c !== data.root; c = parentOf.get(c)) {
    if (!opened.has(c)) { opened.add(c); changed = true; }
  }
  if (changed) redraw();
  centre(key);
}
const goToNode = k => { reveal(keyOf(NODE, k), homeOf.get(k)); select(keyOf(NODE, k)); };
function goToModule(k) {
  reveal(keyOf(CLUSTER, k), parentOf.get(k));
  selected = keyOf(CLUSTER, k);
  mark();
}
const index = [];
clusters.forEach((cluster, k) => { if (k !== data.root && !cluster.aside) index.push({ text: cluster.path, kind: "module", go: () => goToModule(k) }); });
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
