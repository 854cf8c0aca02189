// Color scales: cividis for magnitude (Nuñez, Anderton and Renslow 2018), blue to orange for signs.

const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
const SIGNED = {
  light: [[33, 102, 172], [247, 247, 243], [179, 88, 6]],
  dark: [[106, 174, 234], [38, 43, 48], [240, 160, 75]],
};

function between(stops, share) {
  const at = Math.min(1, Math.max(0, share || 0)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  return stops[low].map((value, i) => Math.round(value + (stops[low + 1][i] - value) * (at - low)));
}

/** A share from 0 to 1 as [red, green, blue]. */
export const cividis = (share) => between(CIVIDIS, share);

/** A value from -1 (blue) to 1 (orange) as [red, green, blue]. */
export const signed = (value) => between(SIGNED[isDark() ? "dark" : "light"], (value + 1) / 2);

/** A color for the style of an element. */
export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/** Ink that can be read on a color: WCAG's relative luminance decides. */
export function inkOn(color) {
  const [red, green, blue] = color.map((value) => ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#111417" : "#ffffff";
}

export function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** A color of the page's style sheet, as canvas and SVG attributes read it. */
export function ink(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

/** 256 colors of a scale as RGBA in one number each, to fill pictures with. */
export function palette(scale) {
  const colors = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const [red, green, blue] = scale(i / 255);
    colors[i] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  return colors;
}
