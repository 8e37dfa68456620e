/* The explorer: one state, shown by `render`. Weights of an image are unpacked when it is chosen. */

const centre = first + (rows >> 1) * columns + (columns >> 1);
const last = info.pictures.at(-1);
const state = {
  sample: 0, layer: classes.length ? layers - 1 : 0, head: MEAN,
  query: first ? 0 : centre, held: false, // what is shown; what pointing does
  preview: null, pointed: null, // tokens under the pointer: as a query, or to read
};
const unpacked = new Map();
let attention = null;

/* Rendering */

const query = () => (state.preview === null ? state.query : state.preview);

function frame(box, token) {
  box.hidden = token === null || token < first;
  if (box.hidden) return;
  const [width, height] = [100 / columns, 100 / rows];
  const [row, column] = [Math.floor((token - first) / columns), (token - first) % columns];
  box.style.cssText = `left:${column * width}%;top:${row * height}%;width:${width}%;height:${height}%`;
}

function render() {
  if (!attention) return;
  const current = query();
  const weights = attention.row(state.layer, state.head, current);
  paint($("map"), weights);
  frame($("query-box"), current);
  frame($("pointed-box"), state.pointed);
  for (const tile of tiles) {
    paint(tile.canvas, attention.row(tile.layer, tile.head, current));
    tile.button.setAttribute("aria-pressed", tile.layer === state.layer && tile.head === state.head);
  }
  $("shown").innerHTML = `Layer ${state.layer + 1}, ${headName(state.head)} <small>· ${place(current)}</small>`;
  $("at-query").textContent = place(current);
  $("to-self").textContent = told(attention.own(state.layer, state.head, current));
  for (let token = 0; token < first; token++) $(`to-token-${token}`).textContent = told(weights[token]);
  const most = weights.reduce((best, weight, token) => (weight > weights[best] ? token : best), 0);
  $("to-most").textContent = `${place(most)}: ${told(weights[most])}`;
  $("to-half").textContent = `${half(weights)} of ${tokens} ${first ? "tokens" : "patches"}`;
  const pointed = state.pointed;
  $("at-pointed").textContent = pointed === null ? "to the patch you point at" : `to ${place(pointed)}`;
  $("to-pointed").textContent = pointed === null ? "–" : told(weights[pointed]);
  $("mark").hidden = pointed === null;
  if (pointed !== null) $("mark").style.left = `${(100 * shade(weights[pointed])) / 256}%`;
  $("held").textContent = state.held ? "The query is held: point at patches, or drag a finger over them, to read what it gives them. Click it again or press Esc to release."
    : "Click a patch to hold it as the query, then point at others to read what it gives them.";
  for (const chip of chips) {
    const token = +chip.dataset.token;
    chip.setAttribute("aria-pressed", current === token);
    if (token !== ALL) chip.querySelector("i").style.background = `rgb(${solid(shade(weights[token]))})`;
  }
}

function say() {
  $("told").textContent = `${$("shown").textContent}. To itself ${$("to-self").textContent}. Most to ${$("to-most").textContent}.`
    + (state.pointed === null ? "" : ` ${$("at-pointed").textContent} ${$("to-pointed").textContent}.`);
}

function change(update) {
  Object.assign(state, update);
  render();
  say();
}

async function choose(index) {
  state.sample = index;
  thumbs.forEach((button, i) => button.setAttribute("aria-pressed", i === index));
  thumbs[index].scrollIntoView({ block: "nearest", inline: "nearest" });
  if (!unpacked.has(index)) unpacked.set(index, Attention.of(index));
  const found = await unpacked.get(index);
  if (state.sample !== index) return; // another was chosen meanwhile
  attention = found;
  dress();
  render();
  say();
  outcome(samples[index]);
  $("explorer").dataset.sample = index; // all of this image is shown
}

function dress() {
  const { picture } = document.querySelector("[name=surface]:checked").dataset; // none as a grid
  $("surface").classList.toggle("grid", !picture);
  show($("base"), samples[state.sample].pictures[picture || last]);
}

function show(image, source) {
  image.onload = () => image.classList.toggle("coarse", image.naturalWidth < 96);
  image.src = source;
}

/* Choosing */

const thumbs = samples.map((sample, index) => {
  const button = document.createElement("button");
  const image = new Image();
  button.type = "button";
  button.setAttribute("aria-label", `Image ${index + 1} of ${samples.length}, ${sample.id}`);
  button.title = sample.id;
  image.alt = "";
  show(image, sample.pictures[last]);
  button.append(image);
  button.addEventListener("click", () => choose(index));
  $("thumbs").append(button);
  return button;
});

/* Few layers: a large map of the mean beside rows of heads. Many layers: one row of small maps each. */
const large = layers <= 4 && heads > 4;
const across = large ? 2 + (heads <= 8 ? 4 : heads <= 12 ? 6 : 8) : Math.max(5, Math.min(heads + 1, 13));
$("overview").style.setProperty("--columns", across);
const tiles = [];
for (let layer = 0; layer < layers; layer++) {
  const line = document.createElement("div");
  const name = document.createElement("span");
  line.className = "layer";
  name.textContent = `layer ${layer + 1}`;
  line.append(name);
  for (let head = MEAN; head < (info.averaged ? 0 : heads); head++) {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [columns, rows];
    button.type = "button";
    button.className = large && head === MEAN ? "tile large" : "tile";
    button.setAttribute("aria-label", `Layer ${layer + 1}, ${headName(head)}`);
    button.append(canvas, head === MEAN ? "mean" : `${head + 1}`);
    button.addEventListener("click", () => change({ layer, head }));
    line.append(button);
    tiles.push({ layer, head, canvas, button });
  }
  $("overview").append(line);
}

[$("map").width, $("map").height] = [columns, rows];
document.querySelectorAll("[name=surface]").forEach((input) => input.addEventListener("change", dress));
const chips = [...document.querySelectorAll("[data-token]")];
for (const chip of chips) chip.addEventListener("click", () => change({ query: +chip.dataset.token, held: true, preview: null, pointed: null }));

/* Pointing */

const surface = $("surface");
function under(event) {
  const box = surface.getBoundingClientRect();
  const at = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
  return first + at((event.clientY - box.top) / box.height, rows) * columns + at((event.clientX - box.left) / box.width, columns);
}
surface.addEventListener("pointermove", (event) => {
  Object.assign(state, state.held ? { pointed: under(event) } : { preview: under(event) });
  render();
});
surface.addEventListener("click", (event) => {
  if (event.detail === 0) return; // made by a key, which has its own rule
  const token = under(event);
  const release = event.pointerType !== "touch" && state.held && token === state.query;
  change({ query: token, held: !release, preview: null, pointed: null });
});
surface.addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "touch") Object.assign(state, { preview: null, pointed: null });
  else if (state.preview !== null) Object.assign(state, { query: state.preview, held: true, preview: null }); // a finger leaves when it lifts
  render();
});

function moved(token, key) {
  if (token < first) return centre;
  const place = token - first;
  const row = Math.floor(place / columns) + (key === "ArrowDown") - (key === "ArrowUp");
  const column = (place % columns) + (key === "ArrowRight") - (key === "ArrowLeft");
  return row < 0 || column < 0 || row >= rows || column >= columns ? token : first + row * columns + column;
}
surface.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key.startsWith("Arrow")) {
    if (event.shiftKey) change({ held: true, query: query(), preview: null, pointed: moved(state.pointed ?? query(), event.key) });
    else change({ query: moved(query(), event.key), preview: null, pointed: null });
  } else if (event.key === "Enter" || event.key === " ") change({ held: !state.held, query: query(), preview: null, pointed: null });
  else return;
  event.preventDefault();
});

const wrap = (value, from, to) => (value < from ? to - 1 : value >= to ? from : value);
const head = (step) => change({ head: info.averaged ? MEAN : wrap(state.head + step, MEAN, heads) });
const layer = (step) => change({ layer: wrap(state.layer + step, 0, layers) });
const image = (step) => choose(wrap(state.sample + step, 0, samples.length));
const keys = {
  "]": () => head(1), "[": () => head(-1), h: () => head(1), H: () => head(-1),
  "}": () => layer(1), "{": () => layer(-1), l: () => layer(1), L: () => layer(-1),
  n: () => image(1), p: () => image(-1),
  m: () => change({ head: MEAN }),
  [first ? "t" : "a"]: () => chips[0].click(),
  g: () => document.querySelector(surface.classList.contains("grid") ? `[data-picture="${last}"]` : "[name=surface]:not([data-picture])").click(),
  Escape: () => change({ held: false, pointed: null }),
};
$("explorer").addEventListener("keydown", (event) => {
  const typed = "[]{}".includes(event.key); // on some keyboards only with AltGr
  if (!(event.key in keys) || event.metaKey || (!typed && (event.ctrlKey || event.altKey))) return;
  keys[event.key]();
  event.preventDefault();
});

/* What the model made of the image */

function outcome(sample) {
  for (const image of document.querySelectorAll("#compare img")) show(image, sample.pictures[image.alt]);
  for (const value of document.querySelectorAll("[data-reading]")) value.textContent = sample.readings[value.dataset.reading];
  if (classes.length) predicted(sample);
}

function predicted({ probabilities, actual }) {
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  const shown = order.slice(0, 10);
  const [said, real] = [order[0], classes.indexOf(actual)];
  if (!shown.includes(real)) shown[9] = real;
  const words = (probability) => (probability > 0.9995 && probability < 1 ? "> 99.9 %" : `${(100 * probability).toFixed(1)} %`);
  $("says").textContent = `The model says ${classes[said]}`;
  $("truth").textContent = said === real ? `Right, with a probability of ${words(probabilities[said])}.` : `Wrong: it is ${actual}.`;
  $("bars").replaceChildren(...shown.map((index) => {
    const line = document.createElement("div");
    const [name, track, value] = ["span", "i", "span"].map((tag) => document.createElement(tag));
    const fill = document.createElement("i");
    name.textContent = classes[index] + (index === real ? " ✓" : "");
    if (index === real) name.title = "the actual class";
    fill.style.width = `${100 * probabilities[index]}%`;
    value.textContent = words(probabilities[index]);
    line.classList.toggle("said", index === said);
    track.append(fill);
    line.append(name, track, value);
    return line;
  }));
}

/* Legend and start */

const legend = $("scale").getContext("2d");
for (let i = 0; i <= 256; i++) {
  legend.fillStyle = `rgb(${solid(i)})`;
  legend.fillRect(i, 0, 1, 1);
}
for (let octave = -OCTAVES; octave <= OCTAVES; octave += 2) {
  const tick = document.createElement("span");
  tick.textContent = octave < 0 ? `1/${2 ** -octave}×` : `${2 ** octave}×`;
  tick.style.left = `${(100 * (octave + OCTAVES)) / (2 * OCTAVES)}%`;
  $("ticks").append(tick);
}
if (info.pictures.length > 2) compare();
if (typeof DecompressionStream === "undefined") {
  $("notice").textContent = "This browser is too old to open the attention weights: the explorer needs one of 2023 or later.";
  $("notice").hidden = false;
} else choose(0);
