// The kept units of a group as a strip, a line for each unit of the outer axis.

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

onChoose.push(() => {
  const strip = chosen === null ? null : rowOf.get(chosen).querySelector("canvas");
  if (strip) drawStrip(strip, data.groups[chosen].kept, data.groups[chosen].units);
});
