"""`chat`: the transcript, its commands, and a session in a real terminal."""

from __future__ import annotations

import io
import json
import re
import sys
from types import SimpleNamespace

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.cli import main, token_printer
from llm_scratch.cli.chat_commands import COMMANDS, show
from llm_scratch.cli.chat_session import ChatSession
from llm_scratch.cli.commands import chat
from llm_scratch.errors import UserError
from llm_scratch.generation.chat import ASSISTANT, STOP_STRINGS, USER, Conversation
from llm_scratch.generation.decode import stream
from llm_scratch.generation.detokenizer import TextChunk
from llm_scratch.loading import load
from llm_scratch.model.gpt import GPTModel


@pytest.fixture(scope="module")
def trained(text_file, tmp_path_factory):
    """A tiny run whose tokenizer has every character."""
    folder = tmp_path_factory.mktemp("talker") / "tiny run"
    words = f"""--data.tokenizer bpe --data.val-fraction 0.2 --model.vocab-size 270
        --model.context-length 32 --model.emb-dim 16 --model.n-heads 2 --model.n-layers 1
        --train.steps 1 --train.batch-size 2 --train.prompt the --out {folder.parent}/run"""
    assert main(["train", "shakespeare", "--data.source", f"file:{text_file}", *words.split()]) == 0
    return (folder.parent / "run").rename(folder)


@pytest.fixture
def say(llm, trained, monkeypatch):
    """Chat with these lines as piped input and return the output after the greeting."""

    def talk(*lines, words=("--max-tokens", "8", "--seed", "1")):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
        result = llm("chat", trained, *words)
        result.out = result.out.partition("commands.\n\n")[2]
        return result

    return talk


def test_chat_prompt_is_the_transcript_up_to_the_models_turn():
    talk = Conversation(
        "Two hens.", [(USER, "Hello"), (ASSISTANT, " Cluck"), (USER, "Why?")], transcript=True
    )
    assert (
        talk.prompt(lambda text: True) == "Two hens.\n\nYou: Hello\nModel: Cluck\nYou: Why?\nModel:"
    )
    assert (
        talk.prompt(lambda text: "Hello" not in text)
        == "Two hens.\n\nModel: Cluck\nYou: Why?\nModel:"
    )
    assert talk.prompt(lambda text: False) == "Two hens.\n\nYou: Why?\nModel:"
    assert STOP_STRINGS == ["\nYou:", "\nModel:"]


def test_chat_prompt_without_a_transcript_is_the_last_input():
    talk = Conversation(
        "Two hens.", [(USER, "Hello"), (ASSISTANT, " Cluck"), (USER, "Why"), (ASSISTANT, ", said")]
    )
    assert talk.prompt(lambda text: False) == "Two hens.\n\nWhy, said"
    assert (
        Conversation(turns=[(USER, "Hello"), (ASSISTANT, " Cluck"), (USER, "Why")]).prompt(
            lambda text: True
        )
        == "Why"
    )


def test_chat_of_a_base_model_equals_generate(say, llm, trained):
    prompts = ("the hen", "a fox")
    words = ("--max-tokens", "12", "--seed", "5", "--temperature", "1.5")
    result = say(*prompts, words=words)
    want = llm("generate", trained, *prompts, *words).out.removesuffix("\n").split("\n\n\n")
    assert result.code == 0
    answers = result.out.removesuffix("\n\n").split("\n\n")
    assert answers == [
        text.removeprefix(prompt).lstrip() for text, prompt in zip(want, prompts, strict=True)
    ]


def test_chat_enter_continues_the_last_text(say, trained, tmp_path):
    eot = load(trained)[1].eot_token
    words = ("--max-tokens", "6", "--temperature", "0", "--logit-bias", f"{eot}=-1000")
    say("the hen", "", "/save talk.json", words=words)
    turns = json.loads((tmp_path / "talk.json").read_text())["turns"]
    model, tokenizer = load(trained)
    once = "".join(
        stream(
            model, tokenizer, "the hen", max_new_tokens=6, temperature=0, logit_bias={eot: -1000}
        )
    )
    twice = once + "".join(
        stream(
            model,
            tokenizer,
            "the hen" + once,
            max_new_tokens=6,
            temperature=0,
            logit_bias={eot: -1000},
        )
    )
    assert turns == [[USER, "the hen"], [ASSISTANT, twice]]


def test_chat_enter_after_end_of_text_prints_a_note(say, trained):
    result = say("the hen", "", words=("--logit-bias", f"{load(trained)[1].eot_token}=1000"))
    assert "the text ended with" in result.err
    assert say("", "/transcript", "").err == ""


def test_chat_retry_replaces_and_undo_removes_a_turn(say, tmp_path):
    words = ("--max-tokens", "9", "--seed", "1", "--temperature", "1.5")
    result = say(
        "the hen",
        "/retry",
        "/save retried.json",
        "a fox",
        "/undo",
        "/save undone.json",
        "/undo",
        "/undo",
        words=words,
    )
    first, second = (answer for answer in result.out.split("\n\n")[:2])
    retried, undone = (
        json.loads((tmp_path / f"{name}.json").read_text())["turns"]
        for name in ("retried", "undone")
    )
    assert [who for who, _ in retried] == [USER, ASSISTANT]
    assert first != second == retried[1][1].lstrip()
    assert undone == retried
    assert "removed: a fox\n" in result.out
    assert "no turns yet" in result.err
    assert "no turns yet" in say("/retry").err


def test_chat_retry_that_fails_keeps_the_answer(say, tmp_path):
    result = say("the hen", "/save a.json", "/set logit_bias 99999=1", "/retry", "/save b.json")
    assert "99999" in result.err
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("//bye", "/bye"),
        ("/say /bye", "/bye"),
        ("/say -x", "-x"),
        ("-x", "-x"),
        ("--help", "--help"),
        ('"""/bye"""', "/bye"),
        ('/say """', '"""'),
        ("/say  two spaces", " two spaces"),
    ],
)
def test_chat_say_command_sends_any_text(typed, text, say, tmp_path):
    assert say(typed, "/save talk.json").err == ""
    assert json.loads((tmp_path / "talk.json").read_text())["turns"][0] == [USER, text]


def test_chat_prints_the_prompt_format_and_changes_it(llm, trained, monkeypatch, tmp_path):
    lines_by_flag = {}
    for flag in ([], ["--transcript"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO("/transcript\n/save talk.json\n"))
        lines_by_flag[bool(flag)] = llm("chat", trained, *flag).out.splitlines()
        assert json.loads((tmp_path / "talk.json").read_text())["transcript"] is not bool(flag)
    [continues], [transcript] = (
        [line for line in lines[:3] if "base model" in line] for lines in lines_by_flag.values()
    )
    assert "as `generate` does" in continues
    assert "/transcript" in continues
    assert "transcript" in transcript
    assert "/transcript off" in transcript
    assert continues in lines_by_flag[True][3:]
    assert transcript in lines_by_flag[False][3:]


def test_chat_answers_equal_stream_on_the_transcript(say, trained):
    result = say(
        "the hen", "a fox", words=("--max-tokens", "8", "--temperature", "0", "--transcript")
    )
    model, tokenizer = load(trained)
    talk, want = Conversation(transcript=True), ""
    for words in ("the hen", "a fox"):
        talk.turns.append((USER, words))
        prompt = talk.prompt(lambda text: len(tokenizer.encode(text)) <= 32 - 8)
        answer = "".join(
            stream(model, tokenizer, prompt, max_new_tokens=8, temperature=0, stop=STOP_STRINGS)
        )
        talk.turns.append((ASSISTANT, answer.strip()))
        want += answer.lstrip() + "\n\n"
    assert (result.code, result.out) == (0, want)


def test_chat_turn_computes_only_new_tokens(say, trained, monkeypatch):
    read, hidden, [letter] = [], GPTModel.hidden, load(trained)[1].encode("h")
    monkeypatch.setattr(
        GPTModel,
        "hidden",
        lambda self, ids, cache=None: read.append(ids.shape[1]) or hidden(self, ids, cache),
    )
    say(
        "a",
        "b",
        "/clear",
        "c",
        words=("--transcript", "--max-tokens", "1", "--logit-bias", f"{letter}=1000"),
    )
    prompt, turn = len("You: a\nModel:"), len("\nYou: b\nModel:")
    assert prompt - 3 <= read[0] <= prompt  # a token may hold two letters or three
    assert turn - 5 <= read[1] <= turn + 2  # the answer is read with the next turn
    assert read[2] <= len("c\nModel:")
    assert len(read) == 3


def test_chat_answers_repeat_with_the_seed(say):
    first, again, other = (
        say("the hen", "the hen", words=("--max-tokens", "9", "--seed", seed)).out for seed in "112"
    )
    assert first == again != other


def test_chat_lines_between_quotes_are_one_turn(say, tmp_path):
    say('"""the hen', "sat", 'on the mat"""', '"""one line"""', "/save talk.json")
    turns = json.loads((tmp_path / "talk.json").read_text())["turns"]
    assert [what for who, what in turns if who == USER] == ["the hen\nsat\non the mat", "one line"]


def test_chat_conversation_is_saved_shown_cleared_and_loaded(say, tmp_path):
    result = say(
        "/set system Two hens.",
        "the hen",
        "/save talk.json",
        "/clear",
        "/show history",
        "/load talk.json",
        "/show history",
    )
    assert json.loads((tmp_path / "talk.json").read_text())["system"] == "Two hens."
    assert (
        "2 turns in talk.json\nnew conversation\nThere are no turns yet.\n2 turns from"
        " talk.json\nYou: the hen\nModel:" in result.out
    )


def test_chat_settings_are_set_shown_and_reset(say):
    result = say(
        "/temp 0.3",
        "/set top-k 5",
        "/set parameter min_p 0.1",
        "/topk off",
        "/set seed 9",
        "/set max_tokens 3",
        "/probs",
        "/show",
    )
    assert result.err == ""
    settings = [line.split() for line in result.out.splitlines()]
    assert ["temperature", "is", "0.3"] in settings
    assert ["top_k", "is", "off"] in settings
    shown = {line[0]: line[1] for line in settings if len(line) == 2}
    assert (
        shown["temperature"],
        shown["min_p"],
        shown["seed"],
        shown["max_tokens"],
        shown["turns"],
    ) == ("0.3", "0.1", "9", "3", "0")
    assert "top_k" not in shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/sett x", "unknown command '/sett'; did you mean '/set'? //sett x sends it as text"),
        ("/set temprature 1", "unknown setting 'temprature'; did you mean 'temperature'?"),
        ("/set", "/set needs a name and a value"),
        ("/temp warm", "temperature is 'warm'; expected a number, or off"),
        ("/topk 1.5", "top_k is '1.5'; expected a whole number, or off"),
        ("/set max_tokens off", "/set max_tokens: a value is missing"),
        ("/load", "/load: the argument is missing"),
        ("/load none.json", "No such file"),
        ("/load nowhere", "no run 'nowhere'"),
        ("/save talk", "not the name of a .json file"),
    ],
)
def test_chat_continues_after_a_command_that_fails(line, message, say):
    result = say(line, "the hen", "/bye", "never read")
    assert result.code == 0
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert len(result.out) > 2


def test_chat_setting_that_a_sampler_rejects_leaves_no_turn(say):
    result = say("/set logit_bias 99999=1", "the hen", "/set logit_bias off", "/show history")
    assert "logit_bias: no token 99999" in result.err
    assert "You:" not in result.out


def test_chat_set_rejects_a_number_out_of_range(say):
    result = say("/topk 0", "the hen", "/show history")
    assert "/set top_k: 0 is out of range; give a whole number from 1 to" in result.err
    assert "You: the hen" in result.out


def test_chat_help_explains_every_command(say):
    out = say("/?").out
    assert all(f"\n{name}" in f"\n{out}" for name in COMMANDS if name != "/help")
    assert out == say("/help").out


@pytest.mark.parametrize("transcript", [False, True])
def test_loaded_chat_equals_the_saved_one(transcript, tmp_path):
    talk = Conversation(
        "Two hens.", [(USER, "Hello"), (ASSISTANT, " Cluck")], transcript=transcript
    )
    talk.save(tmp_path / "x.json")
    assert Conversation.load(tmp_path / "x.json") == talk
    older = json.loads((tmp_path / "x.json").read_text())
    del older["transcript"]
    (tmp_path / "x.json").write_text(json.dumps(older))
    assert Conversation.load(tmp_path / "x.json").transcript, (
        "before the key existed, chats were transcripts"
    )


def test_chat_load_rejects_another_file(tmp_path):
    for text in ("[]", "{", '{"system": "", "turns": [1]}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match="not a conversation"):
            Conversation.load(tmp_path / "x.json")


def test_chat_works_in_a_real_terminal(trained, tmp_path):
    """Ctrl-C stops an answer but not the program; at the prompt it prints how to exit.

    Ctrl-D leaves.
    """
    pexpect = pytest.importorskip("pexpect", reason="needs the extra `dev`")
    eot = load(trained)[1].eot_token
    words = [
        "-m",
        "llm_scratch",
        "chat",
        str(trained),
        "--max-tokens",
        "1000000",
        "--logit-bias",
        f"{eot}=-1000",
    ]
    child = pexpect.spawn(
        sys.executable,
        words,
        cwd=str(tmp_path),
        timeout=PATIENCE_SECONDS,
        encoding="utf-8",
        dimensions=(24, 80),
    )
    child.expect_exact("shows the commands.")
    child.expect_exact(">>> ")
    child.sendline("the hen")
    child.expect_exact("the hen\r\n")
    child.expect(".{9}")
    child.sendintr()
    child.expect_exact(">>> ")
    child.sendline("/set max_tokens 5")
    child.expect_exact("tokens is 5")
    child.expect_exact(">>> ")
    child.sendline('"""two')
    child.expect_exact("... ")
    child.sendline('lines"""')
    child.expect_exact(">>> ")
    child.sendintr()
    child.expect_exact(chat.EXIT_HINT)
    child.expect_exact(">>> ")
    child.sendline("/show")
    child.expect(r"turns +4")
    child.expect_exact(">>> ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_chat_shows_probabilities_in_color(say, monkeypatch):
    monkeypatch.setattr(token_printer, "supports_color", lambda: True)
    assert "\x1b[38;5;16;48;5;" in say("/probs on", "the hen").out


def test_chat_reports_turns_that_no_longer_fit(say):
    result = say(
        "the hen sat",
        "the fox ran",
        "/bye",
        words=("--max-tokens", "3", "--seed", "1", "--transcript"),
    )
    assert re.search(
        r"warning: the context is full: the first (turn is|2 turns are) left out", result.err
    ), result.err


@pytest.mark.parametrize("screen", [True, False])
def test_show_history_prints_no_control_characters_on_a_terminal(screen, monkeypatch, capsys):
    """A transcript read by /load may come from an untrusted source."""
    monkeypatch.setattr("llm_scratch.cli.token_printer.on_terminal", lambda: screen)
    talk = SimpleNamespace(
        conversation=Conversation("", [(USER, "می\u200cخواهم"), (ASSISTANT, "a\x1b[2J")])
    )
    show(talk, "history")
    assert (
        capsys.readouterr().out
        == f"You: می\u200cخواهم\nModel: {'a�' if screen else chr(97) + chr(27)}[2J\n"
    )


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        (None, "This is a base model: "),
        ("{{ messages }}", "The chat template of this model is not"),
    ],
)
def test_chat_says_what_kind_of_model_it_continues(template, kind):
    session = SimpleNamespace(
        tokenizer=SimpleNamespace(chat_template=template), conversation=Conversation()
    )
    assert ChatSession.prompt_description(session).startswith(kind)


def test_chat_prints_no_probability_of_a_blank_that_it_leaves_out(say, monkeypatch):
    pieces = [TextChunk(" ", 5, -1.0), TextChunk("\n hen", 6, -1.0)]
    monkeypatch.setattr(ChatSession, "_pieces", lambda self, turn: (piece for piece in pieces))
    assert say("/probs on", "the").out.endswith("hen{37%}\n\n")
