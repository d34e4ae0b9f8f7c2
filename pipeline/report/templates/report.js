"use strict";
// Draws the plots that the page describes as JSON, in the page's own colours, and again when those or the width change.

const DASHES = [[], [9, 5], [2, 4], [9, 4, 2, 4]];
const HEIGHT = 320;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const lineColour = (line) => colour("--line-" + (line.colour % 6));
const dashOf = (line) => DASHES[line.dash % DASHES.length];

// A circle, square, triangle or diamond: the form tells freezes apart where colour does not.
function marker(context, form, x, y, size) {
  context.beginPath();
  if (form === 0) context.arc(x, y, size, 0, 2 * Math.PI);
  else if (form === 1) context.rect(x - size, y - size, 2 * size, 2 * size);
  else if (form === 2) {
    context.moveTo(x, y - 1.2 * size);
    context.lineTo(x + 1.1 * size, y + size);
    context.lineTo(x - 1.1 * size, y + size);
  } else {
    context.moveTo(x, y - 1.4 * size);
    context.lineTo(x + 1.4 * size, y);
    context.lineTo(x, y + 1.4 * size);
    context.lineTo(x - 1.4 * size, y);
  }
  context.closePath();
  context.fill();
}

function drawMarkers(chart, index, line) {
  if (line.values.length > 60) return;
  const context = chart.ctx, ratio = uPlot.pxRatio;
  context.save();
  context.fillStyle = lineColour(line);
  line.values.forEach((value, place) => {
    if (value === null) return;
    const x = chart.valToPos(chart.data[0][place], "x", true), y = chart.valToPos(value, "y", true);
    marker(context, line.dash % 4, x, y, 3.2 * ratio);
  });
  context.restore();
}

const words = (value) => value === null || value === undefined ? "" : Number(value.toPrecision(4)).toString();

// Series 0 is x; of each line its mean, then the edges of its band where it has one.
function seriesOf(plot) {
  const series = [{}], data = [plot.x], bands = [], places = [];
  plot.lines.forEach((line) => {
    const stroke = lineColour(line);
    places.push([series.length]);
    series.push({ label: line.name, stroke, width: 2, dash: dashOf(line), spanGaps: true, points: { show: false } });
    data.push(line.values);
    if (!line.low.length) return;
    places[places.length - 1].push(series.length, series.length + 1);
    bands.push({ series: [series.length + 1, series.length], fill: stroke + "26" });
    for (const edge of [line.low, line.high]) {
      series.push({ label: "", stroke: "transparent", width: 0, spanGaps: true, points: { show: false } });
      data.push(edge);
    }
  });
  return { series, data, bands, places };
}

function axes(plot) {
  const stroke = colour("--faint"), grid = { stroke: colour("--rule"), width: 1 };
  const common = { stroke, grid, ticks: grid, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif" };
  const powers = (_, splits) => splits.map((value) => Number.isInteger(Math.log10(value)) ? words(value) : null);
  const y = { ...common, label: plot.y_label, size: 58, labelSize: 20 };
  if (plot.is_log) Object.assign(y, { filter: (_, splits) => splits.map((one) =>
    Math.abs(Math.log10(one) - Math.round(Math.log10(one))) < 1e-9 ? one : null), values: powers, size: 66 });
  const few = plot.x.length <= 12 ? { splits: () => spaced(plot.x) } : {};
  return [{ ...common, ...few, label: plot.x_label, labelSize: 18, size: 32 }, y];
}

// The x that were measured, without those that would stand on each other.
function spaced(x) {
  const least = (x[x.length - 1] - x[0]) / 12, kept = [];
  x.forEach((value) => { if (!kept.length || value - kept[kept.length - 1] >= least) kept.push(value); });
  return kept;
}

function draw(plot, place) {
  const { series, data, bands, places } = seriesOf(plot);
  const outputs = [];
  const ends = [plot.x[0], plot.x[plot.x.length - 1]], pad = (ends[1] - ends[0]) * 0.02 || 1;
  const options = {
    width: place.clientWidth, height: HEIGHT, series, bands, axes: axes(plot), legend: { show: false },
    scales: {
      x: { time: false, range: (_, low, high) => low <= ends[0] && high >= ends[1] ? [low - pad, high + pad] : [low, high] },
      y: plot.range ? { range: plot.range } : plot.is_log ? { distr: 3 } : { range: (_, low, high) => [0, high * 1.05 || 1] },
    },
    cursor: { y: false, points: { show: false } },
    hooks: {
      drawSeries: [(chart, index) => {
        const at = places.findIndex((one) => one[0] === index);
        if (at >= 0 && chart.series[index].show) drawMarkers(chart, index, plot.lines[at]);
      }],
      setCursor: [(chart) => outputs.forEach((output, at) => {
        const index = chart.cursor.idx;
        output.textContent = index === null || index === undefined ? "" : words(plot.lines[at].values[index]);
      })],
    },
  };
  place.replaceChildren();
  const chart = new uPlot(options, data, place);
  place.prepend(legend(plot, chart, places, outputs));
  place.dataset.drawn = String(plot.lines.length);
  return chart;
}

// A button per line with its colour, dashes and marker: shows and hides it, and tells its value under the cursor.
function legend(plot, chart, places, outputs) {
  const list = document.createElement("div");
  list.className = "legend";
  plot.lines.forEach((line, at) => {
    const button = document.createElement("button"), output = document.createElement("output");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(swatch(line), line.name, output);
    button.addEventListener("click", () => {
      const isShown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(isShown));
      places[at].forEach((index) => chart.setSeries(index, { show: isShown }));
    });
    outputs.push(output);
    list.append(button);
  });
  return list;
}

function swatch(line) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = 80;
  canvas.height = 24;
  canvas.style.cssText = "width:40px;height:12px;flex:none";
  context.strokeStyle = context.fillStyle = lineColour(line);
  context.lineWidth = 4;
  context.setLineDash(dashOf(line).map((one) => 2 * one));
  context.beginPath();
  context.moveTo(0, 12);
  context.lineTo(80, 12);
  context.stroke();
  if (line.values.length <= 60) marker(context, line.dash % 4, 40, 12, 6);
  return canvas;
}

const plots = JSON.parse(document.getElementById("plots").textContent);
const charts = new Map();

function drawAll() {
  plots.forEach((plot) => {
    const place = document.getElementById("plot-" + plot.name);
    charts.get(plot.name)?.destroy();
    charts.set(plot.name, draw(plot, place));
  });
}

function fit() {
  plots.forEach((plot) => {
    const chart = charts.get(plot.name), width = document.getElementById("plot-" + plot.name).clientWidth;
    if (width && chart.width !== width) chart.setSize({ width, height: HEIGHT });
  });
}

drawAll();
window.addEventListener("resize", fit);
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", drawAll);
