"""F6: every known fault of a server ends in the pinned file or in one clear error.

The single faults are in tests/storage/test_download.py.
"""

import random
import threading
from itertools import pairwise

import pytest
from storage.test_download import (  # noqa: F401 two of them are fixtures
    CONTENT,
    HOPELESS,
    MENDED,
    cut,
    get,
    pauses,
    reset,
    server,
    stall,
)

from llm_scratch.errors import DATA, UserError
from llm_scratch.storage import http_client
from llm_scratch.storage.download import MAX_ATTEMPTS


@pytest.fixture
def seen(tmp_path):
    """Every content under the final name, observed continuously by another thread."""
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


def test_f6_each_fault_ends_in_the_pinned_file_or_one_error(
    server,  # noqa: F811
    tmp_path,
    pauses,  # noqa: F811
    seen,
    measured,
    monkeypatch,
):
    draw, recovered = random.Random(6), 0
    faults = [list(faults) for _, faults in MENDED.values()]
    faults += [[reset(draw.randrange(len(CONTENT)))] for _ in range(20)] + [[stall]]
    monkeypatch.setattr(http_client, "TIMEOUT", 1.0)
    for i, fault in enumerate(faults):
        server.faults = fault
        assert get(server, tmp_path / str(i)).read_bytes() == CONTENT
        recovered += 1
    for name, (behave, tries, _) in HOPELESS.items():
        server.faults = [behave] * 100
        n_before = len(server.requests)
        with pytest.raises(UserError) as error:
            get(server, tmp_path / name)
        assert error.value.code == DATA
        assert tries is None or len(server.requests) - n_before == tries <= MAX_ATTEMPTS
        assert not (tmp_path / name / "file.bin").exists()
    assert all(1 <= pause <= 30 for pause in pauses)
    assert seen <= {CONTENT}
    total = len(faults) + len(HOPELESS)
    measured(
        "F6",
        f"{total} faults: {recovered} recovered, {len(HOPELESS)} refused, {MAX_ATTEMPTS} attempts"
        " each; no partial file under the final name",
        "100 % end in the pinned file or in an error",
    )


@pytest.mark.parametrize("broken", [cut, reset], ids=["closed", "reset"])
def test_f6_resumed_download_does_not_repeat_received_bytes(server, tmp_path, monkeypatch, broken):  # noqa: F811
    """Each attempt starts at the end of the partial file; a break loses at most one chunk."""
    draw = random.Random(66)
    monkeypatch.setattr(http_client, "CHUNK", 1000)
    breaks = [draw.randrange(1000, 16_000) for _ in range(20)]
    server.folder, server.faults = tmp_path, [broken(n) for n in breaks]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.parts) == 21
    assert all(begin == on_disk for begin, on_disk in server.parts), server.parts
    gained = [after - before for (before, _), (after, _) in pairwise(server.parts)]
    if broken is cut:  # a line that closes in order delivers what was sent
        assert gained == breaks
        assert server.sent == len(CONTENT)
    assert all(0 <= got <= sent for got, sent in zip(gained, breaks, strict=True))
