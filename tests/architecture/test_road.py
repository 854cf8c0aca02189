"""The road that a newcomer follows: each station exists, and README prints them in this order."""

from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

ROAD = [
    "data/sources.read",
    "tokenizers/bpe.ByteBPE.encode",
    "data/loader.TokenLoader",
    "model/gpt.GPTModel.forward",
    "model/loss.next_token_loss",
    "storage/checkpoint.save",
    "generation/decode.stream",
]
README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize("station", ROAD)
def test_the_station_exists(station):
    module, _, names = station.partition(".")
    found = attrgetter(names)(import_module("llm_scratch." + module.replace("/", ".")))
    assert callable(found)
    assert found.__doc__


def test_readme_prints_the_road_in_order():
    text = README.read_text(encoding="utf-8")
    places = [text.find(station) for station in ROAD]
    assert -1 not in places, f"README does not name {ROAD[places.index(-1)]}"
    assert places == sorted(places)
