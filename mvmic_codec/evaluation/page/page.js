"use strict";

/* Charts: the mark nearest to the pointer, or the one that the arrow keys have reached, says what it is. */

const tip = document.getElementById("tip");

function show(chart, mark) {
  const { x, y } = mark.dataset;
  const ring = chart.querySelector(".ring");
  ring.setAttribute("cx", x);
  ring.setAttribute("cy", y);
  ring.classList.add("on");
  tip.hidden = false;
  tip.textContent = mark.dataset.text;
  const place = ring.getBoundingClientRect();
  const left = place.left + place.width / 2 - tip.offsetWidth / 2;
  const above = place.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${above < 4 ? place.bottom + 6 : above}px`;
}

function hide(chart) {
  chart.querySelector(".ring").classList.remove("on");
  tip.hidden = true;
}

function nearest(marks, x, y) {
  const distance = (mark) => Math.hypot(mark.dataset.x - x, mark.dataset.y - y);
  return marks.reduce((best, mark) => (distance(mark) < distance(best) ? mark : best));
}

for (const chart of document.querySelectorAll(".chart")) {
  let current = null;
  const lines = () => [...chart.querySelectorAll(".codec:not([hidden])")].reverse();
  const marksOf = (line) => [...line.querySelectorAll(".mark")];

  chart.addEventListener("pointermove", (event) => {
    const marks = lines().flatMap(marksOf);
    if (!marks.length) return;
    const point = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(chart.getScreenCTM().inverse());
    current = nearest(marks, point.x, point.y);
    show(chart, current);
  });
  chart.addEventListener("pointerleave", () => {
    current = null;
    hide(chart);
  });
  chart.addEventListener("blur", () => hide(chart));
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (event.key === "Escape") hide(chart);
    const all = lines();
    if (!step || !all.length) return;
    event.preventDefault();
    const line = all.indexOf(current?.parentNode);
    if (line < 0) {
      current = marksOf(all[0])[0];
    } else if (step[0]) {
      const marks = marksOf(all[line]);
      current = marks[Math.max(0, Math.min(marks.indexOf(current) + step[0], marks.length - 1))];
    } else {
      const next = all[(line + step[1] + all.length) % all.length];
      current = nearest(marksOf(next), current.dataset.x, current.dataset.y);
    }
    show(chart, current);
  });
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    for (const line of document.querySelectorAll(`.codec.${button.dataset.codec}`)) {
      line.toggleAttribute("hidden", !shown);
    }
  });
}

/* Pictures: two versions on one stage, a divider between them, zoom and pan for both alike. */

for (const viewer of document.querySelectorAll(".viewer")) {
  const stage = viewer.querySelector(".stage");
  const divider = viewer.querySelector(".divider");
  const width = Number(viewer.style.getPropertyValue("--w"));
  const height = Number(viewer.style.getPropertyValue("--h"));
  const centre = { x: 0.5, y: 0.5 }; // the part of the picture in the middle of the stage
  let zoom = 1;
  let split = 50;

  const chosen = (what) =>
    viewer.querySelector(`input[name="${what}-${viewer.dataset.number}"]:checked`).value;

  function choose() {
    for (const side of ["left", "right"]) {
      const role = chosen(side);
      for (const layer of viewer.querySelectorAll(".layer")) {
        const { dataset } = layer;
        const on = dataset.role === role && (dataset.rate ?? chosen("rate")) === chosen("rate");
        layer.classList.toggle(side, on);
        if (!on) continue;
        const caption = viewer.querySelector(`.captions .${side}`);
        const name = document.createElement("b");
        name.textContent = dataset.name;
        caption.replaceChildren(name, dataset.facts);
      }
    }
    divide(split);
    place();
  }

  function divide(percent) {
    split = Math.max(0, Math.min(percent, 100));
    stage.style.setProperty("--split", `${split}%`);
    const name = (side) => viewer.querySelector(`.layer.${side}`).dataset.name;
    divider.setAttribute("aria-valuenow", Math.round(split));
    divider.setAttribute("aria-valuetext", `${Math.round(split)}% ${name("left")}, then ${name("right")}`);
  }

  function place() {
    const room = { x: stage.clientWidth, y: stage.clientHeight };
    const wanted = chosen("zoom");
    zoom = wanted === "fit" ? Math.min(room.x / width, room.y / height) : Number(wanted);
    let loose = false;
    for (const [axis, side] of [["x", width * zoom], ["y", height * zoom]]) {
      const least = Math.min(0.5, room[axis] / 2 / side);
      centre[axis] = Math.max(least, Math.min(centre[axis], 1 - least));
      stage.style.setProperty(`--${axis}`, Math.round(room[axis] / 2 - centre[axis] * side));
      loose ||= side > room[axis] + 1;
    }
    stage.style.setProperty("--zoom", zoom);
    stage.classList.add("placed");
    stage.classList.toggle("loose", loose);
    stage.classList.toggle("grainy", zoom >= 2);
  }

  function pan(x, y) {
    centre.x -= x / (width * zoom);
    centre.y -= y / (height * zoom);
    place();
  }

  viewer.addEventListener("change", choose);
  new ResizeObserver(place).observe(stage);

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const panning = stage.classList.contains("loose") && !divider.contains(event.target);
    let last = event;
    const left = stage.getBoundingClientRect().left;
    const move = (now) => {
      if (panning) pan(now.clientX - last.clientX, now.clientY - last.clientY);
      else divide((100 * (now.clientX - left)) / stage.clientWidth);
      last = now;
    };
    // A tap moves the divider too, but not the start of a scroll: the browser cancels that one.
    const end = (now) => {
      if (now.type === "pointerup" && !panning) move(now);
      stage.removeEventListener("pointermove", move);
      stage.removeEventListener("pointerup", end);
      stage.removeEventListener("pointercancel", end);
    };
    stage.setPointerCapture(event.pointerId);
    stage.addEventListener("pointermove", move);
    stage.addEventListener("pointerup", end);
    stage.addEventListener("pointercancel", end);
  });

  divider.addEventListener("keydown", (event) => {
    const to = {
      ArrowLeft: split - 2, ArrowDown: split - 2, ArrowRight: split + 2, ArrowUp: split + 2,
      PageDown: split - 10, PageUp: split + 10, Home: 0, End: 100,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    divide(to);
  });

  stage.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (event.target !== stage || !by || !stage.classList.contains("loose")) return;
    event.preventDefault();
    pan(...by);
  });

  choose();
}
