"""`--task` and `--instruction`: what a query asks, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local.data import read_rows
from atv_local.vectors import ControlVector
from tests.cli.batch_runs import batch, one_sentence, records, written
from tests.cli.chat_lines import chat
from tests.tiny import write_told

SORT, NAME = "Sort the word.", "Name the kind."
INSIDE, OUTSIDE = "pear 7", "something else"


@pytest.fixture
def target(tiny_gguf: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "-t", "1"]


@pytest.fixture
def told(tiny_gguf: Path, told_bundle: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "-t", "1", "-g", str(told_bundle)]


@pytest.fixture
def only(tiny_gguf: Path, only_told_bundle: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "-t", "1", "-g", str(only_told_bundle)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def record(*arguments: object) -> dict[str, Any]:
    result = run("--json", "-n", "6", *arguments)
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed | {"timings_ms": None}


def test_a_task_by_its_name_or_in_words(told: list[str]) -> None:
    named = record(*told, "--task", "name", OUTSIDE)
    assert named == record(*told, "--instruction", NAME, OUTSIDE)
    assert (named["instruction"], named["strength"]) == (NAME, 1)
    assert run(*told, "-n", "6", "--task", "name", OUTSIDE).stdout.rstrip("\n") == named["text"].rstrip("\n")
    assert record(*told, "--gate", "off", f"{NAME}\n\n{OUTSIDE}")["text"] == named["text"]


def test_the_only_task_is_not_named(only: list[str]) -> None:
    assert record(*only, INSIDE)["instruction"] == SORT
    outside = record(*only, OUTSIDE)
    assert "instruction" not in outside
    assert outside["text"] == record(*only, "--off", OUTSIDE)["text"]
    assert "not steered: the query scores" in run(*only, "-n", "6", OUTSIDE).stderr


def test_the_base_model_reads_an_instruction_too(told: list[str]) -> None:
    one_sentence(run(*told, "--off", "--task", "name", INSIDE), 2, "--off loads no bundle, so --task names nothing")
    off = record(*told, "--off", "--instruction", NAME, INSIDE)
    assert (off["instruction"], off["strength"]) == (NAME, 0)
    assert off["text"] == record(*told, "--off", f"{NAME}\n\n{INSIDE}")["text"]
    both = json.loads(run(*told, "--json", "--compare", "-n", "6", "--instruction", NAME, INSIDE).stdout)
    assert both["without"]["text"] == off["text"]


def test_a_gate_that_is_set_decides(told: list[str]) -> None:
    assert record(*told, "--task", "name", "--gate", "0.1", INSIDE)["strength"] == 1
    refused = record(*told, "--task", "name", "--gate", "0.9", OUTSIDE)
    base = record(*told, "--off", "--instruction", NAME, OUTSIDE)
    assert (refused["text"], refused["strength"], refused["instruction"]) == (base["text"], 0, NAME)


def test_the_gate_of_a_bundle_without_instructions_decides(target: list[str], gated_bundle: Path) -> None:
    how = [*target, "-g", str(gated_bundle)]
    refused = record(*how, "--instruction", NAME, OUTSIDE)
    assert refused["text"] == record(*how, "--off", "--instruction", NAME, OUTSIDE)["text"]
    assert refused["gate"]["steered"] is False
    assert record(*how, "--instruction", NAME, INSIDE)["gate"]["steered"] is True


def test_what_has_no_effect_is_refused(told: list[str], tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.jsonl", [{"input": INSIDE}])
    for verb in (["run", *told, INSIDE], ["batch", *told, rows, tmp_path / "out.jsonl"], ["chat", *told]):
        command = [*map(str, verb), "--off", "--task", "name"]
        one_sentence(CliRunner().invoke(app, command), 2, "--off loads no bundle, so --task names nothing")
    one_sentence(run(*told, "--task", "name", "--instruction", NAME, INSIDE), 2, "leave out either")
    one_sentence(run(*told, "--task", "nome", INSIDE), 2, "nome", "sort, name")


def test_rows_say_what_they_ask(told: list[str], tmp_path: Path) -> None:
    rows = [
        {"input": INSIDE, "task": "name"},
        {"input": INSIDE, "task": "theirs", "instruction": NAME},
        {"input": INSIDE, "task": "theirs", "instruction": NAME, "choices": ["x", "y"]},
        {"input": INSIDE, "task": "theirs"},
        {"input": INSIDE},
    ]
    output = tmp_path / "out.jsonl"
    result = batch(*told, "-n", "6", "--task", "sort", written(tmp_path / "rows.jsonl", rows), output)
    assert result.exit_code == 0, result.output
    answers = records(output)
    wanted = [
        record(*told, "--task", "name", INSIDE),
        record(*told, "--instruction", NAME, INSIDE),
        record(*told, "--instruction", f"{NAME}\nAnswer with one of these, and nothing else: x, y.", INSIDE),
        *[record(*told, "--task", "sort", INSIDE)] * 2,
    ]
    assert [(one["text"], one["tokens"]["prompt"]) for one in answers] == [
        (one["text"], one["tokens"]["prompt"]) for one in wanted
    ]
    assert [one["task"] for one in answers[:4]] == ["name", "theirs", "theirs", "theirs"]
    restricted = batch(*told, "--choices", "x,y", tmp_path / "rows.jsonl", tmp_path / "restricted.jsonl")
    assert restricted.exit_code == 0, restricted.output
    alone = record(*told, "--instruction", NAME, "--choices", "x,y", INSIDE)
    for one in records(tmp_path / "restricted.jsonl")[1:3]:
        assert (one["text"], one["tokens"]["prompt"]) == (alone["text"], alone["tokens"]["prompt"])
    again = batch(*told, "-n", "6", "--task", "name", tmp_path / "rows.jsonl", output)
    assert again.exit_code != 0  # answers under another task are not replaced


def test_tasks_in_a_chat(told: list[str]) -> None:
    result = chat([*told, "-n", "6"], "/task", "/task name", INSIDE, "/instruction Sort it.", "/task", "/task nome")
    said = result.stderr.splitlines()
    assert said[:3] == ["task off", "the bundle has sort, name", "task name"] or said[:3] == [
        "off",
        "the bundle has sort, name",
        "task name",
    ]
    assert result.stdout.rstrip("\n") == record(*told, "--task", "name", INSIDE)["text"].rstrip("\n")
    assert "instruction Sort it." in said
    assert "'nome'" in said[-1]


def test_a_vector_is_that_of_what_is_read(told: list[str], only: list[str], tmp_path: Path) -> None:
    def vector(bundle: list[str], name: str, *arguments: str) -> ControlVector:
        output = tmp_path / f"{name}.gguf"
        result = CliRunner().invoke(app, ["vector", *bundle[-2:], *arguments, "-o", str(output)])
        assert result.exit_code == 0, result.output
        return ControlVector.load(output)

    named = vector(told, "named", "--task", "sort", INSIDE)
    assert (named.vector().array == vector(only, "only", INSIDE).vector().array).all()
    assert (named.vector().array != vector(told, "bare", INSIDE).vector().array).any()


def test_right_answers_become_rows(told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = record(*told, "--task", "name", INSIDE)["text"]
    lines = [
        "/task name",
        INSIDE,
        "/right fruit",
        "/task off",
        OUTSIDE,
        "/right nothing at all",
        "/set corrections b.jsonl",
    ]
    result = chat([*told, "-n", "6"], *lines, "/right", "/clear", INSIDE, "/right x")
    assert records(tmp_path / "corrections.jsonl") == [
        {"input": INSIDE, "output": "fruit", "task": "name"},
        {"input": OUTSIDE, "output": "nothing at all", "history": [[INSIDE, first]]},
    ]
    assert records(tmp_path / "b.jsonl") == [{"input": INSIDE, "output": "x", "task": "kinds"}]
    assert "saved in corrections.jsonl; to teach it: atv-local train --from RUN" in result.stderr
    assert result.stderr.count('was answered as no task; add "task"') == 1  # the second, outside of the gate
    assert "/right needs the right answer" in result.stderr
    (row, _) = read_rows(tmp_path / "corrections.jsonl").rows
    assert (row.task, row.output) == ("name", "fruit")


def test_a_correction_is_of_the_turn_and_not_of_what_was_set_since(
    told: list[str], only: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    since = ["/task sort", "/system be nice", "/right fruit"]
    chat([*told, "-n", "2", "-s", "be brief"], "/task name", INSIDE, *since)
    chat([*told, "-n", "2"], "/instruction Do it.", INSIDE, "/instruction off", "/right x")
    chat([*only, "-n", "2"], "/gate off", OUTSIDE, "/right y")
    chat([*told, "-n", "2", "--off"], INSIDE, "/right z")
    assert records(tmp_path / "corrections.jsonl") == [
        {"input": INSIDE, "output": "fruit", "task": "name", "system": "be brief"},
        {"input": INSIDE, "output": "x", "instruction": "Do it."},
        {"input": OUTSIDE, "output": "y", "task": "sort"},
        {"input": INSIDE, "output": "z"},
    ]


def test_a_correction_needs_a_turn_and_begins_a_line(
    told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corrections.jsonl").write_text('{"input": "a", "output": "b"}')
    result = chat([*told, "-n", "2"], "/right x", INSIDE, "/right x", "/set corrections missing/c.jsonl", "/right x")
    assert "nothing was asked yet" in result.stderr
    assert [row["input"] for row in records(tmp_path / "corrections.jsonl")] == ["a", INSIDE]
    assert "missing/c.jsonl" in result.stderr.splitlines()[-1]


def test_a_static_vector_for_words_unlike_the_tasks(
    tiny_gguf: Path, gated_bundle: Path, tiny_vectors: np.ndarray, tmp_path: Path
) -> None:
    bundle = write_told(tmp_path / "bundle", gated_bundle, {"sort": SORT, "name": NAME}, tiny_vectors[0])
    how = ["-m", str(tiny_gguf), "-t", "1", "-g", str(bundle)]
    unlike = record(*how, "--instruction", "Do it.", OUTSIDE)
    assert unlike["static"] is True
    assert "static" not in record(*how, "--task", "name", OUTSIDE)
    rows = written(tmp_path / "rows.jsonl", [{"input": OUTSIDE, "task": "x", "instruction": "Do it."}])
    assert batch(*how, "-n", "6", rows, tmp_path / "out.jsonl").exit_code == 0
    (answer,) = records(tmp_path / "out.jsonl")
    assert (answer["text"], answer["static"]) == (unlike["text"], True)
    file = tmp_path / "static.gguf"
    result = CliRunner().invoke(app, ["vector", "--static-vector", "-g", str(bundle), "-o", str(file)])
    assert (result.exit_code, result.stdout) == (0, f"{file}\n")
    assert ControlVector.load(file).vector().array == pytest.approx(tiny_vectors[0], abs=1e-5)
    by_file = record(*how[:4], "--control-vector", file, f"Do it.\n\n{OUTSIDE}")
    assert by_file["text"] == unlike["text"]
    for more, code, words in (
        (["--static-vector", "-g", str(gated_bundle)], 2, "has no static vector"),
        (["--static-vector", "-g", str(bundle), "a query"], 2, "give one query"),
        (["--static-vector", "-g", str(bundle), "--task", "name"], 2, "no effect"),
    ):
        command = ["vector", *more, "-o", str(tmp_path / "x.gguf")]
        one_sentence(CliRunner().invoke(app, command), code, words)


def test_files_of_others_end_no_chat(told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "chat.json").write_text(json.dumps({"messages": messages, "answers": [{"gate": "x"}]}))
    (tmp_path / "corrections.jsonl").write_bytes("é".encode())
    result = chat([*told, "-n", "2"], "/load chat.json", "/right b", "/show")
    assert result.exit_code == 2
    assert "saved in corrections.jsonl" in result.stderr
    assert "was loaded from a file" in result.stderr
    assert (tmp_path / "corrections.jsonl").read_text().splitlines()[1] == '{"input": "a", "output": "b"}'


def test_the_vector_that_is_shown_is_the_one_that_steered(told: list[str]) -> None:
    shown = [chat([*told, "-n", "2"], *lines, OUTSIDE, "/show").stderr for lines in ([], ["/task name"])]
    run_shown = run(*told, "-n", "2", "--show-vector", "--task", "name", OUTSIDE).stderr
    assert "left the last turn as the base model has it" in shown[0]
    assert [line for line in run_shown.splitlines() if "█" in line or "|" in line] == [
        line for line in shown[1].splitlines() if "█" in line or "|" in line
    ]


def test_a_saved_conversation_has_the_words_of_the_user(
    told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    how = [*told, "-n", "6"]
    whole = chat(how, "/task name", INSIDE, "/save chat.json", "/task off", OUTSIDE)
    saved = json.loads((tmp_path / "chat.json").read_text())
    assert saved["messages"][0]["content"] == INSIDE
    assert saved["answers"][0]["instruction"] == NAME
    loaded = chat(how, "/load chat.json", OUTSIDE, "/right x", "/save chat.json")
    assert loaded.stdout == "".join(whole.stdout.splitlines(keepends=True)[-1:])
    again = json.loads((tmp_path / "chat.json").read_text())
    assert again["messages"][:2] == saved["messages"]
    (row,) = records(tmp_path / "corrections.jsonl")
    assert row["history"][0][0] == INSIDE
