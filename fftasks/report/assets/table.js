// A table of many rows: only those that are seen are in the document, so that 5,000 scroll as ten do.
"use strict";

const ROW = 30; // pixels; page.css has the same
const MARGIN = 8; // rows above and below what is seen

const COLUMNS = [
  { title: "State", text: (task) => task.state, value: (task) => STATE_ORDER.indexOf(task.state) },
  { title: "Name", text: (task) => task.name, value: (task) => task.name.toLowerCase() },
  { title: "Function", text: (task) => task.function, value: (task) => task.function },
  { title: "Why", text: (task) => task.reason, value: (task) => task.reason },
  { title: "Time", text: (task) => formatSeconds(task.seconds), value: (task) => task.seconds ?? -1, number: true },
  { title: "Result", text: (task) => task.preview, value: (task) => task.preview },
];
const STATE_ORDER = ["failed", "running", "canceled", "will run", "waiting", "skipped", "ran", "cached", "up to date"];

class Table {
  // box: the element; choose(task): what a click or Enter does
  constructor(box, choose) {
    this.box = box;
    this.choose = choose;
    this.tasks = [];
    this.shown = [];
    this.sorted = { column: -1, down: false };
    this.chosen = "";
    this.head = this.box.appendChild(make("div", { className: "row head", role: "row" }));
    this.body = this.box.appendChild(make("div", { className: "body", role: "rowgroup" }));
    COLUMNS.forEach((column, index) => {
      const cell = make("div", { role: "columnheader", className: column.number ? "number" : "" });
      const button = make("button", { type: "button", textContent: column.title });
      button.addEventListener("click", () => this.sort(index));
      cell.append(button);
      this.head.append(cell);
    });
    this.box.addEventListener("scroll", () => this.draw());
    this.box.addEventListener("keydown", (event) => this.move(event));
    window.addEventListener("resize", () => this.draw());
    window.addEventListener("beforeprint", () => this.draw(true));
    window.addEventListener("afterprint", () => this.draw());
  }

  show(tasks, words, state) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    this.tasks = tasks;
    this.shown = tasks.filter((task) => {
      if (state && task.state !== state) return false;
      task.haystack ??= [task.name, task.function, task.reason, task.state, task.preview, task.workflow, task.error]
        .join(" ").toLowerCase();
      return wanted.every((word) => task.haystack.includes(word));
    });
    this.arrange();
  }

  sort(index) {
    const again = this.sorted.column === index;
    this.sorted = { column: index, down: again ? !this.sorted.down : Boolean(COLUMNS[index].number) };
    this.arrange();
  }

  arrange() {
    const { column, down } = this.sorted;
    if (column >= 0) {
      const value = COLUMNS[column].value;
      const order = (one, other) => (value(one) < value(other) ? -1 : value(one) > value(other) ? 1 : 0);
      this.shown.sort((one, other) => (down ? -order(one, other) : order(one, other)));
    }
    [...this.head.children].forEach((cell, index) => {
      const direction = index !== column ? "none" : down ? "descending" : "ascending";
      cell.setAttribute("aria-sort", direction);
      cell.firstChild.textContent = COLUMNS[index].title + { none: "", ascending: " ▲", descending: " ▼" }[direction];
    });
    this.draw();
  }

  draw(all = false) {
    const first = all ? 0 : Math.max(0, Math.floor(this.box.scrollTop / ROW) - MARGIN);
    const last = all ? this.shown.length : first + Math.ceil(this.box.clientHeight / ROW) + 2 * MARGIN;
    this.body.style.height = `${this.shown.length * ROW}px`;
    this.box.setAttribute("aria-rowcount", String(this.shown.length));
    this.body.replaceChildren(...this.shown.slice(first, last).map((task, index) => this.makeRow(task, first + index)));
  }

  makeRow(task, index) {
    const row = make("div", { className: task.name === this.chosen ? "row chosen" : "row", role: "row" });
    row.style.top = `${index * ROW}px`;
    row.setAttribute("aria-rowindex", String(index + 1));
    row.setAttribute("aria-selected", String(task.name === this.chosen));
    row.dataset.name = task.name;
    row.append(make("div", { role: "cell" }, [showState(task.state)]));
    for (const column of COLUMNS.slice(1)) {
      const text = column.text(task).slice(0, 300);
      row.append(make("div", { role: "cell", className: column.number ? "number" : "", textContent: text, title: text }));
    }
    row.addEventListener("click", () => this.choose(task));
    return row;
  }

  move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -1e9, End: 1e9 }[event.key];
    if (!step || !this.shown.length || event.target.closest(".head")) return;
    event.preventDefault();
    const now = this.shown.findIndex((task) => task.name === this.chosen);
    const next = Math.min(this.shown.length - 1, Math.max(0, now + step));
    this.choose(this.shown[next]);
  }

  reveal(name) {
    this.chosen = name;
    const index = this.shown.findIndex((task) => task.name === name);
    const [top, height] = [index * ROW, this.box.clientHeight - 2 * ROW];
    if (index >= 0 && (top < this.box.scrollTop || top > this.box.scrollTop + height)) this.box.scrollTop = top - height / 2;
    this.draw();
  }
}
