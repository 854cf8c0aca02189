"""The style sheet of a report: light and dark, wide and narrow, screen and paper.

Tests: tests/reports/test_page.py.
"""

LIGHT = """
  --ink: #1b2330; --dim: #5c6675; --line: #dde2ea; --paper: #ffffff; --panel: #f6f8fb;
  --train: #7fb3d9; --val: #c8501a; --floor: #4b5563; --bar: #2f7fb8; --track: #e6ebf2;
  --ok: #16794a; --warning: #8a5a00; --problem: #b3261e; --code: #f1f4f8;
"""
DARK = """
  --ink: #e5e9f0; --dim: #a0aaba; --line: #333c4a; --paper: #12161c; --panel: #1a2029;
  --train: #4f8fc0; --val: #f08a4b; --floor: #aab4c2; --bar: #4f9bd6; --track: #2a3340;
  --ok: #58c48c; --warning: #e3b341; --problem: #ff8a80; --code: #1f2630;
"""

STYLE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
* {{ box-sizing: border-box }}
body {{ font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 58rem; margin: 2.5rem auto; padding: 0 1.25rem }}
h1 {{ font-size: 1.75rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere }}
h2 {{ font-size: 1.2rem; margin: 2.6rem 0 .5rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line) }}
h3 {{ font-size: 1rem; margin: 1.2rem 0 .4rem }}
p {{ margin: .4rem 0 .8rem; overflow-wrap: anywhere }}
.where {{ font-size: .85rem; margin: 0 0 .3rem }}
.dim, figcaption {{ color: var(--dim) }} figcaption {{ font-size: .9rem }}
figure {{ margin: .6rem 0 }}
code, pre {{ font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; overflow-wrap: anywhere }}
pre {{ background: var(--code); border-radius: .4rem; padding: .8rem 1rem; white-space: pre-wrap;
  margin: .5rem 0 }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: .7rem;
  margin: 1.2rem 0; padding: 0 }}
.tiles div {{ background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem }}
.tiles dt {{ color: var(--dim); font-size: .82rem }}
.tiles dd {{ margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums }}
.tiles small {{ display: block; font-size: .78rem; font-weight: 400; color: var(--dim) }}
.status {{ display: inline-block; font-size: .85rem; font-weight: 600;
  border: 1px solid currentColor;
  border-radius: 1rem; padding: .05rem .7rem; margin: .2rem 0 .4rem }}
.ok {{ color: var(--ok) }} .warning {{ color: var(--warning) }} .problem {{ color: var(--problem) }}
.wide {{ overflow-x: auto }}
.skills td {{ white-space: nowrap }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94rem;
  min-width: 50% }}
th, td {{ padding: .3rem 1.1rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line);
  font-weight: 400; vertical-align: top }}
thead th {{ color: var(--dim); font-size: .86rem; vertical-align: bottom }}
th:first-child {{ text-align: left }}
table.words td, table.words th {{ text-align: left; overflow-wrap: anywhere }}
table.words th:first-child {{ color: var(--dim); white-space: nowrap }}
svg {{ display: block; width: 100%; height: auto }}
svg text {{ fill: var(--dim); font: 12px system-ui, sans-serif;
  font-variant-numeric: tabular-nums }}
svg .grid {{ stroke: var(--line); stroke-width: 1 }}
svg .axis {{ stroke: var(--dim); stroke-width: 1 }}
svg .batch {{ fill: none; stroke: var(--train); stroke-width: 1; opacity: .65 }}
svg .train {{ fill: none; stroke: var(--train); stroke-width: 2.2; stroke-linejoin: round }}
svg .val {{ fill: none; stroke: var(--val); stroke-width: 2.2; stroke-linejoin: round }}
svg .best {{ fill: var(--val); stroke: var(--paper); stroke-width: 1.5 }}
svg .floor {{ stroke: var(--floor); stroke-width: 1.5; stroke-dasharray: 2 4;
  stroke-linecap: round }}
svg.narrow {{ display: none }}
.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; padding: 0;
  margin: .4rem 0; font-size: .9rem }}
.legend svg {{ display: inline-block; width: 26px; height: 10px; margin-right: .4rem;
  vertical-align: middle }}
.findings {{ list-style: none; padding: 0; margin: .6rem 0 }}
.findings li {{ display: grid; grid-template-columns: 5.2rem 1fr; gap: 0 .8rem; padding: .45rem 0;
  border-bottom: 1px solid var(--line) }}
.findings b {{ font-size: .85rem; line-height: 1.8 }}
.findings p {{ margin: 0 }}
.samples article, .skill {{ border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem .95rem; margin: .7rem 0; background: var(--panel) }}
.samples h3, .skill h3 {{ margin: 0 0 .3rem; font-size: .9rem }}
.samples article p {{ white-space: pre-wrap; margin: 0;
  font-family: Georgia, "Times New Roman", "DejaVu Serif", serif }}
.samples .prompt {{ font-weight: 600 }}
.meter {{ position: relative; display: inline-block; vertical-align: middle; width: 9rem;
  height: .7rem; background: var(--track); border-radius: .2rem }}
.meter i {{ position: absolute; inset: 0 auto 0 0; background: var(--bar); border-radius: .2rem }}
.meter b {{ position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: var(--ink) }}
.skill p {{ margin: 0 0 .5rem }}
.answers {{ display: grid; grid-template-columns: max-content max-content 1fr; gap: .1rem .9rem;
  align-items: center; margin: 0; font-variant-numeric: tabular-nums }}
.answers .true {{ font-weight: 700 }}
.answers .meter {{ width: 100%; max-width: 14rem }}
.settings {{ columns: 17rem; column-gap: 2rem; font-size: .84rem }}
.settings section {{ break-inside: avoid }}
.settings dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .05rem .8rem;
  margin: 0 0 1rem }}
.settings dt {{ color: var(--dim) }}
.settings dd {{ margin: 0; overflow-wrap: anywhere; text-align: right;
  font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
.settings h3 {{ margin: .2rem 0; column-span: none }}
@media (max-width: 40rem) {{
  body {{ margin-top: 1.2rem; padding: 0 .9rem }}
  h1 {{ font-size: 1.4rem }}
  .tiles {{ grid-template-columns: 1fr 1fr }}
  svg.broad {{ display: none }} svg.narrow {{ display: block }}
  th, td {{ padding-right: .7rem }}
  .meter {{ width: 3.5rem }}
  .skills td {{ white-space: normal }}
  .skills th:nth-child(5), .skills td:nth-child(5) {{ display: none }}
  .findings li {{ grid-template-columns: 1fr }}
}}
@media print {{
  :root {{ color-scheme: light; {LIGHT} }}
  @page {{ margin: 16mm 15mm }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact }}
  body {{ font-size: 10.5pt; max-width: none; margin: 0; padding: 0 }}
  h2 {{ margin-top: 1.6rem }}
  h2, h3, thead {{ break-after: avoid }}
  figure, article, table, .skill, .tiles, .findings li, pre, .whole {{ break-inside: avoid }}
  h2 + p {{ break-after: avoid }}
  .tiles {{ grid-template-columns: repeat(3, 1fr) }}
  .settings {{ columns: 3; font-size: 8pt }} .settings section {{ break-inside: auto }}
  p {{ break-inside: avoid }}
  .wide {{ overflow: visible }}
}}
"""
