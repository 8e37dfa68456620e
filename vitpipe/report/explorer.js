/* The explorer: one state, `render` shows it. Weights of an image are unpacked when it is chosen. */

const whole = facts.token ? 0 : ALL; // the query of the button
const centre = first + (grid >> 1) * grid + (grid >> 1);
const state = {
  sample: 0, layer: classes.length ? layers - 1 : 0, head: MEAN,
  query: facts.token ? 0 : centre, held: false, // what is shown; what pointing does
  preview: null, pointed: null, // tokens under the pointer: as a query, or to read
};
const unpacked = new Map();
let attention = null;

/* Rendering */

const query = () => (state.preview === null ? state.query : state.preview);

function frame(box, token) {
  box.hidden = token === null || token < first;
  if (box.hidden) return;
  const side = 100 / grid;
  box.style.cssText = `left:${((token - first) % grid) * side}%;top:${Math.floor((token - first) / grid) * side}%;width:${side}%;height:${side}%`;
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
  if (facts.token) $("to-token").textContent = told(weights[0]);
  const most = weights.reduce((best, weight, token) => (weight > weights[best] ? token : best), 0);
  $("to-most").textContent = `${place(most)}: ${told(weights[most])}`;
  $("to-half").textContent = `${half(weights)} of ${tokens} ${facts.token ? "tokens" : "patches"}`;
  const pointed = state.pointed;
  $("at-pointed").textContent = pointed === null ? "to the patch you point at" : `to ${place(pointed)}`;
  $("to-pointed").textContent = pointed === null ? "–" : told(weights[pointed]);
  $("mark").hidden = pointed === null;
  if (pointed !== null) $("mark").style.left = `${(100 * shade(weights[pointed])) / 256}%`;
  $("held").textContent = state.held ? "The query is held: point at patches, or drag a finger over them, to read what it gives them. Click it again or press Esc to release."
    : "Click a patch to hold it as the query, then point at others to read what it gives them.";
  $("whole").setAttribute("aria-pressed", current === whole);
  if (facts.token) $("whole-colour").style.background = `rgb(${solid(shade(weights[0]))})`;
  $("whole-colour").hidden = !facts.token;
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
  const surface = document.querySelector("[name=surface]:checked").value;
  const pictures = samples[state.sample].pictures;
  $("surface").classList.toggle("grid", surface === "grid");
  show($("base"), surface === "grid" ? pictures.input : pictures[surface]);
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
  show(image, sample.pictures.original || sample.pictures.input);
  button.append(image);
  button.addEventListener("click", () => choose(index));
  $("thumbs").append(button);
  return button;
});

/* Few layers: a large map of the mean beside rows of heads. Many layers: one row of small maps each. */
const large = layers <= 4 && heads > 4;
const columns = large ? 2 + (heads <= 8 ? 4 : heads <= 12 ? 6 : 8) : Math.max(5, Math.min(heads + 1, 13));
$("overview").style.setProperty("--columns", columns);
const tiles = [];
for (let layer = 0; layer < layers; layer++) {
  const line = document.createElement("div");
  const name = document.createElement("span");
  line.className = "layer";
  name.textContent = `layer ${layer + 1}`;
  line.append(name);
  for (let head = MEAN; head < (facts.averaged ? 0 : heads); head++) {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = grid;
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

$("map").width = $("map").height = grid;
document.querySelectorAll("[name=surface]").forEach((input) => input.addEventListener("change", dress));
$("whole").addEventListener("click", () => change({ query: whole, held: true, preview: null, pointed: null }));

/* Pointing */

const surface = $("surface");
function under(event) {
  const box = surface.getBoundingClientRect();
  const at = (position, length) => Math.min(grid - 1, Math.max(0, Math.floor((position / length) * grid)));
  return first + at(event.clientY - box.top, box.height) * grid + at(event.clientX - box.left, box.width);
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
  const row = Math.floor(place / grid) + (key === "ArrowDown") - (key === "ArrowUp");
  const column = (place % grid) + (key === "ArrowRight") - (key === "ArrowLeft");
  return row < 0 || column < 0 || row >= grid || column >= grid ? token : first + row * grid + column;
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
const head = (step) => change({ head: facts.averaged ? MEAN : wrap(state.head + step, MEAN, heads) });
const layer = (step) => change({ layer: wrap(state.layer + step, 0, layers) });
const image = (step) => choose(wrap(state.sample + step, 0, samples.length));
const keys = {
  "]": () => head(1), "[": () => head(-1), h: () => head(1), H: () => head(-1),
  "}": () => layer(1), "{": () => layer(-1), l: () => layer(1), L: () => layer(-1),
  n: () => image(1), p: () => image(-1),
  m: () => change({ head: MEAN }),
  [facts.token ? "t" : "a"]: () => $("whole").click(),
  g: () => document.querySelector(`[name=surface][value=${surface.classList.contains("grid") ? (classes.length ? "input" : "original") : "grid"}]`).click(),
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
  if (classes.length) return predicted(sample);
  for (const name of ["bicubic", "model", "original"]) show($(name), sample.pictures[name]);
  for (const name of ["bicubic", "model"]) $(`psnr-${name}`).textContent = `${sample.psnr[name].toFixed(2)} dB`;
}

function predicted(sample) {
  const order = sample.probabilities.map((_, i) => i).sort((a, b) => sample.probabilities[b] - sample.probabilities[a]);
  const shown = order.slice(0, 10);
  const actual = classes.indexOf(sample.actual);
  if (!shown.includes(actual)) shown[9] = actual;
  const right = sample.predicted === sample.actual;
  const words = (probability) => (probability > 0.9995 && probability < 1 ? "> 99.9 %" : `${(100 * probability).toFixed(1)} %`);
  $("says").textContent = `The model says ${sample.predicted}`;
  $("truth").textContent = right ? `Right, with a probability of ${words(sample.probabilities[order[0]])}.` : `Wrong: it is ${sample.actual}.`;
  $("bars").replaceChildren(...shown.map((index) => {
    const line = document.createElement("div");
    const [name, track, value] = ["span", "i", "span"].map((tag) => document.createElement(tag));
    const fill = document.createElement("i");
    name.textContent = classes[index] + (index === actual ? " ✓" : "");
    if (index === actual) name.title = "the actual class";
    fill.style.width = `${100 * sample.probabilities[index]}%`;
    value.textContent = words(sample.probabilities[index]);
    line.classList.toggle("said", classes[index] === sample.predicted);
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
if (!classes.length) compare();
if (typeof DecompressionStream === "undefined") {
  $("notice").textContent = "This browser is too old to open the attention weights: the explorer needs one of 2023 or later.";
  $("notice").hidden = false;
} else choose(0);
