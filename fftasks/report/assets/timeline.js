// The timeline: a bar for each stage and node, packed into as few lanes as it takes.
"use strict";

const LANE = 24; // pixels from one lane to the next
const TOP = 20; // pixels for the times above the lanes
const WAITS = ["driver", "queue", "pull", "between", "run"];
const MOST_BARS = 3000; // more are shorter than a pixel, and are left out

function drawTimeline(box, tasks, path, choose) {
  const timed = tasks.filter((task) => task.begin != null).sort((one, other) => one.begin - other.begin);
  const begin = Math.min(...timed.slice(0, 1).map((task) => task.begin));
  const end = timed.reduce((latest, task) => Math.max(latest, reach(task)), begin);
  const whole = Math.max(end - begin, 1e-3);
  const share = (seconds) => `${(100 * seconds) / whole}%`;
  const marked = new Set(path);
  const lanes = []; // when each lane is free again
  const bars = [];
  const least = timed.length > MOST_BARS ? whole / 2000 : 0;
  let hidden = 0;
  for (const task of timed) {
    const length = (task.end ?? end) - task.begin;
    if (length < least && !marked.has(task.name) && task.state !== "failed") {
      hidden += 1;
      continue;
    }
    let lane = lanes.findIndex((free) => free <= task.begin + 1e-6);
    if (lane < 0) lane = lanes.length;
    lanes[lane] = task.begin + Math.max(length, whole / 400);
    bars.push(makeBar(task, lane, share, begin, end, marked.has(task.name), choose));
  }
  box.style.height = `${TOP + lanes.length * LANE + 4}px`;
  box.replaceChildren(...makeTicks(whole, share), ...bars);
  return { count: timed.length, hidden, seconds: timed.length ? whole : 0 };
}

function makeBar(task, lane, share, begin, end, isOnPath, choose) {
  const length = (task.end ?? end) - task.begin;
  const bar = make("button", { type: "button", className: isOnPath ? "path" : "" });
  bar.title = `${task.name.slice(0, 200)}: ${task.state}, ${formatSeconds(length)}${isOnPath ? ", on the longest path" : ""}`;
  bar.style.setProperty("--state", STATES[task.state].colour);
  Object.assign(bar.style, { left: share(task.begin - begin), width: share(length), top: `${TOP + lane * LANE}px` });
  for (const phase of task.phases) { // what is striped is waiting: queue, pull, start
    const piece = make("i", { title: phase.name, className: nameWait(phase.name) });
    piece.style.left = `${(100 * (phase.begin - task.begin)) / length}%`;
    piece.style.width = `${(100 * (phase.end - phase.begin)) / length}%`;
    bar.append(piece);
  }
  bar.append(make("span", { textContent: task.name.slice(0, 80) }));
  bar.addEventListener("click", () => choose(task));
  return bar;
}

// Until when a task is known to have gone on.
function reach(task) {
  if (task.end != null) return task.end;
  const now = data.live ? Date.now() / 1000 : 0;
  return Math.max(now, task.begin, ...task.phases.map((phase) => phase.end));
}

// The class of a part of a bar: each kind of waiting has its own stripes.
function nameWait(name) {
  return WAITS.includes(name) ? name : name.startsWith("queue, pull") ? "queue" : "other";
}

function makeTicks(whole, share) {
  const rough = whole / 8;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let at = 0; at <= whole; at += step) {
    const tick = make("span", { className: "tick", textContent: formatSeconds(at) });
    tick.style.left = share(at);
    ticks.push(tick);
  }
  return ticks;
}
