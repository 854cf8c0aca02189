"""On the real quickstart the browser finds and ablates the head that recalls names.

The head is absent early in training.
"""

import json
import os
import threading
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser

from llm_scratch.cli import main
from llm_scratch.run_directory import open_run
from llm_scratch.serving.playground import open_playground
from llm_scratch.serving.run_texts import validation_texts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """A trained quickstart; LLM_SCRATCH_QUICKSTART names one that exists already."""
    if ready := os.environ.get("LLM_SCRATCH_QUICKSTART"):
        return Path(ready)
    run = tmp_path_factory.mktemp("runs") / "quickstart"
    assert main(["train", "quickstart", "--out", str(run), "--quiet"]) == 0
    return run


def skills(page):
    """skill -> (right answers of the whole model, and without the ablated parts), in percent."""
    rows = page.run(
        "[...document.querySelectorAll('[data-skill]')].map((row) => [row.dataset.skill,"
        " ...[...row.cells].map((c) => c.textContent)])"
    )
    return {row[0]: (float(row[2].strip("<> %")), float(row[3].strip("<> %"))) for row in rows}


def test_first_proof_on_the_quickstart(quickstart):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    texts = validation_texts(open_run(quickstart).config, 64)
    server = open_playground({"quickstart": quickstart}, texts, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server, Browser() as page:
        page.open(server.url)
        story = page.run("document.querySelector('#text textarea').value")
        page.press("/")
        page.run("document.activeElement.select()")
        page.type(story)
        page.press("Enter")
        page.press("Escape")
        page.settle()
        page.run(
            "const sort = document.querySelector('select'); sort.value = 'name';"
            " sort.dispatchEvent(new Event('change'))"
        )
        page.settle()
        part = page.run("document.querySelector('.heads button').dataset.part")
        score = page.run("document.querySelector('.heads button .name').lastChild.textContent")
        assert float(score.replace("−", "-")) < -30  # percentage points of the skill "name"
        page.press("6")
        page.settle()
        before = float(page.text("#inspector .value").strip("<> %"))
        page.click(f"[data-part={json.dumps(part)}]")
        after = float(page.text("#inspector .value").strip("<> %"))
        assert before > 80
        assert after < before / 4
        whole, without = skills(page)["name"]
        assert whole > 85
        assert without < 60
        page.click("#bar .without button")
        page.press("7")
        page.settle()
        page.run(
            "const film = document.querySelector('#bar input'); film.value = 1;"
            " film.dispatchEvent(new Event('input'))"
        )
        page.settle()
        assert float(page.text("#inspector .value").strip("<> %")) < 20
        server.shutdown()
