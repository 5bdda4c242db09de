"use strict";

const COLORS = 8; // of terms, in page.css
const SURE_MS = 4000; // in which a second press of the button stops the run
const DECADES = 5; // of the loss that the curve shows below its highest, at most

const at = (id) => document.getElementById(id);
const run = { names: [], points: [] }; // as the server tells of it
const colorOf = (index) => `term-${index % COLORS}`;

const events = new EventSource("events");
events.onmessage = (message) => {
  const { from, points, ...state } = JSON.parse(message.data);
  run.points.length = from;
  run.points.push(...points);
  Object.assign(run, state);
  show();
  if (run.end) events.close();
};
events.onerror = () => say("The connection to the run is lost. Trying again.");

function show() {
  at("title").textContent = run.title;
  if (run.iteration) {
    at("iteration").textContent = `${run.iteration} / ${run.iterations}`;
    at("loss").textContent = shortened(run.now[2]);
    at("rate").textContent = run.rate.toPrecision(3);
    at("eta").textContent = duration(run.end ? run.iteration / run.rate : run.eta);
    at("bar").value = run.share;
  }
  if (run.picture) showPicture();
  at("stop").disabled = !run.iteration || Boolean(run.stopping || run.end);
  showStatus();
  drawCurve();
  listTerms();
}

function showPicture() {
  const image = at("image");
  if (image.src !== run.picture) image.src = run.picture;
  image.alt = run.end ? "The picture that was saved" : `The picture after ${run.iteration} iterations`;
  image.hidden = false;
  at("waiting").hidden = true;
}

function showStatus() {
  const percent = Math.floor(100 * (run.share ?? 0));
  document.title = `${run.end ? run.end.how : `${percent} %`} · ${run.title}`;
  if (run.end) {
    at("status").className = run.end.how;
    at("eta-name").textContent = "Time taken";
    at("bar").hidden = at("stop").hidden = true;
    say(run.end.text[0].toUpperCase() + run.end.text.slice(1) + ".");
  } else if (run.stopping) {
    say("Stopping: the best picture so far is being saved.");
  } else if (!run.iteration) {
    say("Loading");
  } else { // every 10 %, since it is read aloud
    say(percent < 10 ? "Running" : `Running: ${percent - (percent % 10)} % of the work is done`);
  }
}

function say(text) {
  const status = at("status");
  if (status.textContent !== text) status.textContent = text;
}

// The button: a first press asks, a second one stops.

const button = at("stop");
let unsure;
button.addEventListener("click", async () => {
  if (!button.classList.contains("sure")) {
    beSure(true);
    unsure = setTimeout(beSure, SURE_MS, false);
    return;
  }
  clearTimeout(unsure);
  beSure(false);
  button.disabled = true;
  const answer = await fetch("stop", { method: "POST" }).catch(() => null);
  if (!answer?.ok && !run.end) {
    button.disabled = false;
    say("The run did not hear the button. Press Ctrl-C in its terminal.");
  }
});

function beSure(sure) {
  button.classList.toggle("sure", sure);
  button.textContent = sure ? "Press again to stop" : "Stop and keep";
}

// The curve: iterations against the logarithm of the loss and its terms.

function drawCurve() {
  const svg = at("curve");
  const { width, height } = svg.getBoundingClientRect();
  const losses = run.points.map((point) => point[2]).filter((loss) => loss > 0);
  if (!losses.length || !width) return;
  const box = { left: 46, right: width - 8, top: 8, bottom: height - 24 };
  const high = Math.log10(Math.max(...losses)) + 0.05;
  const low = Math.max(high - DECADES, Math.min(...run.points.flatMap(logs)) - 0.05);
  const first = run.points[0][0]; // not 1 where a run goes on from a checkpoint
  const last = Math.max(first + 1, lastIteration());
  const x = (iteration) => box.left + ((iteration - first) / (last - first)) * (box.right - box.left);
  const y = (log) => box.top + ((high - log) / (high - low)) * (box.bottom - box.top);

  svg.replaceChildren(
    ...lossTicks(low, high).flatMap((loss) => {
      const level = y(Math.log10(loss));
      return [
        shape("line", { class: "grid", x1: box.left, x2: box.right, y1: level, y2: level }),
        label(shortened(loss).replace(/\.?0+e/, "e"), { x: box.left - 6, y: level + 4, "text-anchor": "end" }),
      ];
    }),
    ...iterationTicks(first, last, width).map((iteration) =>
      label(iteration, { x: x(iteration), y: height - 6, "text-anchor": x(iteration) > width - 24 ? "end" : "middle" })),
    ...phaseStarts().map((iteration) =>
      shape("line", { class: "phase", x1: x(iteration), x2: x(iteration), y1: box.top, y2: box.bottom })),
    ...run.names.map((_, index) => line(3 + index, colorOf(index), x, y, low)),
    line(2, "total", x, y, low),
  );
  svg.setAttribute("aria-label",
    `Loss on a logarithmic scale, from ${shortened(losses[0])} to ${shortened(losses.at(-1))}`);
}

// The right end of the curve: near what is done, so that it fills the width from the beginning.
function lastIteration() {
  if (run.end) return run.iteration;
  return Math.min(run.iterations, Math.max(30, Math.ceil(1.25 * run.iteration)));
}

function logs(point) {
  return point.slice(2).filter((value) => value > 0).map(Math.log10);
}

// A column of the points as a path: lifted where a phase begins, and below what is shown.
function line(column, name, x, y, low) {
  let path = "", phase, drawing = false;
  for (const point of run.points) {
    const log = Math.log10(point[column] ?? 0);
    if (Number.isFinite(log) && log >= low) {
      const place = `${x(point[0]).toFixed(1)} ${y(log).toFixed(1)}`;
      path += drawing && point[1] === phase ? `L${place}` : `M${place}h0`; // h0: a dot, if it is alone
      drawing = true;
    } else {
      drawing = false;
    }
    phase = point[1];
  }
  return shape("path", { class: name, d: path });
}

function phaseStarts() {
  return run.points.filter((point, index) => index && point[1] !== run.points[index - 1][1]).map((point) => point[0]);
}

function lossTicks(low, high) {
  const steps = high - low > 1.5 ? [1] : high - low > 0.4 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const ticks = [];
  for (let decade = Math.floor(low); decade <= high; decade++) {
    ticks.push(...steps.map((step) => step * 10 ** decade));
  }
  return ticks.filter((loss) => Math.log10(loss) >= low && Math.log10(loss) <= high);
}

function iterationTicks(first, last, width) {
  const least = ((last - first + 1) * 70) / width;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= least));
  const ticks = [first];
  for (let tick = step; tick <= last; tick += step) if (tick > first + step / 2) ticks.push(tick);
  return ticks;
}

function shape(kind, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function label(text, attributes) {
  const made = shape("text", attributes);
  made.textContent = text;
  return made;
}

new ResizeObserver(drawCurve).observe(at("curve"));

// The terms now, which are the curve's legend as well.

function listTerms() {
  if (!run.now) return;
  const loss = run.now[2];
  const rows = run.names.map((name, index) => [name, run.now[3 + index], colorOf(index)]);
  at("terms").replaceChildren(...[["total", loss, "total"], ...rows].map(([name, value, color]) => {
    const row = document.createElement("tr");
    row.className = name === "total" ? "total" : "";
    const head = document.createElement("th");
    head.scope = "row";
    const swatch = document.createElement("span");
    swatch.className = `swatch ${color}`;
    head.append(swatch, name);
    row.append(head, cell(shortened(value)), cell(percentOf(value, loss)));
    return row;
  }));
}

function cell(text) {
  const made = document.createElement("td");
  made.textContent = text;
  return made;
}

// Numbers as people read them.

function percentOf(value, whole) {
  return value === null || !(whole > 0) ? "–" : `${((100 * value) / whole).toFixed(1)} %`;
}

function shortened(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-2 && size < 1e4) return String(Number(value.toPrecision(4)));
  return value.toExponential(2).replace("e+", "e");
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  return `${Math.floor(whole / 3600)}:${parts.join(":")}`;
}
