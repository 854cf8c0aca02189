"""Callbacks run in order on rank 0 only, learn how a run ended, and print messages."""

import pytest

from llm_scratch.config import RunConfig
from llm_scratch.training.callbacks import Callback, Callbacks, TrainState


class Recorder(Callback):
    def __init__(self, events, name=""):
        self.events = events
        self.name = name

    def step(self, state, row):
        self.events.append((self.name, row["loss"]))

    def closed(self, state, error):
        self.events.append((self.name, error))


class Warned(Callback):
    def __init__(self):
        self.messages = []

    def warn(self, message):
        self.messages.append(message)


@pytest.fixture
def state(tmp_path):
    return TrainState(config=RunConfig(), folder=tmp_path, model=None, steps=3)


def test_callbacks_are_called_in_order(state):
    events = []
    Callbacks([Recorder(events, "a"), Recorder(events, "b")]).emit(
        Callback.step, state, {"loss": 2.5}
    )
    assert events == [("a", 2.5), ("b", 2.5)]


def test_callbacks_are_silent_on_other_ranks(state, capsys):
    events = []
    callbacks = Callbacks([Recorder(events)], is_main=False)
    callbacks.emit(Callback.step, state, {"loss": 2.5})
    callbacks.warn("careful")
    callbacks.note("so")
    assert events == []
    assert capsys.readouterr().out == ""


def test_callbacks_get_the_error_that_ended_a_run(state):
    events = []
    error = KeyError("x")
    with pytest.raises(KeyError), Callbacks([Recorder(events)]).closing(state):
        raise error
    with Callbacks([Recorder(events)]).closing(state):
        pass
    assert events == [("", error), ("", None)]


def test_base_callback_does_nothing_but_print_messages(state, capsys):
    callbacks = Callbacks([Callback()])
    for event, args in (
        (Callback.started, (False,)),
        (Callback.step, ({},)),
        (Callback.evaluated, ({},)),
        (Callback.sampled, ("x",)),
        (Callback.logged, ({},)),
        (Callback.rolled_back, ()),
        (Callback.finished, ()),
        (Callback.closed, (None,)),
    ):
        callbacks.emit(event, state, *args)
    callbacks.emit(Callback.flush)
    assert capsys.readouterr().out == ""


def test_messages_are_printed_once_unless_a_callback_handles_them(capsys):
    Callbacks([Callback(), Callback()]).warn("careful")
    assert capsys.readouterr().out == "warning: careful\n"
    warned = Warned()
    callbacks = Callbacks([Callback(), warned])
    callbacks.warn("careful")
    assert warned.messages == ["careful"]
    assert capsys.readouterr().out == ""
    callbacks.note("so")
    assert capsys.readouterr().out == "so\n"
