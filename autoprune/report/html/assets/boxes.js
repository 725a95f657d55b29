// What the boxes say: lines of pieces [text, class, reference].

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
