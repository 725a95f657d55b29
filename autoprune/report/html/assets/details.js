// The card of a node, and what shows where the mouse is.

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
