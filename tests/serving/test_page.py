"""The page in a real browser: first proof, keyboard, links, accessibility, allowed sources."""

import json
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from playground_server import TEXT, VIEWS, playing

from llm_scratch.config import GPTConfig
from llm_scratch.model import build
from llm_scratch.serving.model_library import NamedModel
from llm_scratch.tokenizers.chars import CharTokenizer

AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"


def show(page, view):
    """Show a view, and wait until it is drawn."""
    page.run(f"location.hash = location.hash.replace(/&?view=\\w+/, '') + '&view={view}'")
    page.wait(f"document.querySelector('#view').dataset.view === '{view}'")
    page.settle()


def press(page, key, shift=False):
    page.press(key, shift)
    page.settle()


def recalled(page):
    """The probability in the inspector as a number."""
    return float(page.text("#inspector .value").strip("<> %"))


def test_first_proof_head_is_found_ablated_and_missing_before_training(page):
    """Type a text, find the recalling head by score, ablate it, and load an early checkpoint."""
    page.run("document.querySelector('#text textarea').select()")
    page.press("/")
    page.run("document.activeElement.select()")
    page.type("bcdefgabcd")
    press(page, "Enter")
    page.press("Escape")
    show(page, "attention")
    page.run(
        "const sort = document.querySelector('select'); sort.value = 'induction';"
        " sort.dispatchEvent(new Event('change'))"
    )
    page.settle()
    best = page.run("document.querySelector('.heads button').dataset.part")
    assert best == "1.0"
    page.click(".heads button")
    assert "Head 1.0 at d looks 100 % at e, six tokens back" in page.text(".sentence")
    show(page, "whatif")
    assert recalled(page) > 99
    page.click("[data-part='1.0']")
    assert recalled(page) < 15
    assert "Without head 1.0, e falls from" in page.text(".sentence")
    page.click("#bar .without button")
    show(page, "film")
    assert "has had at least 50 % since step 10" in page.text(".sentence")
    press(page, "s")
    press(page, "S", shift=True)
    page.run(
        "document.querySelector('#bar input').value = 0;"
        " document.querySelector('#bar input').dispatchEvent(new Event('input'))"
    )
    page.settle()
    assert recalled(page) < 15


@pytest.mark.parametrize("view", VIEWS)
def test_view_is_drawn_with_title_sentence_and_number(page, view):
    show(page, view)
    assert page.text("h1").endswith("?")
    assert page.text(".sentence")
    assert page.text("#inspector .value")
    assert page.run("document.querySelector('#view').childElementCount") > 0


def test_part_from_another_text_carries_its_answer(page):
    show(page, "whatif")
    page.run("document.querySelector('[data-other]').value = 'abckefgabc'")
    page.click("[data-take]")
    page.wait("document.querySelector('[data-patched=\"1.0\"]') !== null")
    assert "With head 1.0 from the other text the model goes 100 % of the way" in page.text(
        ".sentence"
    )
    assert "source=abckefgabc" in page.run("location.hash")
    page.run("document.querySelector('[data-other]').value = 'abc'")
    page.click("[data-take]")
    page.wait("document.querySelector('#view [role=status]') !== null")
    assert "has 3 tokens and the text has 10" in page.text("#view [role=status]")
    page.events.clear()  # the refused request


def test_tokenizers_are_listed_below_each_other(page):
    show(page, "pieces")
    assert "2 of 10 tokens in texts of its kind" in page.text("#inspector")  # the last c
    assert "10 tokens, 1.0 bytes each" in page.text("[data-tokenizer='characters']")
    assert "(11 in the vocabulary): 10 tokens" in page.text("[data-tokenizer='this model']")


def test_tree_shows_next_tokens_and_extends_the_text(page):
    show(page, "next")
    page.run(
        "document.querySelector('[aria-label=\"The next five tokens\"] :nth-child(2)').click()"
    )
    page.wait("document.querySelectorAll('.tree .best').length === 5")
    best = "[...document.querySelectorAll('.tree .best .token')].map((el) => el.textContent)"
    assert page.run(f"{best}.join('')") == "defga"
    page.run("document.querySelectorAll('.tree .best')[1].click()")
    page.wait(f"document.querySelectorAll('.chip').length === {len(TEXT) + 2}")


def test_link_restores_the_state(page):
    page.run(
        "location.hash ="
        " '#view=lenses&text=abcabc&token=2&lens=raw&without=0.0&step=10&lensLayer=1'"
    )
    page.wait("document.querySelector('#view').dataset.view === 'lenses'")
    page.settle()
    before = page.text("#stage"), page.run("location.hash")
    page.call("Page.reload")
    page.wait(
        "document.documentElement.dataset.ready === 'true' && document.querySelector('#stage"
        " h1').textContent"
    )
    page.settle()
    assert (page.text("#stage"), page.run("location.hash")) == before
    assert "Without" not in before[0]
    assert page.text("#bar .without") == "without0.0 ×"


def test_keyboard_moves_the_selection(page):
    show(page, "attention")
    position = "Number(document.querySelector('.chip[aria-pressed=true]').dataset.position)"
    start = page.run(position)
    press(page, "ArrowLeft")
    assert page.run(position) == start - 1
    press(page, "ArrowUp")
    assert "layer=0" in page.run("location.hash") or "layer" not in page.run("location.hash")
    for number, view in enumerate(VIEWS[:9], 1):
        press(page, str(number))
        assert page.run("document.querySelector('#view').dataset.view") == view
    press(page, "g")
    page.wait(f"document.querySelectorAll('.chip').length === {len(TEXT) + 1}")
    press(page, "?")
    assert page.text("h1") == "How do I use this?"


def test_keyboard_alone_takes_the_tour(page):
    """Use only Tab, Enter and the keys of the page; answer the question of every step."""
    press(page, "t")
    steps = 0
    while page.run("document.querySelector('.band') !== null"):
        steps += 1
        for selector in (".band .answers button", ".band nav .primary"):
            tabs = 0
            while not page.run(f"document.activeElement.matches({json.dumps(selector)})"):
                page.press("Tab")
                tabs += 1
                assert tabs < 300, f"step {steps}: Tab does not reach {selector}"
            press(page, "Enter")
            if "answers" in selector:
                assert page.text(".band [role=status]")
        assert steps < 20
    assert steps == 12


def test_tab_leaves_every_grid(page):
    """No keyboard trap: from the matrix, Tab continues to what follows."""
    show(page, "attention")
    page.run("document.querySelector('[role=grid]').focus()")
    press(page, "ArrowLeft")
    assert page.run("document.activeElement.getAttribute('role')") == "grid"
    page.press("Tab")
    assert page.run("document.activeElement.getAttribute('role')") != "grid"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_playground_has_no_serious_accessibility_violations(page, theme):
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    page.media(prefers_color_scheme=theme, prefers_reduced_motion="reduce")
    page.call("Page.setBypassCSP", enabled=True)
    page.run("location.hash += '&tree=beam&source=abckefgabc'")  # optional parts of two views
    found = []
    for view in VIEWS:
        show(page, view)
        if view == "next":
            page.wait("document.querySelector('.tree .best') !== null")
        if view == "whatif":
            assert page.run("document.querySelector('[data-patched]') !== null")
        page.run(AXE.read_text(encoding="utf-8") + "; true")
        violations = page.run(
            "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)"
        )
        serious = [each for each in violations if each["impact"] in ("serious", "critical")]
        found += [f"{view}: {each['id']}: {each['nodes'][0]['html'][:150]}" for each in serious]
    page.call("Page.setBypassCSP", enabled=False)
    page.media()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("width", [360, 1024, 1440])
def test_page_is_no_wider_than_the_window(page, width):
    page.resize(width, 800)
    try:
        for view in VIEWS:
            show(page, view)
            assert page.run("document.documentElement.scrollWidth") <= width, view
    finally:
        page.resize(1440, 900)


@pytest.fixture(scope="module")
def page_of_256_tokens(tmp_path_factory):
    """The address of a page of a model with a context of 256 tokens."""
    tokenizer = CharTokenizer.train(["abcdefgh"], end_of_text=False)
    model = build(GPTConfig(tokenizer.n_vocab, 256, emb_dim=24, n_heads=6, n_layers=3)).eval()
    models = {"long": NamedModel(model, tokenizer)}
    with playing(tmp_path_factory.mktemp("long"), models, ["abcdefgh"]) as server:
        yield server.url


@pytest.mark.parametrize("view", ["attention", "flow", "lenses"])
def test_text_of_256_tokens_is_drawn(chromium, page_of_256_tokens, view):
    """Each matrix is one canvas instead of an element for each pair of tokens."""
    chromium.events.clear()
    chromium.open(page_of_256_tokens)
    chromium.run(f"location.hash = '#view={view}&text={'abcdefgh' * 32}'")
    chromium.wait("document.querySelectorAll('.chip').length === 256")
    show(chromium, view)
    assert chromium.text("h1").endswith("?")
    assert chromium.run("document.querySelectorAll('#view *').length") < 6_000
    assert chromium.run("document.documentElement.scrollWidth") <= 1440
    assert chromium.problems() == []


def test_long_text_fills_the_context(page):
    """The whole context of 15 tokens works; one more is an error, and the page stays."""
    page.run(f"location.hash = '#view=attention&text={'abcde' * 3}'")
    page.wait("document.querySelectorAll('.chip').length === 15")
    page.run(f"location.hash = '#view=attention&text={'abcde' * 3}f'")
    page.wait(
        "document.querySelector('.sentence').textContent.includes('has 16 tokens,"
        " and the model reads 15')"
    )
    assert page.text("h1").endswith("?")
    (problem,) = page.problems()  # the refused request
    assert "400" in problem
    page.events.clear()


def test_write_streams_tokens_and_stops(page):
    page.run("location.hash = '#view=write&text=abcdefgabc&temperature=0'")
    page.wait("document.querySelector('#view').dataset.view === 'write'")
    page.settle()
    page.click("#view .primary")
    page.wait("document.querySelectorAll('.story .new').length >= 4")
    assert page.text(".story").startswith("abcdefgabcdefg")
    if page.run("document.querySelector('#view .primary').textContent === 'Stop'"):
        page.press("Escape")
    page.wait("document.querySelector('#view .primary').textContent === 'Write'")
    page.settle()
    assert "tokens" in page.text(".sentence")
    command, program = page.run(
        "[...document.querySelectorAll('pre.command')].map((p) => p.textContent)"
    )
    assert command.startswith("llm-scratch generate by hand 'abcdefgabc' --temperature 0 --seed")
    assert 'stream(model, tokenizer, "abcdefgabc", temperature=0, seed=' in program


def test_sliders_change_the_bars_in_the_page_alone(page):
    show(page, "next")
    n_before = len(page.requested())
    page.run(
        "const slider = document.querySelectorAll('.sliders input')[1]; slider.value = 1;"
        " slider.dispatchEvent(new Event('input'))"
    )
    page.settle()
    assert "top_k=1" in page.run("location.hash")
    assert page.run("document.querySelectorAll('.bars .cut').length") == 10
    assert "The samplers exclude 10 tokens" in page.text(".sentence")
    assert not [url for url in page.requested()[n_before:] if not url.endswith("/api/ping")]


def test_matrix_of_all_heads_names_the_head_of_a_cell(page):
    page.run("location.hash = '#view=attention&text=abcdefgabc&token=9&heads=all'")
    page.wait("document.querySelector('.sentence').textContent.startsWith('Of all heads, 1.0')")
    page.settle()
    assert "looks 100 % at d" in page.text(".sentence")
    assert "head 1.0" in page.text("#view")


def test_text_is_shaded_by_surprise_or_entropy(page):
    show(page, "next")
    shades = (
        "[...document.querySelectorAll('.chip')].map((c) => +c.style.getPropertyValue('--weight'))"
    )
    assert set(page.run(shades)) == {0}
    page.click("[aria-label=Shade] :nth-child(2)")
    surprise = page.run(shades)
    assert max(surprise[:7]) > 0.3 > max(surprise[8:])  # the second abc is recalled
    page.click("[aria-label=Shade] :nth-child(3)")
    assert page.run(shades) != surprise
    assert "a perplexity of" in page.text("#view")


SAVED = """new Promise((done) => {
  URL.createObjectURL = (blob) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(blob);
    return "data:,";
  };
  const buttons = [...document.querySelectorAll("#inspector button")];
  buttons.find((button) => button.textContent === "%s").click();
})"""


def saved(page, what):
    """The file that a button of the inspector saves: (media type, bytes)."""
    head, data = page.run(SAVED % what).split(",", 1)
    return head.split(";")[0].removeprefix("data:"), b64decode(data)


def test_views_are_saved_as_table_and_pictures(page):
    for view in VIEWS:
        show(page, view)
        title = page.text("h1")
        media_type, picture = saved(page, "SVG")
        root = ElementTree.fromstring(picture)
        assert media_type == "image/svg+xml"
        assert title in "".join(root.itertext())
        assert "--accent" in "".join(root.itertext()), "the style sheet is inside"
        if view == "write":
            continue  # nothing is written yet
        media_type, table = saved(page, "CSV")
        assert media_type == "text/csv"
        assert len(table.decode().split("\r\n")) > 2, view
    show(page, "attention")
    media_type, picture = saved(page, "PNG")
    red, green, blue = np.asarray(Image.open(BytesIO(picture)).convert("RGB")).astype(int).T
    wide = page.run("document.querySelector('#stage').scrollWidth")
    assert (media_type, len(red)) == ("image/png", 2 * wide)
    assert ((red > 240) & (green > 200) & (blue < 80)).sum() > 1000  # 100 %, from the canvas


def test_cell_shows_how_its_number_is_computed(page):
    show(page, "attention")
    page.run("document.querySelector('[role=grid]').focus()")
    press(page, "Home")
    press(page, "Enter")
    assert "key=0" in page.run("location.hash")
    assert "query · key" in page.text("#view")
    assert "= weight" in page.text("#view")
