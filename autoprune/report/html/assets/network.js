// The network: what is in which module, and what touches which group.

const data = JSON.parse($("data").textContent);
// What an item of a cluster is.
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
