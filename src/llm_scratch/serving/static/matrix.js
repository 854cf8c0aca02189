// A square heat map on a canvas, with a cell that mouse and keyboard move over: rows are queries, columns are keys.

import { cividis, ink, palette } from "./colors.js";
import { fill, h, visible } from "./dom.js";

const COLORS = palette(cividis);
const MIN_LABEL_PIXELS = 8;

/** A bare picture of a matrix of bytes [T, T]; cells after the diagonal stay clear. */
export function thumbnail(canvas, values, size) {
  canvas.width = canvas.height = size;
  const picture = new ImageData(size, size);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let row = 0; row < size; row++) for (let col = 0; col <= row; col++) pixels[row * size + col] = COLORS[values[row * size + col]];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** A large matrix. `show` draws it; `onhover` and `onpick` get (row, column). */
export class Matrix {
  constructor(label, { onhover, onpick, describe }) {
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.overlay = h("canvas", { "aria-hidden": "true" });
    this.cell = h("span", { role: "gridcell", id: "matrix-cell" });
    this.el = h(
      "div",
      { class: "matrix", role: "grid", tabindex: "0", "aria-label": label, "aria-activedescendant": "matrix-cell" },
      this.canvas,
      this.overlay,
      h("div", { role: "row", class: "unseen" }, this.cell),
    );
    Object.assign(this, { onhover, onpick, describe });
    this.el.addEventListener("pointermove", (event) => this.hover(this.at(event)));
    this.el.addEventListener("pointerleave", () => this.hover(null));
    this.el.addEventListener("click", (event) => this.at(event) && this.onpick(...this.at(event)));
    this.el.addEventListener("keydown", (event) => this.key(event));
  }

  show({ values, tokens, row, col, width }) {
    const size = tokens.length;
    Object.assign(this, { values, tokens, size, row, col, hovered: null });
    const margin = Math.round(Math.min(110, 14 + 7.3 * Math.max(...tokens.map((text) => visible(text).length))));
    this.cellSize = Math.max(2, Math.min(22, Math.floor((width - margin) / size)));
    this.labels = this.cellSize >= MIN_LABEL_PIXELS;
    this.margin = this.labels ? margin : 14;
    this.side = this.margin + this.cellSize * size + 1;
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = canvas.height = Math.round(this.side * devicePixelRatio);
      canvas.style.width = canvas.style.height = `${this.side}px`;
      canvas.getContext("2d").setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    }
    this.colors = { line: ink("line"), muted: ink("muted"), accent: ink("accent"), ink: ink("ink") };
    this.drawCells();
    this.drawMarks();
    this.el.setAttribute("aria-rowcount", String(size));
    this.el.setAttribute("aria-colcount", String(size));
    this.speak();
  }

  drawCells() {
    const { size, cellSize, margin, values, colors } = this;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.side, this.side);
    context.strokeStyle = colors.line;
    context.lineWidth = 1;
    context.save();
    context.beginPath();
    context.moveTo(margin, margin);
    context.lineTo(this.side, margin);
    context.lineTo(this.side, this.side);
    context.closePath();
    context.clip();
    context.beginPath();
    for (let at = -this.side; at < this.side; at += 7) context.moveTo(at, this.side), context.lineTo(at + this.side, 0);
    context.stroke(); // hatched: tokens that are still to come
    context.restore();
    for (let row = 0; row < size; row++) {
      for (let col = 0; col <= row; col++) {
        const color = COLORS[values[row * size + col]];
        context.fillStyle = `rgb(${color & 255} ${(color >> 8) & 255} ${(color >> 16) & 255})`;
        context.fillRect(margin + col * cellSize, margin + row * cellSize, cellSize, cellSize);
      }
    }
  }

  drawMarks() {
    const { size, cellSize, margin, colors, tokens } = this;
    const [row, col] = this.hovered ?? [this.row, this.col];
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, this.side, this.side);
    context.font = `${Math.min(12, cellSize)}px ${getComputedStyle(document.body).getPropertyValue("--mono")}`;
    context.textBaseline = "middle";
    if (this.labels) {
      for (let i = 0; i < size; i++) {
        const middle = margin + (i + 0.5) * cellSize;
        const text = visible(tokens[i]).slice(0, 14);
        context.textAlign = "right";
        context.fillStyle = i === row ? colors.accent : colors.muted;
        context.fillText(text, margin - 6, middle);
        context.save();
        context.translate(middle, margin - 6);
        context.rotate(-Math.PI / 2);
        context.textAlign = "left";
        context.fillStyle = i === col ? colors.accent : colors.muted;
        context.fillText(text, 0, 0);
        context.restore();
      }
    }
    context.strokeStyle = colors.accent;
    context.lineWidth = 1;
    context.strokeRect(margin + 0.5, margin + row * cellSize + 0.5, (row + 1) * cellSize, cellSize);
    if (col >= 0) {
      context.strokeRect(margin + col * cellSize + 0.5, margin + col * cellSize + 0.5, cellSize, (size - col) * cellSize);
      context.lineWidth = 3;
      context.strokeRect(margin + col * cellSize + 0.5, margin + row * cellSize + 0.5, cellSize, cellSize);
    }
  }

  /** The cell under the pointer, or null. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const col = Math.floor((event.clientX - box.left - this.margin) / this.cellSize);
    const row = Math.floor((event.clientY - box.top - this.margin) / this.cellSize);
    return row >= 0 && row < this.size && col >= 0 && col <= row ? [row, col] : null;
  }

  hover(cell) {
    if (String(cell) === String(this.hovered)) return;
    this.hovered = cell;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.drawMarks());
    this.onhover(...(cell ?? [this.row, this.col]));
  }

  key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -this.size], End: [0, this.size] };
    let [row, col] = this.hovered ?? [this.row, Math.max(0, this.col)];
    if (event.key === "Enter") this.onpick(row, col);
    else if (moves[event.key]) {
      row = Math.min(this.size - 1, Math.max(0, row + moves[event.key][0]));
      col = Math.min(row, Math.max(0, col + moves[event.key][1]));
      this.hover([row, col]);
      this.speak();
    } else return;
    event.preventDefault();
  }

  speak() {
    const [row, col] = this.hovered ?? [this.row, Math.max(0, this.col)];
    this.cell.setAttribute("aria-rowindex", String(row + 1));
    this.cell.setAttribute("aria-colindex", String(col + 1));
    fill(this.cell, this.describe(row, col));
  }
}

/** A legend of the scale from 0 to 1, and what hatching means. */
export function legend(low = "0 %", high = "100 %", hatched = true) {
  const bar = h("canvas", { width: "256", height: "1", "aria-hidden": "true" });
  const picture = new ImageData(256, 1);
  new Uint32Array(picture.data.buffer).set(COLORS);
  bar.getContext("2d").putImageData(picture, 0, 0);
  return h("div", { class: "legend" }, low, bar, high, hatched ? h("span", { class: "pair" }, h("span", { class: "hatch" }), "still to come, cannot be seen") : null);
}
