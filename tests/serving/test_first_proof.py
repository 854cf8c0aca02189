"""On the real quickstart the browser finds and ablates the head that recalls names.

The head is absent early in training.
"""

import json
import os
import threading
from pathlib import Path

import pytest

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


def test_first_proof_on_the_quickstart(quickstart, chromium):
    texts = validation_texts(open_run(quickstart).config, 64)
    server = open_playground({"quickstart": quickstart}, texts, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server:
        chromium.leave()
        chromium.open(server.url)
        story = chromium.run("document.querySelector('#text textarea').value")
        chromium.press("/")
        chromium.run("document.activeElement.select()")
        chromium.type(story)
        chromium.press("Enter")
        chromium.press("Escape")
        chromium.settle()
        chromium.run(
            "const sort = document.querySelector('select'); sort.value = 'name';"
            " sort.dispatchEvent(new Event('change'))"
        )
        chromium.settle()
        part = chromium.run("document.querySelector('.heads button').dataset.part")
        score = chromium.run("document.querySelector('.heads button .name').lastChild.textContent")
        assert float(score.replace("−", "-")) < -30  # percentage points of the skill "name"
        chromium.press("6")
        chromium.settle()
        before = float(chromium.text("#inspector .value").strip("<> %"))
        chromium.click(f"[data-part={json.dumps(part)}]")
        after = float(chromium.text("#inspector .value").strip("<> %"))
        assert before > 80
        assert after < before / 4
        whole, without = skills(chromium)["name"]
        assert whole > 85
        assert without < 60
        chromium.click("#bar .without button")
        chromium.press("7")
        chromium.settle()
        chromium.run(
            "const film = document.querySelector('#bar input'); film.value = 1;"
            " film.dispatchEvent(new Event('input'))"
        )
        chromium.settle()
        assert float(chromium.text("#inspector .value").strip("<> %")) < 20
        server.shutdown()
