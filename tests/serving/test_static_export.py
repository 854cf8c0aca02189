"""The exported folder opens from file:// and answers the requests of its first text."""

import pytest
from playground_server import VIEWS, playing

from llm_scratch.serving.static_export import bundle, export_playground


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    with playing(tmp_path_factory.mktemp("film")) as server:
        return export_playground(server, tmp_path_factory.mktemp("page"))


def test_exported_page_has_three_files(exported):
    assert {path.name for path in exported.parent.iterdir()} == {
        "index.html",
        "page.js",
        "answers.js",
    }


def test_every_view_of_the_exported_page_is_drawn(exported, chromium):
    chromium.leave()
    chromium.open(exported.as_uri())
    for view in VIEWS:
        chromium.run(f"location.hash = location.hash.replace(/&?view=\\w+/, '') + '&view={view}'")
        chromium.wait(f"document.querySelector('#view').dataset.view === '{view}'")
        chromium.settle()
        assert "This page was exported" not in chromium.text(".sentence"), view
    chromium.press("3")
    chromium.settle()
    for key in ["ArrowLeft", "7", "2", "ArrowUp", "4", "5", "6"]:
        chromium.press(key)
        chromium.settle()
        assert "This page was exported" not in chromium.text(".sentence"), key
    chromium.run("location.hash = '#view=attention&text=kkk'")
    chromium.wait("document.querySelector('.sentence').textContent.includes('llm-scratch play')")
    assert chromium.problems() == []
    assert all(url.startswith(("file://", "data:", "about:")) for url in chromium.requested())


def test_bundle_rejects_unsupported_import_forms():
    with pytest.raises(ValueError, match="cannot be bundled: export default"):
        bundle({"a.js": "export default 3;\n"})


def test_bundle_orders_modules_by_their_imports():
    script = bundle(
        {
            "views/a.js": 'import { b } from "../b.js";\nexport const a = b + 1;\n',
            "b.js": "export const b = 1;\n",
        }
    )
    assert script.index("// b.js") < script.index("// views/a.js")
    assert 'const { b } = modules["b.js"];' in script
