const pictures = [...document.querySelectorAll("main svg")].map(s => [s, s.viewBox.baseVal.width, s.viewBox.baseVal.height]);
let zoom = 1;
function show(z) {
  zoom = Math.min(8, Math.max(0.05, z));
  for (const [s, w, h] of pictures) { s.setAttribute("width", w * zoom); s.setAttribute("height", h * zoom); }
}
document.getElementById("in").onclick = () => show(zoom * 1.25);
document.getElementById("out").onclick = () => show(zoom / 1.25);
const fitting = () => pictures[0][0].parentElement.clientWidth / pictures[0][1];
document.getElementById("fit").onclick = () => show(fitting());
show(Math.min(1, fitting()));
addEventListener("wheel", e => {
  if (e.ctrlKey) { e.preventDefault(); show(zoom * Math.exp(-e.deltaY / 400)); }
}, {passive: false});
for (const row of document.querySelectorAll(".row")) {
  const id = row.dataset.row, near = row.ownerSVGElement.querySelectorAll(`[data-from="${id}"],[data-to="${id}"]`);
  row.onmouseenter = () => near.forEach(edge => edge.classList.add("on"));
  row.onmouseleave = () => near.forEach(edge => edge.classList.remove("on"));
}
