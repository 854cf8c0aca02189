"""The page of the slides: its style in light and dark, for a projector, a phone and paper.

Tests: tests/lessons/test_slides.py.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2933; --soft: #657282;
  --panel: #f3f5f8; --edge: #d9dee5; --blue: #0072b2; --green: #00805d; --red: #bf4d00;
  --pink: #a64f80; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6eaef; --soft: #9fabb8;
  --panel: #1d232a; --edge: #323a44; --blue: #5cb3ea; --green: #45c79f; --red: #f08c52;
  --pink: #d98cb8; } }
* { box-sizing: border-box; }
html { scroll-snap-type: y proximity; background: var(--paper); color: var(--ink);
  font: clamp(17px, 1.9vw, 30px)/1.45 Inter, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
body { margin: 0; }
section { min-height: 100svh; padding: 5svh clamp(16px, 6vw, 110px); scroll-snap-align: start;
  display: flex; flex-direction: column; justify-content: center; position: relative;
  border-bottom: 1px solid var(--edge); overflow-wrap: anywhere; }
section > * { max-width: 100%; }
section.picture, section.code { justify-content: flex-start; padding-top: 4svh; }
section.picture p, section.code p { font-size: .85em; }
h1 { font-size: 2em; line-height: 1.15; margin: 0 0 .6em; text-wrap: balance; }
h2 { font-size: 1.35em; line-height: 1.2; margin: 0 0 .7em; color: var(--blue);
  text-wrap: balance; }
section.picture h2, section.code h2 { font-size: 1.1em; margin-bottom: .6em; }
p, ul, ol, table { margin: 0 0 .7em; }
img { display: block; margin: auto; width: min(100%, 1100px); max-height: 66svh;
  object-fit: contain; border-radius: 8px; background: var(--paper); }
img[src^="data:image/png"] { background: #fff; padding: 8px; }
pre, code { font-family: "JetBrains Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace; }
code { font-size: .88em; overflow-wrap: anywhere; }
pre { margin: 0; padding: .8em 1em; background: var(--panel); border-radius: 8px;
  font-size: clamp(12px, 1.4vw, 25px); line-height: 1.4; overflow-x: auto;
  overflow-wrap: normal; }
pre.output { background: none; border-left: 4px solid var(--edge); border-radius: 0;
  margin-top: .8em; color: var(--soft); }
pre.question { white-space: pre-wrap; font-family: inherit; font-size: 1em; }
table { border-collapse: collapse; font-size: .82em; }
th, td { text-align: left; padding: .3em .8em .3em 0; border-bottom: 1px solid var(--edge);
  vertical-align: top; }
a { color: var(--blue); }
svg { overflow: visible; max-width: 100%; }
.display { display: block; text-align: center; margin: .6em 0; overflow-x: auto; }
aside { display: none; border-top: 1px solid var(--edge); padding-top: .8em; font-size: .7em;
  color: var(--soft); }
.notes aside { display: block; }
footer { position: absolute; right: 16px; bottom: 10px; font-size: 13px; color: var(--soft); }
.code .k, .code .kn, .code .kc, .code .ow { color: var(--pink); }
.code .s1, .code .s2, .code .sd, .code .sa, .code .si, .code .se { color: var(--green); }
.code .c1 { color: var(--soft); font-style: italic; }
.code .mi, .code .mf { color: var(--red); }
.code .nf, .code .nc, .code .nd { color: var(--blue); }
@media print { html { font-size: 16px; } section { min-height: 0; break-after: page;
  border: 0; } }
"""

SCRIPT = """
const slides = [...document.querySelectorAll("section")];
const current = () => slides.findLastIndex(s => s.getBoundingClientRect().top < innerHeight / 2);
const show = n => slides[Math.min(Math.max(n, 0), slides.length - 1)].scrollIntoView();
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const move = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1,
    PageUp: -1}[event.key];
  if (move) { event.preventDefault(); show(Math.max(current(), 0) + move); }
  if (event.key === "Home") show(0);
  if (event.key === "End") show(slides.length - 1);
  if (event.key.toLowerCase() === "n") {
    const here = Math.max(current(), 0);
    document.body.classList.toggle("notes");
    show(here);
  }
});
addEventListener("scrollend", () => history.replaceState(null, "", "#" + (current() + 1)));
"""

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>{STYLE}</style>
<body>
<main>
{{slides}}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""
