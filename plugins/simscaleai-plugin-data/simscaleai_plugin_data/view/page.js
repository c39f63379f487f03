// The line under the pointer, and the values there beside the names.
"use strict";
for (const chart of document.querySelectorAll(".chart")) {
  const cursor = chart.querySelector(".cursor");
  const area = chart.querySelector(".lines");
  const length = Number(chart.dataset.length);
  const name = chart.querySelector(".axis-name b");
  const resting = name.textContent;
  const curves = [...chart.querySelectorAll("g[data-low]")].map((group) => {
    const points = [...group.querySelectorAll("polyline")].flatMap((line) =>
      line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number)));
    const low = Number(group.dataset.low), high = Number(group.dataset.high);
    return { points, value: (y) => low + (high - low) * (1 - y / 100),
             shown: chart.querySelector("#" + group.dataset.shown) };
  });
  const nearest = (points, x) => {
    let first = 0, last = points.length - 1;
    while (last - first > 1) {
      const middle = (first + last) >> 1;
      if (points[middle][0] < x) first = middle; else last = middle;
    }
    return x - points[first][0] < points[last][0] - x ? points[first] : points[last];
  };
  const show = (event) => {
    const box = area.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    if (part < 0 || part >= 1) { hide(); return; }
    const step = Math.floor(part * length);
    const x = (step + 0.5) / length * 1000;
    cursor.style.display = "block";
    cursor.style.left = x / 10 + "%";
    name.textContent = "timestep " + step;
    for (const { points, value, shown } of curves) {
      const point = points.length ? nearest(points, x) : [Infinity];
      const near = Math.abs(point[0] - x) <= Math.max(4, 500 / length);
      shown.textContent = near ? Number(value(point[1]).toPrecision(3)) : "";
    }
  };
  const hide = () => {
    cursor.style.display = "none";
    name.textContent = resting;
    for (const { shown } of curves) shown.textContent = "";
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerleave", hide);
}
