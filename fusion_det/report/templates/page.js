"use strict";
// Tables: click a head to sort, again to turn round. Empty cells stay below.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "descending" ? false
      : head.getAttribute("aria-sort") === "ascending" ? true : column > 0;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      return (down ? -1 : 1) * (Number(x) - Number(y));
    });
    table.tBodies[0].append(...rows);
  }));
}

// Legends: point at a method, or press it, to see its line alone.
for (const figure of document.querySelectorAll("figure.lines")) {
  let pressed = null;
  const light = (series) => {
    figure.classList.toggle("lit", series !== null);
    for (const line of figure.querySelectorAll(".series")) line.classList.toggle("on", line.classList.contains(series));
  };
  for (const button of figure.querySelectorAll(".legend button")) {
    const series = button.dataset.series;
    button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") light(series); });
    button.addEventListener("pointerleave", () => light(pressed));
    button.addEventListener("click", () => {
      pressed = pressed === series ? null : series;
      for (const other of figure.querySelectorAll(".legend button")) {
        other.setAttribute("aria-pressed", String(other.dataset.series === pressed));
      }
      light(pressed);
    });
  }
}

// Overlays: open large; left and right change the method, up and down the image; Escape closes (the dialog's own).
const dialog = document.querySelector("dialog");
if (dialog) {
  const scenes = [...document.querySelectorAll(".scene")].map((scene) => [...scene.querySelectorAll(".panel")]);
  const view = dialog.querySelector(".box-view");
  const image = view.querySelector("img");
  const text = dialog.querySelector("[data-text]");
  let at = [0, 0];
  const show = (scene, panel) => {
    const row = (scene + scenes.length) % scenes.length;
    at = [row, (panel + scenes[row].length) % scenes[row].length];
    const shown = scenes[at[0]][at[1]];
    const source = shown.querySelector("img");
    image.src = source.src;
    image.alt = source.alt;
    text.textContent = `${shown.dataset.scene} · ${shown.dataset.title}: ${shown.dataset.caption} (${at[1] + 1} of ${scenes[at[0]].length})`;
  };
  scenes.forEach((panels, scene) => panels.forEach((panel, index) => panel.addEventListener("click", () => {
    show(scene, index);
    view.classList.remove("full");
    dialog.showModal();
    dialog.querySelector("[data-close]").focus();
  })));
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  dialog.addEventListener("keydown", (event) => {
    // Enlarged, the arrows scroll.
    if (!(event.key in step) || view.classList.contains("full")) return;
    event.preventDefault();
    show(at[0] + step[event.key][0], at[1] + step[event.key][1]);
  });
  dialog.querySelector("[data-back]").addEventListener("click", () => show(at[0], at[1] - 1));
  dialog.querySelector("[data-next]").addEventListener("click", () => show(at[0], at[1] + 1));
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  image.addEventListener("click", () => view.classList.toggle("full"));
  dialog.addEventListener("close", () => scenes[at[0]][at[1]].focus());
}
