// The tables: sorting, filtering, choosing a group.

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

let chosen = null;
const onChoose = [];  // called when another group is chosen
function choose(group) {
  chosen = group;
  for (const [other, body] of rowOf) {
    const open = other === group;
    body.classList.toggle("chosen", open);
    body.querySelector(".row").ariaExpanded = open;
  }
  if (group !== null) rowOf.get(group).scrollIntoView({ block: "nearest" });
  for (const listener of onChoose) listener();
}
