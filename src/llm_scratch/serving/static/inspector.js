// The inspector: the selected number, its formula, the lines of code that computed it, and the view as a table.

import { fill, h, path, save } from "./dom.js";
import { savePicture } from "./picture.js";

const OPEN = new Set(["code"]);
let shownTable = null;

const remembered = (name, summary, ...content) =>
  h("details", { open: OPEN.has(name), ontoggle: (event) => (event.target.open ? OPEN.add(name) : OPEN.delete(name)) }, h("summary", {}, summary), ...content);

export function renderInspector(el, reading, data) {
  shownTable = reading.table;
  const source = data.facts.sources[reading.source];
  fill(
    el,
    h("div", {}, h("h2", {}, reading.label), h("p", { class: "value" }, reading.value)),
    reading.note ? h("p", { class: "muted" }, reading.note) : null,
    reading.formula ? remembered("formula", "How it is computed", h("p", { class: "formula" }, reading.formula)) : null,
    source
      ? remembered(
          "code",
          "The code that computed it",
          h("p", { class: "where muted" }, path(`${source.file}:${source.line}`)),
          h("pre", { tabindex: "0", "aria-label": `lines of ${source.file}` }, h("code", {}, source.lines)),
        )
      : null,
    reading.table ? remembered("table", "Show as table", table(reading.table)) : null,
    h(
      "p",
      { class: "controls save" },
      h("span", { class: "muted" }, "save as"),
      reading.table ? h("button", { type: "button", onclick: saveTable }, "CSV") : null,
      ["PNG", "SVG"].map((format) => h("button", { type: "button", onclick: () => savePicture(format.toLowerCase()) }, format)),
    ),  );
}

function table({ columns, rows }) {
  const numeric = columns.map((_, i) => rows.every((row) => row[i] === null || typeof row[i] === "number"));
  return h(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": "The view as a table" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, columns.map((name, i) => h("th", { scope: "col", class: numeric[i] ? "number" : null }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, i) => h("td", { class: numeric[i] ? "number" : "token" }, value === null ? "–" : String(value)))))),
    ),
  );
}

/** Save the view's table as CSV. Cells that a spreadsheet would run as a formula begin with an apostrophe. */
export function saveTable() {
  if (!shownTable) return;
  const cell = (value) => {
    const text = value === null ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [shownTable.columns, ...shownTable.rows].map((row) => row.map(cell).join(","));
  save("table.csv", new Blob([lines.join("\r\n")], { type: "text/csv" }));
}
