"""Take the pictures of docs/playground.md in a headless Chromium.

python docs/playground_pictures.py runs/quickstart docs/playground
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import Browser

from llm_scratch.run_directory import open_run
from llm_scratch.serving.playground import open_playground
from llm_scratch.serving.run_texts import validation_texts

COLORS = 256
"""Of a picture: fewer would change the color scale."""
PICTURES = {  # file -> (state, width, height, theme)
    "attention": ("view=attention", 1280, 900, "light"),
    "whatif": ("view=whatif&without={head}", 1280, 900, "light"),
    "film": ("view=film", 1280, 860, "dark"),
    "next": ("view=next&temperature=1.5&top_p=0.95", 1280, 800, "dark"),
}


def take(run: Path, out: Path) -> None:
    """Serve a run, and save every picture."""
    info = open_run(run)
    if info is None:
        raise SystemExit(f"{run} is not a run directory; train one: llm-scratch train quickstart")
    server = open_playground({"quickstart": run}, validation_texts(info.config, 64), port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    out.mkdir(parents=True, exist_ok=True)
    with Browser() as page:
        page.media(prefers_reduced_motion="reduce")
        page.open(server.url)
        first = page.run("location.hash").lstrip("#")
        head = page.run("document.querySelector('.heads [aria-pressed=true]').dataset.part")
        for name, (state, width, height, theme) in PICTURES.items():
            page.resize(width, height)
            page.media(prefers_color_scheme=theme, prefers_reduced_motion="reduce")
            page.run(f"location.hash = '#{first}&{state.format(head=head)}'")
            page.wait(
                "document.querySelector('#view').dataset.view ==="
                f" '{state.partition('&')[0].removeprefix('view=')}'"
            )
            page.settle()
            page.screenshot(out / f"{name}.png")
            Image.open(out / f"{name}.png").convert("RGB").quantize(COLORS).save(
                out / f"{name}.png", optimize=True
            )
    server.shutdown()


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
