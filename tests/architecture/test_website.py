"""The site: every page is in the navigation, every link resolves, no other host is contacted."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM, Browser
from website.build import HERE, ROOT, build, for_myst, run_sphinx, stage

from llm_scratch.errors import UserError
from llm_scratch.learn.glossary import terms

TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.S)
AXE = ROOT / "node_modules/axe-core/axe.min.js"
HAS_SPHINX = all(find_spec(name) for name in ("sphinx", "furo", "myst_nb"))
needs_sphinx = pytest.mark.skipif(
    not HAS_SPHINX, reason="the site's generator is not installed: pip install -e '.[docs]'"
)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


class Page(HTMLParser):
    """The ids, links, loaded addresses and terms of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loaded, self.terms = set(), [], [], []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "author"):
            self.loaded.append(found["href"])
        elif found.get("src"):
            self.loaded.append(found["src"])
        if found.get("class") == "term":
            self.terms.append((found["popovertarget"], list(self.open)))
        if tag not in ("meta", "link", "img", "input", "br", "hr", "col", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


def navigation() -> list[str]:
    """The pages of the navigation, without their titles there."""
    index = (HERE / "index.md").read_text(encoding="utf-8")
    lines = [line for block in TOCTREE.findall(index) for line in block.splitlines()]
    return [re.sub(r".*<(.*)>", r"\1", line) for line in lines if line and not line.startswith(":")]


def test_navigation_has_every_page_once(tmp_path):
    stage(tmp_path)
    pages = [path for path in tmp_path.rglob("*") if path.suffix in (".md", ".ipynb")]
    names = {path.relative_to(tmp_path).with_suffix("").as_posix() for path in pages}
    assert "notebook/step0" in names
    assert "docs/api" in names
    assert sorted(navigation()) == sorted(names - {"index"})


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_local_links_of_a_guide_lead_to_files(page):
    """Check links without the generator, too; it has no page for a folder."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not urlsplit(link).scheme]
    assert [link for link in local if not (page.parent / unquote(link)).is_file()] == []


def test_folded_cells_stay_folded():
    cells = [{"cell_type": "code", "metadata": {"jupyter": {"source_hidden": True}, "tags": ["a"]}}]
    cells.append({"cell_type": "code", "metadata": {}})
    staged = json.loads(for_myst(json.dumps({"cells": cells})))["cells"]
    assert staged[0]["metadata"]["tags"] == ["a", "hide-input"]
    assert staged[1]["metadata"] == {}


def test_alternative_text_is_in_one_line():
    source = ["# Title\n", "![a stack of\n", "2 tables](drawings/x.svg)"]
    cell = {"cell_type": "markdown", "metadata": {}, "source": source}
    (staged,) = json.loads(for_myst(json.dumps({"cells": [cell]})))["cells"]
    assert staged["source"] == "# Title\n![a stack of 2 tables](drawings/x.svg)"


@pytest.mark.skipif(HAS_SPHINX, reason="Sphinx is installed")
def test_error_names_the_packages_when_sphinx_is_missing(tmp_path):
    with pytest.raises(UserError, match="install it with: pip install sphinx furo myst-nb"):
        run_sphinx(tmp_path, tmp_path / "html")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the built site."""
    return build(tmp_path_factory.mktemp("site") / "html").parent


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    """Every page of the built site by its path."""
    return {path: Page(path) for path in site.rglob("*.html")}


@needs_sphinx
def test_website_local_links_resolve_to_a_page_and_an_anchor(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            there = pages[target].ids if target in pages else {""}
            if not target.exists() or (target in pages and url.fragment not in there | {""}):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 30
    assert not broken


@needs_sphinx
def test_website_sources_name_no_external_host(site, pages):
    loaded = {address for page in pages.values() for address in page.loaded}
    for sheet in site.rglob("*.css"):
        style = sheet.read_text("utf-8")
        found = re.findall(r"""(?:@import\s+["']|url\(["']?)([^"')]+)""", style)
        loaded.update(address for address in found if not address.startswith(("data:", "#")))
    assert any(address.endswith("site.css") or "site.css?" in address for address in loaded)
    assert not [address for address in loaded if re.match(r"(\w+:)?//", address)]


@needs_sphinx
def test_first_use_of_a_term_opens_its_explanation(pages):
    by_name = {path.parent.name + "/" + path.stem: page for path, page in pages.items()}
    lesson = by_name["notebook/step2"]
    targets = [target for target, _ in lesson.terms]
    assert {"term-query", "term-softmax"} <= set(targets)
    assert len(targets) == len(set(targets))
    for name, page in by_name.items():
        for target, parents in page.terms:
            assert target in page.ids, name
            assert not {"a", "code", "pre", "h1", "h2", "h3", "button"} & set(parents), name
    assert not by_name["docs/glossary"].terms
    inside = re.compile(r'[\w./-]<button type="button" class="term"')  # vocab.bpe, --tokenizer
    assert not [path for path in pages if inside.search(path.read_text("utf-8"))]
    explained = {target for page in pages.values() for target, _ in page.terms}
    always = sum(not term.everyday for term in terms().values())
    assert len(explained) >= always


@needs_sphinx
def test_pictures_have_alternative_texts(site):
    lesson = (site / "notebook/step0.html").read_text("utf-8")
    texts = re.findall(r'<img alt="([^"]*)"', lesson)
    assert any("a stack of 2 such tables" in text for text in texts)
    assert "plot, drawn by the code above" in texts
    assert not [text for text in texts if not text or "_images" in text]


@needs_sphinx
def test_broken_link_fails_the_build(tmp_path, capfd):
    (tmp_path / "index.md").write_text("# Site\n\n[away](nowhere.md)\n")
    with pytest.raises(UserError, match="Sphinx reports the problems above"):
        run_sphinx(tmp_path, tmp_path / "html")
    assert "nowhere.md" in capfd.readouterr().err


@needs_sphinx
@needs_browser
def test_website_pages_request_no_external_host_and_fit_a_phone(site):
    pages = ["index", "notebook/step2", "docs/api", "docs/json", "benchmarks/RESULTS"]
    with Browser(width=360, height=800) as browser:
        for name in pages:
            browser.call("Page.navigate", url=(site / f"{name}.html").as_uri())
            browser.wait("document.readyState === 'complete'")
            assert browser.run("document.documentElement.scrollWidth") == 360, name
            widths = "[...document.querySelectorAll('p > img[src$=svg]')].map((img) => img.width)"
            assert all(width >= 600 for width in browser.run(widths)), "text too small to read"
        browser.call("Page.navigate", url=(site / "search.html").as_uri() + "?q=perplexity")
        browser.wait("document.querySelector('#search-results li a') !== null")
        requested = browser.requested()
        assert len(requested) > 20
        assert not [url for url in requested if urlsplit(url).scheme not in ("file", "data")]
        assert not browser.problems()


@needs_sphinx
@needs_browser
@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm install axe-core")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_website_has_no_serious_accessibility_violations(site, theme):
    found = []
    with Browser() as browser:
        browser.media(prefers_color_scheme=theme, prefers_reduced_motion="reduce")
        for name in ["index", "notebook/step2", "docs/api"]:
            browser.call("Page.navigate", url=(site / f"{name}.html").as_uri())
            browser.wait("document.readyState === 'complete'")
            browser.run("document.querySelector('.term')?.click()")
            browser.run(AXE.read_text("utf-8") + "; true")
            violations = browser.run(
                "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"
            )
            serious = [each for each in violations if each["impact"] in ("serious", "critical")]
            found += [f"{name}: {each['id']}: {each['nodes'][0]['html'][:150]}" for each in serious]
    assert not found, "\n".join(found)
