"""Draw boxes, arrows, grids and curves as SVG, in one style for all lessons, in light and dark.

A drawing has its own background, and its colors follow the reader's color scheme (CSS
`prefers-color-scheme`). Text that does not fit into its box is an error, so that a drawing which
can be written is legible.
Tests: tests/lessons/test_drawings.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH = 720
FONT = "'Inter','Segoe UI','Helvetica Neue',Helvetica,Arial,sans-serif"
MONO = "'JetBrains Mono','DejaVu Sans Mono',Menlo,Consolas,monospace"
LETTER_WIDTH = {"": 0.53, "mono": 0.61}
"""Mean width of a letter, in font sizes."""

LIGHT = {
    "paper": "#ffffff",
    "edge": "#d9dee5",
    "ink": "#1f2933",
    "soft": "#657282",
    "line": "#7b8794",
    "blue": "#cfe5f6",
    "orange": "#fde3b4",
    "green": "#c8eadd",
    "red": "#f9d2bf",
    "pink": "#f0d8e6",
    "grey": "#e9edf1",
    "blue-line": "#0072b2",
    "orange-line": "#966000",
    "green-line": "#00805d",
    "red-line": "#bf4d00",
    "pink-line": "#a64f80",
    "grey-line": "#9aa5b1",
}
DARK = {
    "paper": "#14181d",
    "edge": "#323a44",
    "ink": "#e6eaef",
    "soft": "#9fabb8",
    "line": "#8794a3",
    "blue": "#143f5e",
    "orange": "#5a3f0c",
    "green": "#0f4a3a",
    "red": "#5f2c12",
    "pink": "#52304a",
    "grey": "#2a313a",
    "blue-line": "#5cb3ea",
    "orange-line": "#eab04a",
    "green-line": "#45c79f",
    "red-line": "#f08c52",
    "pink-line": "#d98cb8",
    "grey-line": "#76828f",
}
COLORS = ("blue", "orange", "green", "red", "pink", "grey")


def _style() -> str:
    """The style sheet: one class for each fill, line and text color."""

    def rules(palette: dict[str, str]) -> str:
        plain = [f".paper{{fill:{palette['paper']};stroke:{palette['edge']}}}"]
        halo = f"stroke:{palette['paper']};stroke-width:5"
        plain += [f".halo{{{halo};paint-order:stroke;stroke-linejoin:round}}"]
        plain += [f".{name}{{fill:{palette[name]}}}" for name in ("ink", "soft")]
        plain += [f".line{{stroke:{palette['line']}}}", f".head{{fill:{palette['line']}}}"]
        for name in COLORS:
            edge = palette[f"{name}-line"]
            plain += [
                f".{name}{{fill:{palette[name]};stroke:{edge}}}",
                f".{name}-text{{fill:{edge}}}",
            ]
            plain += [f".{name}-line{{stroke:{edge}}}", f".{name}-head{{fill:{edge}}}"]
        return "".join(plain)

    common = f"text{{font-family:{FONT}}}.mono{{font-family:{MONO}}}.bold{{font-weight:600}}"
    common += ".line,[class$=-line]{fill:none;stroke-width:1.6}"
    return f"{common}{rules(LIGHT)}@media (prefers-color-scheme:dark){{{rules(DARK)}}}"


def _n(number: float) -> str:
    """A coordinate, as short as possible."""
    return f"{number:.1f}".removesuffix(".0")


class Drawing:
    """An SVG that grows by method calls.

    Args:
        title: its content in one sentence; the alternative text.
        height: in pixels; the width is `WIDTH`.
    """

    def __init__(self, title: str, height: float) -> None:
        self.title, self.height = title, height
        self.parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        label: str = "",
        color: str = "grey",
        size: float = 14,
        mono: bool = False,
        bold: bool = False,
        corner: float = 6,
    ) -> None:
        """A rectangle with a label in its middle; `|` in the label begins a new line."""
        self._inside(x, y, x + w, y + h)
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="{_n(corner)}"'
        self.parts.append(f'<rect class="{color}" {place}/>')
        lines = label.split("|") if label else []
        for number, line in enumerate(lines):
            if text_width(line, size, mono) > w - 2:
                raise ValueError(f"{self.title}: {line!r} is too wide for its box")
            middle = y + h / 2 + (number - (len(lines) - 1) / 2) * size * 1.3
            self.text(x + w / 2, middle, line, size, "middle", mono=mono, bold=bold)

    def text(
        self,
        x: float,
        y: float,
        label: str,
        size: float = 13,
        anchor: str = "start",
        color: str = "ink",
        mono: bool = False,
        bold: bool = False,
        halo: bool = False,
    ) -> None:
        """A line of text; `y` is its middle. With `halo` it covers the lines behind it."""
        width = text_width(label, size, mono)
        left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
        self._inside(left, y - size / 2, left + width, y + size / 2)
        classes = " ".join(
            [
                color,
                *(["mono"] if mono else []),
                *(["bold"] if bold else []),
                *(["halo"] if halo else []),
            ]
        )
        where = (
            f'x="{_n(x)}" y="{_n(y + size * 0.35)}" font-size="{_n(size)}" text-anchor="{anchor}"'
        )
        self.parts.append(
            f'<text class="{classes}" {where} xml:space="preserve">{escape(label)}</text>'
        )

    def caption(self, label: str) -> None:
        """A sentence under the drawing."""
        self.text(WIDTH / 2, self.height - 22, label, 13, "middle", "soft")

    def line(
        self,
        *points: tuple[float, float],
        color: str = "",
        dashed: bool = False,
        arrow: bool = False,
        width: float = 1.6,
    ) -> None:
        """Straight lines from point to point, with an arrow head at the end or without."""
        for x, y in points:
            self._inside(x, y, x, y)
        end = points
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            base = x1 - 9 * ux, y1 - 9 * uy
            corners = (
                (x1, y1),
                (base[0] - 4 * uy, base[1] + 4 * ux),
                (base[0] + 4 * uy, base[1] - 4 * ux),
            )
            self.polygon(corners, f"{color}-head" if color else "head")
            end = (*points[:-1], (x1 - 7 * ux, y1 - 7 * uy))
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in end)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        thick = f' style="stroke-width:{_n(width)}"' if width != 1.6 else ""
        style = f"{color}-line" if color else "line"
        self.parts.append(
            f'<polyline class="{style}" points="{path}" stroke-linejoin="round"{dash}{thick}/>'
        )

    def arrow(self, *points: tuple[float, float], color: str = "", dashed: bool = False) -> None:
        """A line with an arrow head at its end."""
        self.line(*points, color=color, dashed=dashed, arrow=True)

    def polygon(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A filled shape."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self.parts.append(f'<polygon class="{style}" points="{path}"/>')

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        label: str = "",
        color: str = "grey",
        size: float = 15,
    ) -> None:
        """A circle with a label in its middle."""
        self._inside(x - radius, y - radius, x + radius, y + radius)
        self.parts.append(f'<circle class="{color}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"/>')
        if label:
            self.text(x, y, label, size, "middle")

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: str = "grey") -> None:
        """The outline of an ellipse; it may extend beyond the drawing, which crops it."""
        place = f'cx="{_n(x)}" cy="{_n(y)}" rx="{_n(rx)}" ry="{_n(ry)}"'
        self.parts.append(f'<ellipse class="{color}-line" {place}/>')

    def dot(self, x: float, y: float, color: str, radius: float = 3) -> None:
        """A small filled circle."""
        self._inside(x, y, x, y)
        self.parts.append(
            f'<circle class="{color}-head" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"/>'
        )

    def cells(
        self,
        x: float,
        y: float,
        labels: Sequence[str],
        w: float,
        h: float = 28,
        colors: Sequence[str] | str = "grey",
        gap: float = 4,
        size: float = 13,
        mono: bool = True,
    ) -> None:
        """A row of equal boxes."""
        for number, label in enumerate(labels):
            color = colors if isinstance(colors, str) else colors[number]
            self.box(x + number * (w + gap), y, w, h, label, color, size, mono, corner=4)

    def svg(self) -> str:
        """The whole file."""
        h = _n(self.height)
        size = f'viewBox="0 0 {WIDTH} {h}" width="{WIDTH}" height="{h}"'
        paper = f'x="0.5" y="0.5" width="{WIDTH - 1}" height="{_n(self.height - 1)}" rx="10"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{_style()}</style>",
            f'<rect class="paper" {paper}/>',
            *self.parts,
            "</svg>\n",
        ]
        return "\n".join(lines)

    def _inside(self, left: float, top: float, right: float, bottom: float) -> None:
        if left < 4 or top < 4 or right > WIDTH - 4 or bottom > self.height - 4:
            place = f"{left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}"
            raise ValueError(f"{self.title}: {place} is not on the paper")


def text_width(label: str, size: float, mono: bool = False) -> float:
    """The approximate width of a line of text in pixels."""
    return len(label) * size * LETTER_WIDTH["mono" if mono else ""]
