// Opening and closing modules.

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
