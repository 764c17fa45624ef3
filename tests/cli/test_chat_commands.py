"""Slash commands of `atv-local chat`: settings, what is shown, and mistakes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from atv_cli.chat.commands import COMMANDS
from atv_cli.chat.line_completion import complete_line
from atv_cli.main import app
from atv_local.vectors import TaskVector
from tests.cli.chat_lines import BEAST, FRUIT, chat


@pytest.fixture
def pair(pair: list[str]) -> list[str]:
    return [*pair, "-n", "6"]


def test_commands_are_taken_as_they_come(pair: list[str]) -> None:
    result = chat(pair, "/set\tstrength  0.5", "/SET Top-K 3", "/Set", "/quit", FRUIT)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "strength     0.5\n" in result.stderr
    assert "top_k        3\n" in result.stderr


def test_every_command_is_explained(pair: list[str]) -> None:
    result = chat(pair, "/?")
    assert result.stdout == ""
    assert chat(pair, "/help").stderr == result.stderr
    for command in COMMANDS.values():
        (line,) = [line for line in result.stderr.splitlines() if line.split()[0] == command.name]
        assert line.endswith(command.run.__doc__ or "?")


@pytest.fixture
def vector(tmp_path: Path) -> str:
    TaskVector(np.full((3, 64), 0.5)).save(tmp_path / "half.gguf")
    return "half.gguf"


def test_control_vectors_are_added_scaled_and_taken_away(
    pair: list[str], vector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TaskVector(np.full((3, 64), -0.5)).save(tmp_path / "minus.gguf")
    lines = [FRUIT, "/clear", f"/vector {vector}:2", FRUIT, "/clear", "/vector minus.gguf", f"/vector {vector}", FRUIT]
    result = chat(pair, *lines, "/vector", "/save two.json", "/clear", "/vector off", FRUIT, "/vector", "/save no.json")
    said = [line for line in result.stderr.splitlines() if "gguf" in line or "off" in line]
    both = f"minus.gguf:1 {vector}:1"
    assert said == [
        f"vector {vector}:2",
        f"vector {vector}:2 minus.gguf:1",
        f"vector {both}",
        both,
        "vector off",
        "off",
    ]
    names = [("minus.gguf", 1), (vector, 1)]
    for file, applied in {"two.json": names, "no.json": []}.items():
        (answer,) = json.loads((tmp_path / file).read_text())["answers"]
        assert [(one["name"], one["scale"]) for one in answer["control_vectors"]] == applied
    plain, steered, undone, again = result.stdout.splitlines()
    assert plain == undone == again != steered  # those of the third answer add up to zero


def test_a_control_vector_steers_a_chat_without_a_bundle(
    pair: list[str], vector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again = ["/regen", "/off", "/regen", "/on", "/regen", "/show"]
    result = chat([*pair, "--off"], FRUIT, f"/vector {vector}:3", *again)
    plain, steered, off, on = result.stdout.splitlines()
    assert plain == off != steered == on
    refused = chat(pair, "/vector absent.gguf:2", f"/vector {vector}:1e9", "/vector :2", "/vector")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (1, "off")


def test_a_chat_without_a_bundle_is_plain_again_after_its_last_vector(
    pair: list[str], vector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [FRUIT, f"/vector {vector}:3", "/regen", "/vector off", "/regen", f"/vector {vector}:3", "/regen"]
    for given in (["--off"], ["--control-vector-scaled", f"{vector}:-3"]):
        model = pair[:2] if "--off" not in given else pair
        start = [] if "--off" in given else ["/vector off"]
        result = chat([*model, "-t", "1", "-n", "4", *given], *start, *lines, "/vector off", "/on")
        plain, steered, undone, again = result.stdout.splitlines()
        assert plain == undone != steered == again
        assert result.stderr.splitlines()[-3:-1] == ["steering is off", "vector off"]
        assert "no bundle is loaded" in result.stderr.splitlines()[-1]


def test_a_control_vector_turns_steering_on(
    pair: list[str], vector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["/set strength 0.5", "/off", f"/vector {vector}:3"]
    result = chat(pair, *lines)
    assert result.stderr.splitlines()[-2:] == ["steering is on, strength 0.5", f"vector {vector}:3"]
    alone = chat([*pair, "--off"], f"/vector {vector}", "/off", f"/vector {vector}:3")
    assert alone.stderr.splitlines()[-2:] == ["steering is on, strength 1", f"vector {vector}:3"]
    misspelt = chat(pair, f"/vector {vector}:x", "/vector")
    assert "FILE:SCALE" in misspelt.stderr.splitlines()[0]


def test_settings_are_shown_and_changed(
    pair: list[str], vector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"strength": "0.5", "positions": "last", "layers": "1-2", "temperature": "0.7", "top_p": "0.5"}
    changes |= {"vector": f"{vector}:0.5", "top_k": "3", "seed": "7", "max_tokens": "9", "verbose": "on"}
    changes |= {"choices": "a, b", "gate": "0.8"}
    changes |= {"corrections": "right.jsonl"}
    others = {"schema": "off", "grammar": "off", "task": "off", "instruction": "off"}  # exclude choices, or need a task
    before = dict(line.split(maxsplit=1) for line in chat(pair, "/set").stderr.splitlines())
    assert before.keys() == {*changes, *others}
    assert not before.items() & changes.items()
    said = chat(pair, *(f"/set {name} {value}" for name, value in changes.items()), "/set").stderr.splitlines()
    told, shown = said[: len(changes)], said[len(changes) :]
    assert dict(line.split(maxsplit=1) for line in told) == changes
    assert dict(line.split(maxsplit=1) for line in shown) == changes | others
    back = chat(pair, "/layers 2", "/layers", "/layers all", "/layers", "/set top-k 0", "/set seed random", "/set")
    assert back.stderr.splitlines()[:4] == ["layers 2-2", "2-2", "layers 1-3", "1-3"]
    assert "top_k        0\nseed         random\n" in back.stderr
    steered = ("strength", "positions", "layers")
    changed = [f"/set {name} {changes[name]}" for name in steered]
    assert back.stderr.count("vector       off") == 1
    undone = chat(pair, *changed, *(f"/set {name} default" for name in steered)).stderr.splitlines()[3:]
    assert dict(line.split() for line in undone) == {name: before[name] for name in steered}


def test_settings_steer(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    lines = [FRUIT, "/set strength 0.5", "/set positions last", "/layers 1-2", FRUIT, "/off", FRUIT, "/on", FRUIT]
    result = chat(pair, *lines, f"/save {file}")
    switched = [line for line in result.stderr.splitlines() if line.startswith("steering")]
    assert switched == ["steering is off", "steering is on, strength 0.5"]
    answers = json.loads(file.read_text())["answers"]
    steered = [(answer["strength"], answer["layers"], answer["positions"]) for answer in answers]
    halved = (0.5, [1, 2], "last")
    assert steered == [(1.0, [1, 3], "decode"), halved, (0.0, None, None), halved]


@pytest.mark.parametrize(
    ("line", "words", "code"),
    [
        ("/nope", ["/nope", "/?"], 2),
        ("/etc/passwd is a file", ["/etc/passwd", '"""'], 2),
        ("/off now", ["/off", "'now'"], 2),
        ("/set strong 1", ["'strong'", "strength, positions"], 2),
        ("/set strength", ["strength", "1 now"], 2),
        ("/set strength much", ["'much'", "number"], 2),
        ("/set strength nan", ["strength", "nan"], 2),
        ("/set positions first", ["'first'", "all, last, decode"], 2),
        ("/set temperature -1", ["temperature", "-1"], 2),
        ("/set top_k 1.5", ["'1.5'", "whole number"], 2),
        ("/set max_tokens 0", ["max_tokens 0"], 2),
        ("/set verbose maybe", ["'maybe'"], 2),
        ("/layers 3-1", ["3-1"], 2),
        ("/layers 1-9", ["1-9", "1 to 3"], 2),
        ("/regen", ["nothing was asked"], 2),
        ("/compare", ["nothing was asked"], 2),
        ("/show", ["nothing was asked"], 2),
        ("/save", ["/save chat.json"], 2),
        ("/save chat.json", ["nothing to save"], 2),
        ("/load absent.json", ["absent.json"], 1),
        ('""""""', ["query is empty"], 2),
        ("caf\udce9", ["not UTF-8"], 2),
        ("x" * 600, ["tokens with this turn", "context 512", "/clear", "--n-ctx"], 1),
        ("x" * (1 << 20) + "y", ["longer than 1048576"], 2),
    ],
)
def test_a_mistake_is_one_sentence_and_the_chat_goes_on(
    pair: list[str], line: str, words: list[str], code: int
) -> None:
    data = f"{line}\n{FRUIT}\n".encode("utf-8", "surrogateescape")
    result = CliRunner().invoke(app, ["chat", *pair], input=data)
    assert (result.exit_code, result.stdout) == (code, "a\n")
    (said,) = result.stderr.splitlines()
    assert said.startswith("atv-local: ")
    for word in words:
        assert word in said


def test_comparing_shows_both_answers_and_changes_nothing(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    result = chat(pair, FRUIT, "/compare", "/clear", FRUIT, f"/compare {BEAST}", f"/save {file}")
    lines = result.stdout.splitlines()
    assert lines[0] == "a"
    assert lines.count("[without steering]") == lines.count("[with steering]") == 2
    assert lines[lines.index("[with steering]") + 1] == "a"
    assert len(json.loads(file.read_text())["messages"]) == 2
    assert "/on" in chat(pair, FRUIT, "/off", "/compare").stderr


def test_the_vector_of_the_last_turn_is_shown(pair: list[str]) -> None:
    def shown(*lines: str) -> list[str]:
        said = chat(pair, *lines, "/show").stderr.splitlines()
        return said[said.index("layer      norm") + 1 :]

    then = shown("/layers 2", FRUIT, "/layers all", "/set strength 3", "/off")
    rows = [line.split() for line in then]
    assert [(row[0], float(row[1]) > 0) for row in rows] == [("1", False), ("2", True), ("3", False)]
    assert shown("/layers 2", FRUIT) == then


def test_the_vector_of_a_turn_that_had_none_here_is_not_shown(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    result = chat(pair, "/off", FRUIT, "/on", "/show", f"/save {file}", f"/load {file}", "/show", "/regen", "/show")
    assert result.exit_code == 2
    assert "was not steered" in result.stderr
    assert "file" in result.stderr
    assert result.stderr.count("layer      norm") == 1


def test_without_a_generator_nothing_can_be_steered(pair: list[str]) -> None:
    result = chat([*pair[:2], "--off", "-n", "6"], "hi", "/on", "/set strength 2", "/show", "/compare")
    assert result.exit_code == 2
    assert result.stderr.count("start the chat without --off") == 2
    assert "Traceback" not in result.stderr


def test_a_saved_conversation_can_be_gone_on_with(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "deep" / "chat.json"
    whole = chat(pair, "/system Be kind.", FRUIT, BEAST, f"/save {file}", "a dog")
    saved = json.loads(file.read_text())
    assert saved["messages"][0] == {"role": "system", "content": "Be kind."}
    assert len(saved["answers"]) == 2
    later = chat(pair, f"/load {file}", "a dog", f"/save {file}", "/system")
    again = json.loads(file.read_text())
    assert later.stdout == again["messages"][-1]["content"] + "\n"
    assert whole.stdout.endswith(f"\n{later.stdout}")
    loaded, replaced, system = [line for line in later.stderr.splitlines() if not line.startswith("[")]
    assert (loaded, system) == ("loaded 2 turns", "Be kind.")
    assert re.match(f"saved 3 turns in {file}.*replac", replaced)
    assert again["messages"][:5] == saved["messages"]
    assert again["answers"][:2] == saved["answers"]
    assert list(file.parent.iterdir()) == [file]
    file.write_text(json.dumps(saved | {"model": "other\x1b.gguf"}))
    assert "other�.gguf" in chat(pair, f"/load {file}").stderr


def test_what_is_no_conversation_is_neither_read_nor_overwritten(pair: list[str], tmp_path: Path) -> None:
    user, assistant = ({"role": role, "content": "hi"} for role in ("user", "assistant"))
    contents = ["mine", "{}", json.dumps({"messages": [user]}), json.dumps({"messages": [user, user]})]
    contents += [json.dumps({"messages": [user, assistant], "answers": [{}, {}]}), '{"messages": []}', "\udcff"]
    contents += [json.dumps({"messages": [user | {"content": " "}, assistant]})]
    contents += [
        json.dumps({"messages": [user, assistant], "answers": [{"a": {"b": number}}]})
        for number in (float("nan"), float("inf"))
    ]
    for content in contents:
        file = tmp_path / "file"
        file.write_text(content, errors="surrogateescape")
        result = chat(pair, FRUIT, f"/save {file}", f"/load {file}", "/regen")
        assert result.stdout == "a\na\n"
        exists, no_conversation = result.stderr.splitlines()
        assert "choose another name" in exists
        assert f"{file} is not a conversation" in no_conversation
        assert file.read_text(errors="surrogateescape") == content
    nothing = {"role": "system", "content": ""}
    file.write_text(json.dumps({"messages": [nothing, user, assistant]}))  # as other programs write it
    result = chat(pair, f"/load {file}", FRUIT, "/system", f"/save {file}")
    assert result.exit_code == 0
    assert "there is no system message" in result.stderr
    os.mkfifo(tmp_path / "pipe")
    result = chat(pair, FRUIT, f"/save {tmp_path / 'pipe'}", f"/load {tmp_path / 'pipe'}")
    assert result.exit_code == 2
    assert "is not a regular file" in result.stderr
    assert chat(pair, FRUIT, f"/save {tmp_path}").exit_code == 2


def test_the_gate_is_shown_with_its_last_decision_and_set(tiny_gguf: Path, gated_bundle: Path) -> None:
    gated = ["-m", str(tiny_gguf), "-g", str(gated_bundle), "-t", "1", "-n", "6"]
    other = "something else"
    lines = ["/gate", other, "/gate", "/show", "/gate off", "/regen", "/gate", "/gate auto", FRUIT, "/gate"]
    result = chat(gated, *lines)
    said = [line for line in result.stderr.splitlines() if not line.startswith("[stopped")]
    before, closed, no_vector, off, opened, auto, fruit = said
    assert before == "gate 0.5"
    assert closed.endswith("as 'kinds' and was not steered")
    assert "/gate off" in no_vector
    assert off == "gate 0"
    assert opened.endswith("was steered")
    assert auto == "gate 0.5"
    assert fruit.startswith("gate 0.5; the last turn scored ")
    assert fruit.endswith("was steered")
    unsteered, steered, *_ = result.stdout.splitlines()
    assert unsteered != steered


def test_without_a_gate_every_turn_is_steered(pair: list[str]) -> None:
    assert chat(pair, "/gate").stderr == "the bundle has no gate, so every turn is steered\n"
    assert chat(pair, "/gate 0.8").stderr.startswith("gate 0.8\nthe bundle has no gate")
    assert chat([*pair[:2], "--off"], "/gate").stderr == "no bundle is loaded, so there is no gate\n"
    wrong = chat(pair, "/gate on")
    assert (wrong.exit_code, "'on'" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/ga", ["/gate"]),
        ("/gate ", ["auto", "off"]),
        ("/gate a", ["auto"]),
        ("/gate auto x", []),
        ("/set top", ["top_p", "top_k"]),
        ("/vector o", ["off"]),
        ("/layers ", ["all"]),
        ("/no", []),
        ("/no a", []),
        ("a message", ["message\t"]),
        ("", ["\t"]),
    ],
)
def test_words_are_completed(line: str, words: list[str]) -> None:
    assert complete_line(line) == words
