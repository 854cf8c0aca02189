"""F6: every fault of a server that we know ends in the pinned file or in one clear error (one by one: tests/test_download.py)."""

import random
import threading

import pytest
from test_download import CONTENT, HOPELESS, MENDED, cut, get, pauses, reset, server, stall  # noqa: F401 the two are fixtures

from llm_scratch import download, web
from llm_scratch.download import TRIES
from llm_scratch.errors import DATA, UserError
from llm_scratch.web import CHUNK


@pytest.fixture
def seen(tmp_path):
    """What stood under the final name at any moment, looked at all the time from another thread."""
    found, over = set(), threading.Event()

    def look():
        while not over.is_set():
            for path in tmp_path.rglob("file.bin"):
                found.add(path.read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    yield found
    over.set()
    watcher.join()


def test_f6_each_fault_ends_in_the_file_or_in_one_error(server, tmp_path, pauses, seen, measured, monkeypatch):  # noqa: F811
    draw, mended = random.Random(6), 0
    faults = [list(faults) for _, faults in MENDED.values()]
    faults += [[reset(draw.randrange(len(CONTENT)))] for _ in range(20)] + [[stall]]
    monkeypatch.setattr(web, "TIMEOUT", 0.5)
    for i, fault in enumerate(faults):
        server.faults, before = fault, server.sent
        assert get(server, tmp_path / str(i)).read_bytes() == CONTENT
        mended += 1
        if fault and all(f in (reset, cut) for f in fault):
            assert server.sent - before <= len(CONTENT) + CHUNK
    for name, (behave, tries, _) in HOPELESS.items():
        server.faults = [behave] * 100
        asked = len(server.asked)
        with pytest.raises(UserError) as error:
            get(server, tmp_path / name)
        assert error.value.code == DATA
        assert tries is None or len(server.asked) - asked == tries <= TRIES
        assert not (tmp_path / name / "file.bin").exists()
    assert all(1 <= pause <= 30 for pause in pauses)
    assert seen <= {CONTENT}
    total = len(faults) + len(HOPELESS)
    measured("F6", f"{mended} mended and {len(HOPELESS)} refused of {total} faults, {TRIES} tries, nothing half under the name", "100 %")


def test_f6_what_came_before_a_break_is_not_read_again(server, tmp_path, monkeypatch):  # noqa: F811
    draw = random.Random(66)
    monkeypatch.setattr(web, "CHUNK", 1000)
    for i in range(20):
        cuts = [draw.randrange(2000, 60_000) for _ in range(3)]
        server.faults, before = [cut(n) for n in cuts], server.sent
        assert get(server, tmp_path / str(i)).read_bytes() == CONTENT
        assert server.sent - before <= len(CONTENT) + 3 * CHUNK
    assert download.TRIES == 5
