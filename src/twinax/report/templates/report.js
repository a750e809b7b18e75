// Draws each chart from the JSON beside it, in the colours that the reader's mode gives the page.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const plots = [...document.querySelectorAll(".plot")];

function coloured(layout) {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim();
  const line = style.getPropertyValue("--line").trim();
  const page = style.getPropertyValue("--card").trim();
  const axes = Object.keys(layout).filter((key) => /^[xy]axis/.test(key));
  const changes = {
    font: { ...layout.font, color: text },
    hoverlabel: { bgcolor: page, bordercolor: line, font: { color: text } },
    annotations: (layout.annotations || []).map((a) => ({ ...a, font: { ...a.font, color: text, size: 11 } })),
  };
  for (const key of axes) {
    changes[key] = { ...layout[key], gridcolor: line, linecolor: line, zerolinecolor: line };
  }
  return { ...layout, ...changes };
}

// What each colour means, as text that wraps; only where there is more than one.
function legend(plot, data) {
  const box = plot.parentElement.querySelector(".legend");
  const named = data.filter((trace) => trace.name && trace.showlegend !== false);
  box.replaceChildren(...(named.length > 1 ? named : []).map((trace) => {
    const entry = document.createElement("span");
    const swatch = document.createElement("i");
    swatch.style.background = (trace.line && trace.line.color) || trace.marker.color;
    swatch.style.opacity = trace.marker?.opacity ?? 1;
    entry.append(swatch, trace.name);
    return entry;
  }));
}

async function draw(plot) {
  const { data, layout } = JSON.parse(document.getElementById(plot.id.replace("plot-", "data-")).textContent);
  legend(plot, data);
  return Plotly.react(plot, data, coloured(layout), { displayModeBar: false, responsive: true });
}

// One chart that fails leaves the others alone, and is told.
async function drawAll() {
  const ended = await Promise.allSettled(plots.map(draw));
  ended.filter((end) => end.status === "rejected").forEach((end) => console.error(end.reason));
  document.documentElement.dataset.drawn = ended.filter((end) => end.status === "fulfilled").length;
}

drawAll();
dark.addEventListener("change", drawAll);
