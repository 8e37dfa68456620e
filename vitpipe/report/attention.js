/* The attention in the page: weights by layer, head and query, and how they are written and coloured. */

const $ = (id) => document.getElementById(id);
const info = JSON.parse($("explorer-info").textContent);
const { layers, samples, classes } = info;
const [rows, columns] = info.grid; // of patches
const values = Float64Array.from(info.values); // the weight that each code stands for
const first = info.prefix; // the index of the first patch: the tokens before it are no patches
const tokens = rows * columns + first;
const heads = info.averaged ? 1 : info.heads; // maps stored of each layer
const MEAN = -1; // in place of a head
const ALL = -1; // in place of a query: the mean over all patches as queries
const OCTAVES = 4; // the scale goes from 1/16 to 16 times uniform
const GROUND = [89, 97, 105]; // colour of a patch that gets 1 times uniform, in a grid

const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

/* Attention weights of one image. */
class Attention {
  constructor(codes) {
    this.codes = codes;
    this.means = new Map(); // rows over all queries, which take long
  }

  static async of(index) {
    const text = atob($(`codes-${index}`).textContent);
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Attention(new Uint8Array(await new Response(stream).arrayBuffer()));
  }

  /* For every row that is averaged, where its weights start, and its query. */
  places(layer, head, query) {
    const queries = query === ALL ? range(first, tokens) : [query];
    const chosen = head === MEAN ? range(0, heads) : [head];
    return chosen.flatMap((h) => queries.map((q) => [((layer * heads + h) * tokens + q) * tokens, q]));
  }

  /* What a query gives to each token. */
  row(layer, head, query) {
    const key = layer * (heads + 1) + head;
    if (query === ALL && this.means.has(key)) return this.means.get(key);
    const sum = new Float64Array(tokens);
    const places = this.places(layer, head, query);
    for (const [start] of places) for (let k = 0; k < tokens; k++) sum[k] += values[this.codes[start + k]];
    for (let k = 0; k < tokens; k++) sum[k] /= places.length;
    if (query === ALL) this.means.set(key, sum);
    return sum;
  }

  /* What a query gives to itself, or the mean over all patches. */
  own(layer, head, query) {
    const places = this.places(layer, head, query);
    return places.reduce((sum, [start, q]) => sum + values[this.codes[start + q]], 0) / places.length;
  }
}

/* How many of the most attended tokens together get half of the attention. */
function half(weights) {
  const sorted = Float64Array.from(weights).sort().reverse();
  const total = sorted.reduce((sum, weight) => sum + weight, 0);
  let [sum, count] = [0, 0];
  while (sum < total / 2) sum += sorted[count++];
  return count;
}

/* Words */

const digits = (value) => (value >= 999.5 ? value.toFixed(0) : value === 0 ? "0" : value < 0.001 ? "< 0.001" : value.toPrecision(3));
const told = (weight) => `${digits(100 * weight)} % · ${digits(weight * tokens)}×`;
const place = (token) => {
  if (token === ALL) return "all patches, mean";
  if (token < first) return token === 0 ? "class token" : `register ${token}`;
  return `row ${Math.floor((token - first) / columns) + 1}, column ${((token - first) % columns) + 1}`;
};
const headName = (head) => (head === MEAN ? `mean of ${info.heads} head${info.heads > 1 ? "s" : ""}` : `head ${head + 1}`);

/* Colours: dark blue is less than uniform, orange to light yellow more; lightness grows all the way. */

const palette = new Uint8ClampedArray(4 * 257);
for (let i = 0; i <= 256; i++) {
  const t = (i - 128) / 128;
  const [from, to, part] = t < 0 ? [[20, 32, 66, 0], [6, 10, 28, 235], -t]
    : t < 0.5 ? [[236, 120, 32, 0], [242, 134, 36, 215], 2 * t] : [[242, 134, 36, 215], [255, 246, 190, 250], 2 * t - 1];
  from.forEach((value, j) => { palette[4 * i + j] = value + (to[j] - value) * part; });
}
const shade = (weight) => {
  const octaves = Math.log2(weight * tokens); // -Infinity for 0
  return Math.round(128 + 128 * Math.max(-1, Math.min(1, octaves / OCTAVES)));
};
function solid(index) {
  const alpha = palette[4 * index + 3] / 255;
  return GROUND.map((value, j) => Math.round(value * (1 - alpha) + palette[4 * index + j] * alpha));
}

function paint(canvas, weights) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const index = 4 * shade(weights[first + i]);
    for (let j = 0; j < 4; j++) image.data[4 * i + j] = palette[index + j];
  }
  context.putImageData(image, 0, 0);
}
