// Charts: plotly is unpacked from the page itself; colors of paper and ink are the style sheet's.
(() => {
  const DASHES = { dash: "5 3", dot: "1.5 2.5", dashdot: "6 2.5 1.5 2.5", longdash: "9 3", longdashdot: "9 2.5 1.5 2.5" };
  const MARKS = {
    diamond: "M12 1 16 5 12 9 8 5Z", square: "M8.5 1.5h7v7h-7Z", "triangle-up": "M12 1 16.5 9h-9Z",
    x: "M9 2l6 6M15 2l-6 6", circle: "M8.5 5a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0Z",
  };
  const charts = [...document.querySelectorAll("script[data-for]")].map((data) => {
    const plot = document.getElementById(data.dataset.for);
    return { plot, legend: plot.parentElement.querySelector(".legend"), figure: JSON.parse(data.textContent) };
  });
  if (!charts.length) return;

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function colors() {
    const [ink, soft, grid, line, panel] = ["--ink", "--soft", "--grid", "--line", "--panel"].map(variable);
    const look = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink };
    look["hoverlabel.bgcolor"] = panel;
    look["hoverlabel.bordercolor"] = line;
    look["hoverlabel.font.color"] = ink;
    for (const axis of ["xaxis", "yaxis"]) {
      look[`${axis}.gridcolor`] = grid;
      look[`${axis}.linecolor`] = line;
      look[`${axis}.tickcolor`] = line;
      look[`${axis}.title.font.color`] = soft;
      look[`${axis}.title.font.size`] = 12;
    }
    return look;
  }

  function drawing(trace) {
    const parts = [];
    const color = trace.line?.color ?? trace.marker?.color;
    const mode = trace.type === "bar" ? "bar" : trace.mode;
    if (mode === "bar") parts.push(`<path d="M7 0h10v10H7Z" fill="${color}"/>`);
    if (mode.includes("lines")) {
      const dash = DASHES[trace.line.dash] ?? "";
      parts.push(`<path d="M0 5h24" stroke="${color}" stroke-width="2" stroke-dasharray="${dash}"/>`);
    }
    if (mode.includes("markers")) {
      const mark = MARKS[trace.marker.symbol ?? "circle"];
      parts.push(`<path d="${mark}" fill="${color}" stroke="${color}"/>`);
    }
    const box = mode.includes("lines") ? "0 0 24 10" : "6 0 12 10";
    return `<svg viewBox="${box}" height="10" aria-hidden="true" fill="none">${parts.join("")}</svg>`;
  }

  // Buttons, because plotly's own legend covers marks on a phone and no key reaches it.
  function addLegend({ plot, legend }) {
    if (plot.data.length < 2) return;
    plot.data.forEach((trace, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.innerHTML = drawing(trace);
      const name = document.createElement("span");
      // Names come escaped for plotly, which takes tags for mark-up; a text node needs them plain.
      name.textContent = trace.name.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
      button.append(name);
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        Plotly.restyle(plot, { visible: shown ? true : "legendonly" }, [index]);
      });
      legend.append(button);
    });
  }

  async function unpack() {
    const packed = document.getElementById("plotly-packed").textContent;
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  async function draw(chart) {
    const { plot, figure } = chart;
    const touch = matchMedia("(pointer: coarse)").matches;
    const narrow = innerWidth < 480;
    const font = { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12 };
    const xaxis = { ...figure.layout.xaxis, ...(narrow ? { nticks: 4 } : {}) };
    const worded = figure.data.some((trace) => trace.textposition === "outside");
    if (narrow && worded) xaxis.range = [0, 1.5 * xaxis.range[1]]; // words beside bars do not shrink
    const layout = { ...figure.layout, xaxis, font, dragmode: touch ? false : "zoom" };
    await Plotly.newPlot(plot, figure.data, layout, { responsive: true, displayModeBar: false });
    await Plotly.relayout(plot, colors());
    addLegend(chart);
    plot.dataset.drawn = "";
  }

  async function start() {
    try {
      await unpack();
      for (const chart of charts) await draw(chart);
    } catch (error) {
      // An old browser: the tables hold the same numbers, so they open.
      console.error(error);
      document.querySelectorAll("main section > details").forEach((details) => { details.open = true; });
      return;
    }
    document.documentElement.addEventListener("themechange", () => {
      for (const { plot } of charts) Plotly.relayout(plot, colors());
    });
    document.documentElement.dataset.charts = "drawn";
  }
  start();
})();
