// A view as a picture: an SVG that holds the page's own elements and style, and a PNG drawn from it.

import { isDark } from "./colors.js";
import { h, save } from "./dom.js";

const XHTML = "http://www.w3.org/1999/xhtml";
const SVG = "http://www.w3.org/2000/svg";
/** Pixels of the PNG for one of the page, in each direction. */
const PIXELS = 2;

/** Save the shown view as "svg" or "png". */
export async function savePicture(format) {
  const stage = document.getElementById("stage");
  const [width, height] = [stage.scrollWidth, stage.scrollHeight];
  const text = new XMLSerializer().serializeToString(drawing(stage, width, height));
  const blob = new Blob([text], { type: "image/svg+xml" });
  save(`view.${format}`, format === "svg" ? blob : await drawn(text, width, height));
}

function drawing(stage, width, height) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) svg.setAttribute(name, value);
  svg.dataset.theme = isDark() ? "dark" : "light";
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]).map((rule) => rule.cssText);
  const style = document.createElementNS(SVG, "style");
  style.textContent = rules.join("\n").replaceAll("system-ui, ", ""); // which in a picture is a serif font
  const frame = document.createElementNS(SVG, "foreignObject");
  frame.setAttribute("width", "100%");
  frame.setAttribute("height", "100%");
  const body = document.createElementNS(XHTML, "body");
  body.style.cssText = "display: block; min-height: 100%";
  body.append(copyOf(stage));
  frame.append(body);
  svg.append(style, frame);
  return svg;
}

/** The elements with what they show: a canvas becomes its own background. */
function copyOf(stage) {
  const copy = stage.cloneNode(true);
  const canvases = stage.querySelectorAll("canvas");
  copy.querySelectorAll("canvas").forEach((canvas, i) => {
    canvas.style.background = `url(${canvases[i].toDataURL()}) 0 0 / 100% 100% no-repeat`;
  });
  const fields = stage.querySelectorAll("input, textarea");
  copy.querySelectorAll("input, textarea").forEach((field, i) => {
    if (field.matches("textarea")) field.textContent = fields[i].value;
    else field.setAttribute("value", fields[i].value);
  });
  copy.querySelector(".band")?.remove();
  return copy;
}

async function drawn(text, width, height) {
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = h("canvas", { width: PIXELS * width, height: PIXELS * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
