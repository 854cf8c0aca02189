"""Speed of the playground in headless Chromium: bytes, first paint, requests, sliders, hover.

    python benchmarks/playground.py

The model has 6 layers of 6 heads with random weights and reads 128 tokens. Figures of the page are
medians over 20 actions. Needs Chromium (apt install chromium).
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import threading
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import CHROMIUM, Browser

from llm_scratch.config import GPTConfig
from llm_scratch.model import build
from llm_scratch.serving.http_server import LocalServer
from llm_scratch.serving.model_library import NamedModel
from llm_scratch.serving.playground import open_playground
from llm_scratch.tokenizers.chars import CharTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz .,"
ACTIONS = 20
FRAMES = """new Promise((done) => {
  const grid = document.querySelector("[role=grid]"), box = grid.getBoundingClientRect();
  const times = [];
  let number = 0;
  requestAnimationFrame(function frame(now) {
    times.push(now);
    if (++number > 60) return done((times.at(-1) - times[0]) / 60);
    const x = box.left + box.width / 2 + number, y = box.bottom - 40 - (number % 40);
    grid.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
    requestAnimationFrame(frame);
  });
})"""
SLIDER = """new Promise((done) => {
  const slider = document.querySelector(".sliders input");
  const began = performance.now();
  const observer = new MutationObserver(() => {
    observer.disconnect();
    done(performance.now() - began);
  });
  observer.observe(document.querySelector(".bars"), { childList: true });
  slider.value = String(%f);
  slider.dispatchEvent(new Event("input"));
})"""


def server_of_a_large_model() -> LocalServer:
    """A playground of 6 layers and 6 heads with GPT-2's width of a head."""
    torch.manual_seed(0)
    cfg = GPTConfig(
        vocab_size=len(LETTERS),
        context_length=256,
        emb_dim=384,
        n_heads=6,
        n_layers=6,
        drop_rate=0.0,
    )
    text = (LETTERS * 10)[:128]
    tokenizer = CharTokenizer.train([LETTERS], end_of_text=False)
    return open_playground({"random": NamedModel(build(cfg).eval(), tokenizer)}, [text], port=0)


def request_cost(server: LocalServer) -> dict[str, float]:
    """Server time and bytes of the attention view for a new text of 128 tokens."""
    seconds = []
    for number in range(5):
        text = (LETTERS * 10)[number : number + 128]
        began = time.perf_counter()
        answers = [server.routes["/api/inspect"]({"text": text})]
        seconds.append(time.perf_counter() - began)
        answers += [
            server.routes["/api/attention"]({"text": text, "layer": layer}) for layer in range(6)
        ]
    size = sum(len(gzip.compress(answer)) for answer in answers)
    return {
        "inspect_ms": 1000 * statistics.median(seconds),
        "inspect_and_attention_gz_kb": size / 1000,
    }


def page_cost(server: LocalServer) -> dict[str, float]:
    """Times of the page in a browser."""
    with Browser() as page:
        page.open(server.url)
        began = time.perf_counter()
        page.call("Page.reload")
        page.wait("document.documentElement.dataset.ready === 'true'")
        paint = page.run(
            "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
        )
        ready = 1000 * (time.perf_counter() - began)
        frame = page.run(FRAMES)
        page.press("5")
        page.settle()
        slider = statistics.median(
            page.run(SLIDER % (0.1 + 0.02 * number)) for number in range(ACTIONS)
        )
    return {
        "first_paint_ms": paint,
        "interactive_ms": ready,
        "hover_frame_ms": frame,
        "slider_to_bars_ms": slider,
    }


def main() -> None:
    """Measure, print a table and a JSON line."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    server = server_of_a_large_model()
    own = [file for name, file in server.files.items() if name.endswith((".js", ".css"))]
    row = {
        "js_and_css_gz_kb": sum(len(gzip.compress(file.content)) for file in own) / 1000
    } | request_cost(server)
    if CHROMIUM is not None:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        row |= page_cost(server)
        server.shutdown()
    targets = {
        "js_and_css_gz_kb": 300,
        "inspect_ms": 500,
        "inspect_and_attention_gz_kb": 1500,
        "first_paint_ms": 500,
        "interactive_ms": 1500,
        "hover_frame_ms": 20,
        "slider_to_bars_ms": 32,
    }
    for name, value in row.items():
        print(f"{name:30} {value:8.1f}   target {targets[name]}")
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps({name: round(value, 1) for name, value in row.items()} | machine))


if __name__ == "__main__":
    main()
