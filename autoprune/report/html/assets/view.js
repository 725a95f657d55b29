// Moving and zooming.

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
  const far = view.k < 0.3 && drawn.length > 300;
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
