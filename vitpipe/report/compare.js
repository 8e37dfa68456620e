/* Pictures side by side in one place, with a border between each two of them. */

function compare() {
  const box = $("compare");
  const images = [...box.querySelectorAll("img")];
  const handles = [...box.querySelectorAll(".handle")];
  const presets = [...document.querySelectorAll("[data-shown]")];
  const tags = box.querySelectorAll(".tag");
  const even = handles.map((_, i) => Math.round((100 * (i + 1)) / images.length));
  let borders = [...even]; // in percent of the width
  let dragged = null; // the range of borders that the pointer holds, or null
  let start = 0;

  const alone = (index) => borders.map((_, i) => (i < index ? 0 : 100));
  const preset = (button) => (button.dataset.shown === "all" ? even : alone(+button.dataset.shown));
  function set(index, position) {
    const at = Math.min(100, Math.max(0, position));
    borders = borders.map((border, i) => (i === index ? at : i < index ? Math.min(border, at) : Math.max(border, at)));
    draw();
  }
  function draw() {
    images.forEach((image, i) => {
      const [from, to] = [borders[i - 1] ?? 0, borders[i] ?? 100];
      if (i > 0) image.style.clipPath = `inset(0 ${100 - to}% 0 ${from}%)`; // the first lies below all
      tags[i].style.left = `${(from + to) / 2}%`;
      tags[i].hidden = to - from < 20;
    });
    handles.forEach((handle, i) => {
      handle.style.left = `${borders[i]}%`;
      handle.setAttribute("aria-valuenow", Math.round(borders[i]));
      handle.setAttribute("aria-valuetext", `${images[i].alt} up to ${Math.round(borders[i])} %`);
    });
    presets.forEach((button) => button.setAttribute("aria-pressed", preset(button).every((border, i) => border === borders[i])));
  }
  const position = (event) => (100 * (event.clientX - box.getBoundingClientRect().left)) / box.clientWidth;

  /* The first and the last border that a pointer may take; they differ where borders lie together. */
  function nearest() {
    const at = borders.reduce((best, border) => (Math.abs(start - border) < Math.abs(start - best) ? border : best));
    const [low, high] = [borders.indexOf(at), borders.lastIndexOf(at)];
    if (at >= 100 || start < at - 6) return [low, low];
    if (at <= 0 || start > at + 6) return [high, high];
    return [low, high];
  }
  box.addEventListener("pointerdown", (event) => {
    start = position(event);
    dragged = nearest();
    box.setPointerCapture(event.pointerId);
    const [low, high] = dragged;
    if (low === high) { set(low, start); handles[low].focus({ preventScroll: true }); }
    event.preventDefault();
  });
  box.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    const now = position(event);
    let [low, high] = dragged;
    if (low !== high && Math.abs(now - start) > 0.5) low = high = now < start ? low : high; // the direction decides
    dragged = [low, high];
    if (low === high) set(low, now);
  });
  for (const name of ["pointerup", "pointercancel"]) box.addEventListener(name, () => { dragged = null; });
  handles.forEach((handle, i) => handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
    if (step === undefined) return;
    set(i, borders[i] + step);
    event.preventDefault();
  }));
  presets.forEach((button) => button.addEventListener("click", () => {
    borders = [...preset(button)];
    draw();
  }));
  draw();
}
