// Shows the value of the point nearest to the pointer, and keeps showing it while the chart is
// redrawn under it. The text is set as text, never as HTML.
let pointer = null;
function show() {
  const plot = element.querySelector(".chart-plot");
  if (!plot) return;
  const tip = plot.querySelector(".chart-tip");
  const cursor = plot.querySelector(".chart-cursor");
  const box = plot.getBoundingClientRect();
  const inside = pointer && pointer.x >= box.left - 8 && pointer.x <= box.right + 8
    && pointer.y >= box.top - 8 && pointer.y <= box.bottom + 8;
  const points = inside ? JSON.parse(plot.dataset.points || "[]") : [];
  if (!points.length) {
    tip.style.display = cursor.style.display = "none";
    return;
  }
  const x = pointer.x - box.left, y = pointer.y - box.top;
  let best = points[0], least = Infinity;
  for (const point of points) {
    const far = (point[0] * box.width - x) ** 2 + 0.15 * (point[1] * box.height - y) ** 2;
    if (far < least) { least = far; best = point; }
  }
  const left = best[0] * box.width, top = best[1] * box.height;
  tip.textContent = best[2];
  tip.style.display = cursor.style.display = "block";
  cursor.style.left = left + "px";
  cursor.style.top = top + "px";
  tip.style.left = Math.max(0, Math.min(left + 10, box.width - tip.offsetWidth)) + "px";
  tip.style.top = (top > 34 ? top - 32 : top + 12) + "px";
}
element.addEventListener("pointermove", (event) => {
  pointer = { x: event.clientX, y: event.clientY };
  show();
});
element.addEventListener("pointerleave", () => { pointer = null; show(); });
watch("value", show);
