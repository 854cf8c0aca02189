"""`report` writes its page."""

from __future__ import annotations


def test_report_is_written_into_the_run(llm, trained):
    result = llm("report", trained)
    assert (result.code, result.out, result.err) == (0, f"{trained}/report.html\n", "")
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "finished" in page
    assert "Step 4, after" in page, "the generated text"
    assert llm("report", trained, "--out", "mine.html").out == "mine.html\n"


def test_report_rejects_a_folder_that_is_not_a_run(llm, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("folder", "gpt2"):
        result = llm("report", name)
        assert (result.code, result.err.count("\n")) == (4, 1)
        assert f"{name}: not a run directory" in result.err
    assert not list(tmp_path.rglob("*.html"))


def test_report_of_a_quantized_or_imported_model_is_written(llm, trained):
    assert llm("quantize", trained, "--out", "few").code == 0
    assert llm("import", next((trained / "ckpt").glob("step-*")), "--out", "other").code == 0
    for name, words in (("few", "quantized to 8 bits"), ("other", "Imported from")):
        result = llm("report", name)
        assert (result.code, result.err) == (0, "")
        assert words in (trained.parent / name / "report.html").read_text(encoding="utf-8")
    assert llm("generate", "few", "the", "--max-tokens", "2").code == 0, (
        "the page does not damage the run"
    )
