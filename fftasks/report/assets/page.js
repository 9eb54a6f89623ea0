// The page of a run. All that comes from the run is set as text, never as markup.
"use strict";

let data = JSON.parse(document.getElementById("data").textContent);
let STATES = data.states;
let byName = new Map();
let shown = ""; // the task of the details, as they have it
const $ = (selector) => document.querySelector(selector);
const table = new Table($("#table"), (task) => chooseTask(task));

function make(tag, properties = {}, children = []) {
  const element = document.createElement(tag);
  const { role, ...others } = properties;
  if (role) element.setAttribute("role", role);
  Object.assign(element, others);
  element.append(...children);
  return element;
}

function showState(word, text = word) {
  const state = make("span", { className: "state", textContent: `${STATES[word].sign} ${text}` });
  state.style.setProperty("--state", STATES[word].colour);
  return state;
}

function formatSeconds(seconds) {
  if (seconds == null) return "";
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${(seconds / 3600).toFixed(1)} h`;
}

function formatValue(value) {
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value);
}

function formatTime(seconds) {
  return seconds == null ? "" : new Date(seconds * 1000).toLocaleString();
}

function draw() {
  STATES = data.states;
  byName = new Map(data.tasks.map((task) => [task.name, task]));
  document.title = data.title;
  drawHead();
  drawFailures();
  drawGraph();
  drawTimes();
  drawStates();
  filter();
  drawHistory();
  if (byName.has(table.chosen)) drawDetails(byName.get(table.chosen));
}

function drawHead() {
  const run = data.run;
  say(data.notice);
  $("#title").replaceChildren(showState(run.state, ""), data.title);
  const facts = [run.where, formatTime(run.begin), run.end ? formatSeconds(run.end - run.begin) : "", run.command];
  $("#facts").replaceChildren(facts.filter(Boolean).join(" · "));
  for (const [name, value] of Object.entries(run.parameters)) $("#facts").append(` · ${name} = ${value}`);
  if (run.link) $("#facts").append(" · ", makeLink(run.link, "its page on Kubeflow Pipelines"));
  const counts = new Map();
  for (const task of data.tasks) counts.set(task.state, (counts.get(task.state) ?? 0) + 1);
  const ordered = STATE_ORDER.filter((word) => counts.has(word));
  $("#counts").replaceChildren(...ordered.map((word) => showState(word, `${counts.get(word)} ${word}`)));
}

function say(text) {
  $("#away").hidden = !text;
  $("#away").textContent = text;
}

function makeLink(address, text) {
  return /^https?:/.test(address) ? make("a", { href: address, textContent: text, rel: "noreferrer" }) : text;
}

function drawFailures() {
  const failed = data.tasks.filter((task) => task.state === "failed");
  $("#failures").hidden = !failed.length;
  $("#failures ul").replaceChildren(...failed.slice(0, 20).map((task) => {
    const button = make("button", { type: "button", textContent: "details and log" });
    button.addEventListener("click", () => chooseTask(task, true));
    const error = make("pre", { textContent: task.error.slice(0, 4000) });
    return make("li", {}, [make("strong", { textContent: `${task.name} ` }), button, error]);
  }));
  if (failed.length > 20) $("#failures ul").append(make("li", { textContent: `and ${failed.length - 20} more` }));
}

function drawGraph() {
  const place = $("#graph .scroll");
  if (place.dataset.drawn !== data.graph.svg) {
    place.dataset.drawn = data.graph.svg;
    const picture = new DOMParser().parseFromString(data.graph.svg || "<none/>", "image/svg+xml").documentElement;
    place.replaceChildren(...(picture.localName === "svg" ? [document.importNode(picture, true)] : []));
    for (const [key, names] of Object.entries(data.graph.shapes)) prepareShape(document.getElementById(key), names);
    const svg = place.firstElementChild; // a little too wide is made to fit, much too wide is scrolled
    if (svg && svg.clientWidth < 1.6 * place.clientWidth) svg.style.maxWidth = "100%";
  }
  $("#graph .note").textContent = data.graph.note;
  $("#graph").hidden = !data.graph.svg && !data.graph.note;
}

function prepareShape(shape, names) {
  if (!shape) return;
  shape.setAttribute("tabindex", "0");
  shape.setAttribute("role", "button");
  shape.setAttribute("aria-label", names.length > 1 ? `${names.length} nodes` : names[0]);
  const open = () => {
    if (names.length === 1) return chooseTask(byName.get(names[0]), true);
    $("#search").value = byName.get(names[0])?.function ?? "";
    filter();
    $("#table").scrollIntoView({ block: "nearest" });
  };
  shape.addEventListener("click", open);
  shape.addEventListener("keydown", (event) => event.key === "Enter" && open());
}

function drawTimes() {
  const drawn = drawTimeline($("#time .bars"), data.tasks, data.path, (task) => chooseTask(task, true));
  $("#time").hidden = !drawn.count;
  const left = drawn.hidden ? ` ${drawn.hidden} bars are too short to be seen.` : "";
  const steps = data.path.map((name) => byName.get(name)).filter(Boolean);
  $("#time .note").textContent = `${drawn.count} stages and nodes took part, within ${formatSeconds(drawn.seconds)}.${left}`
    + (steps.length ? " The longest path, which a shorter run must shorten, has a frame." : "");
  const waits = [...new Set(data.tasks.flatMap((task) => task.phases.map((phase) => phase.name)))];
  drawSpent();
  $("#legend").replaceChildren(...[...new Set(data.tasks.filter((task) => task.begin != null).map((task) => task.state))]
    .map((word) => showState(word)), ...waits.map((name) => 
    make("span", { className: "wait" }, [make("i", { className: nameWait(name) }), name])));
  $("#path").replaceChildren(...steps.slice(0, 50).map((task) => {
    const waits = Object.entries(listParts(task)).map(([name, seconds]) => `${name} ${formatSeconds(seconds)}`);
    const took = task.end == null ? "" : formatSeconds(task.end - task.begin);
    const name = make("bdi", { textContent: task.name }); // what turns its letters round ends with it
    return make("li", {}, [name, ...[took, ...waits].filter(Boolean).map((text) => ` · ${text}`)]);
  }));
}

// What the time of a task was for: its waits, and what is left.
function listParts(task) {
  const parts = Object.fromEntries(task.phases.map((phase) => [phase.name, phase.end - phase.begin]));
  const waited = Object.values(parts).reduce((sum, seconds) => sum + seconds, 0);
  const rest = task.end == null || !task.phases.length ? 0 : task.end - task.begin - waited;
  return rest > 0 ? { ...parts, run: rest } : parts;
}

// What the time along the longest path was for, the largest part first.
function drawSpent() {
  const parts = Object.entries(data.path_seconds).sort(([, one], [, other]) => other - one);
  const whole = parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  $("#longest").textContent = parts.length ? `The longest path took ${formatSeconds(whole)}:` : "";
  $("#path-seconds").replaceChildren(...parts.flatMap(([name, seconds]) => {
    const bar = make("i", { className: nameWait(name) });
    bar.style.width = `${(100 * seconds) / whole}%`;
    const share = `${formatSeconds(seconds)} · ${Math.round((100 * seconds) / whole)} %`;
    const title = name === "between" ? "between, waiting for its turn" : name;
    return [make("dt", { textContent: title }), make("dd", {}, [make("span", { textContent: share }), make("div", {}, [bar])])];
  }));
}

function drawStates() {
  const words = STATE_ORDER.filter((word) => data.tasks.some((task) => task.state === word));
  const now = $("#state").value;
  const options = ["", ...words].map((word) => make("option", { value: word, textContent: word || "all" }));
  $("#state").replaceChildren(...options);
  $("#state").value = words.includes(now) ? now : "";
}

function filter() {
  table.show(data.tasks, $("#search").value, $("#state").value);
  $("#found").textContent = `${table.shown.length} of ${data.tasks.length}`;
}

function chooseTask(task, withTable = false) {
  if (!task) return;
  if (withTable && !table.shown.includes(task)) {
    $("#search").value = "";
    $("#state").value = "";
    filter();
  }
  table.reveal(task.name);
  drawDetails(task);
  for (const [key, names] of Object.entries(data.graph.shapes)) {
    document.getElementById(key)?.classList.toggle("chosen", names.includes(task.name));
  }
  history.replaceState(null, "", `#${encodeURIComponent(task.name)}`);
  if (withTable) $("#details").scrollIntoView({ block: "nearest" });
}

function drawDetails(task) {
  const drawn = JSON.stringify(task);
  if (drawn === shown && !$("#details").hidden) return; // a frame that is made again flickers
  shown = drawn;
  const close = make("button", { type: "button", textContent: "close" });
  close.setAttribute("aria-label", "close details");
  close.addEventListener("click", closeDetails);
  const parts = [make("header", {}, [make("h2", { textContent: task.name }), close])];
  parts.push(make("p", {}, [showState(task.state), ` ${task.reason}`]));
  parts.push(makeList({
    Function: [task.function, task.place].filter(Boolean).join(" in "), Workflow: task.workflow, Made: task.line, Type: task.kind,
    Needs: task.upstream.join(", "), Began: formatTime(task.begin), Took: formatSeconds(task.seconds),
    ...Object.fromEntries(Object.entries(listParts(task)).map(([name, seconds]) => [name, formatSeconds(seconds)])),
  }));
  if (task.link) parts.push(make("p", {}, [makeLink(task.link, "on Kubeflow Pipelines")]));
  addPart(parts, "Error", task.error);
  addPart(parts, "Result", task.preview);
  addList(parts, "Metrics", task.metrics);
  if (!task.documents.some((document) => document.title === "Text")) addPart(parts, "Text", task.text);
  for (const document of task.documents) parts.push(...showDocument(task, document));
  for (const picture of task.pictures) {
    if (picture.startsWith("data:image/")) parts.push(make("img", { src: picture, alt: `picture of ${task.name}` }));
  }
  addList(parts, "Arguments", task.arguments);
  addList(parts, "Settings", task.settings);
  addPart(parts, "Log", task.log, "log");
  const box = $("#details");
  const places = [box, ...box.querySelectorAll("pre")].map((element) => element.scrollTop);
  box.replaceChildren(...parts);
  box.hidden = false;
  if (box.dataset.name === task.name) { // who is reading goes on where they were
    [box, ...box.querySelectorAll("pre")].forEach((element, index) => { element.scrollTop = places[index] ?? 0; });
  }
  box.dataset.name = task.name;
}

// A document of a result: in a frame without rights; saved and opened by itself, its scripts run as well.
function showDocument(task, document) {
  const frame = make("iframe", { srcdoc: document.html, title: `${document.title} of ${task.name}` });
  frame.setAttribute("sandbox", "");
  const name = `${task.name}.html`.replaceAll(/[^\w.-]+/g, "-");
  const save = make("a", { download: name, href: `data:text/html;charset=utf-8,${encodeURIComponent(document.html)}`, textContent: "save" });
  return [make("h3", {}, [`${document.title} `, save]), frame];
}

function closeDetails() {
  $("#details").hidden = true;
  table.reveal("");
  history.replaceState(null, "", " ");
  $("#table").focus();
}

function addPart(parts, title, text, name = title.toLowerCase()) {
  if (text) parts.push(make("h3", { textContent: title }), make("pre", { className: name, textContent: text }));
}

function addList(parts, title, values) {
  if (Object.keys(values).length) parts.push(make("h3", { textContent: title }), makeList(values));
}

function makeList(values) {
  const filled = Object.entries(values).filter(([, value]) => value !== "");
  return make("dl", {}, filled.flatMap(([name, value]) => [
    make("dt", { textContent: name || "value" }), make("dd", { textContent: String(value) })]));
}

function drawHistory() {
  const runs = data.history;
  $("#history").hidden = runs.length < 2;
  const names = [...new Set(runs.flatMap((run) => [...Object.keys(run.parameters), ...Object.keys(run.metrics)]))].slice(0, 12);
  const head = make("tr", {}, ["Run", "State", "Began", "Time", "Ran", ...names].map((text) =>
    make("th", { scope: "col", textContent: text })));
  const rows = runs.map((run) => make("tr", {}, [
    make("th", { scope: "row", textContent: run.name }), make("td", {}, [showState(run.state)]),
    ...[formatTime(run.begin), formatSeconds(run.seconds), String(run.ran),
      ...names.map((name) => formatValue(run.parameters[name] ?? run.metrics[name] ?? ""))]
      .map((text) => make("td", { textContent: text }))]));
  $("#history table").replaceChildren(make("thead", {}, [head]), make("tbody", {}, rows));
}

// On the board the page requests its data every second, and says when the board does not answer. The board's token
// is in the address of the page.
async function follow() {
  let mark = "";
  for (;;) {
    await new Promise((done) => setTimeout(done, 1000));
    try {
      const answer = await fetch(`data.json${location.search}`, { headers: mark ? { "If-None-Match": mark } : {}, cache: "no-store" });
      say(data.notice);
      if (answer.status !== 200) continue;
      mark = answer.headers.get("ETag") ?? "";
      data = await answer.json();
      draw();
    } catch {
      say("doit board has ended: this is how it was.");
    }
  }
}

$("#search").addEventListener("input", filter);
$("#state").addEventListener("change", filter);
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    $("#search").focus();
  }
  if (event.key === "Escape" && !$("#details").hidden) closeDetails();
});
draw();
chooseTask(byName.get(decodeURIComponent(location.hash.slice(1))));
if (data.live) follow();
