// Layout: rows and the order in them are given, here everything gets its place.

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
