// Run by guests/run-big.sh with QuickJS: a glider on a torus. `print` is a function of the host, and what the
// last line is worth is printed too.
const size = 16;
let cells = new Set(["1,0", "2,1", "0,2", "1,2", "2,2"]);
function step(now) {
  const near = new Map();
  for (const cell of now) {
    const [x, y] = cell.split(",").map(Number);
    for (let dx = -1; dx <= 1; dx++) {
      for (let dy = -1; dy <= 1; dy++) {
        if (dx === 0 && dy === 0) continue;
        const key = `${(x + dx + size) % size},${(y + dy + size) % size}`;
        near.set(key, (near.get(key) ?? 0) + 1);
      }
    }
  }
  return new Set([...near].filter(([k, n]) => n === 3 || (n === 2 && now.has(k))).map(([k]) => k));
}
for (let i = 0; i < 200; i++) {
  cells = step(cells);
  if (i % 50 === 49) print("generation", i + 1, [...cells].sort()[0]);
}
[...cells].sort().join(" ") + " sqrt " + Math.sqrt(2) + " " + /(\d+)-(\d+)/.exec("x 12-34")[2];
