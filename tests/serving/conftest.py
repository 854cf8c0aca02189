"""A running playground of the hand-built model, and a browser."""

import pytest
from playground_server import playing


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with playing(tmp_path_factory.mktemp("film")) as running:
        yield running


@pytest.fixture
def page(chromium, server):
    """The page of the playground, freshly opened."""
    chromium.events.clear()
    chromium.open(server.url)
    chromium.run("localStorage.clear()")
    yield chromium
    assert chromium.problems() == []
