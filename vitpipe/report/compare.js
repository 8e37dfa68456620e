/* The two borders of the comparison, in percent of its width */

function compare() {
  const box = $("compare");
  const handles = [$("left-handle"), $("right-handle")];
  const presets = [...document.querySelectorAll("[data-left]")];
  const tags = box.querySelectorAll(".tag");
  const borders = [33, 67];
  let dragged = null; // index of a border, or null
  let start = 0;

  function set(index, position) {
    borders[index] = Math.min(100, Math.max(0, position));
    if (borders[0] > borders[1]) borders[1 - index] = borders[index];
    draw();
  }
  function draw() {
    const [left, right] = borders;
    $("model").style.clipPath = `inset(0 ${100 - right}% 0 ${left}%)`;
    $("original").style.clipPath = `inset(0 0 0 ${right}%)`;
    [[0, left], [left, right], [right, 100]].forEach(([from, to], i) => {
      tags[i].style.left = `${(from + to) / 2}%`;
      tags[i].hidden = to - from < 20;
    });
    handles.forEach((handle, i) => {
      handle.style.left = `${borders[i]}%`;
      handle.setAttribute("aria-valuenow", Math.round(borders[i]));
      handle.setAttribute("aria-valuetext", i ? `original from ${Math.round(right)} %` : `bicubic up to ${Math.round(left)} %`);
    });
    presets.forEach((button) => button.setAttribute("aria-pressed", +button.dataset.left === left && +button.dataset.right === right));
  }
  const position = (event) => (100 * (event.clientX - box.getBoundingClientRect().left)) / box.clientWidth;
  box.addEventListener("pointerdown", (event) => {
    start = position(event);
    const [left, right] = borders;
    if (left === right && Math.abs(start - left) < 6) dragged = left >= 100 ? 0 : left <= 0 ? 1 : -1; // the way it goes decides
    else dragged = Math.abs(start - left) < Math.abs(start - right) || (left === right && start < left) ? 0 : 1;
    box.setPointerCapture(event.pointerId);
    if (dragged >= 0) { set(dragged, start); handles[dragged].focus({ preventScroll: true }); }
    event.preventDefault();
  });
  box.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    const now = position(event);
    if (dragged < 0 && Math.abs(now - start) > 0.5) dragged = now < start ? 0 : 1;
    if (dragged >= 0) set(dragged, now);
  });
  for (const name of ["pointerup", "pointercancel"]) box.addEventListener(name, () => { dragged = null; });
  handles.forEach((handle, i) => handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
    if (step === undefined) return;
    set(i, borders[i] + step);
    event.preventDefault();
  }));
  presets.forEach((button) => button.addEventListener("click", () => {
    borders[0] = +button.dataset.left;
    borders[1] = +button.dataset.right;
    draw();
  }));
  draw();
}
