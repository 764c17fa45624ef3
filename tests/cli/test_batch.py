"""`atv-local batch`: every row once, in order, whatever happens on the way."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.answer.engine import Engine
from atv_local.batch.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.batch.row_results import Answerer, AnswerSettings
from atv_local.data.request_rows import RowRequest, read_requests
from atv_local.data.text_lines import MAX_LINE_BYTES
from atv_local.target.sampling import Sampling
from atv_local.vectors.task_vector import TaskVector
from tests.cli.batch_runs import ROWS, batch, one_sentence, records, written


@pytest.fixture
def pair(pair: list[str]) -> list[str]:
    return [*pair, "-n", "6"]


@pytest.fixture
def settings(tiny_gguf: Path, tiny_bundle: Path) -> AnswerSettings:
    """What `pair` says, as `batch` records it."""
    return AnswerSettings(tiny_gguf, tiny_bundle, max_tokens=6, n_threads=1, sampling=Sampling(seed=0))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return written(tmp_path / "in.jsonl", ROWS)


def test_each_row_gets_the_answer_of_run_in_its_place(pair: list[str], tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = [
        *ROWS[:6],
        {"input": "fig 1", "system": "Be kind."},
        {"input": "hen", "max_tokens": 1},
    ]
    output = tmp_path / "new" / "out.jsonl"
    result = batch(written(tmp_path / "in.jsonl", asked), output, *pair, "--strength", "0.6", "--layers", "1-2")
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.output
    found = records(output)
    assert [list(record) for record in found] == [[*row, "line", "text", "finish_reason", "tokens"] for row in asked]
    for line, (row, record) in enumerate(zip(asked, found, strict=True), start=1):
        extra = ["-s", row["system"]] if "system" in row else ["-n", "1"] if "max_tokens" in row else []
        alone = CliRunner().invoke(
            app, ["run", *pair, "--strength", "0.6", "--layers", "1-2", "--json", *extra, row["input"]], input=""
        )
        wanted = json.loads(alone.stdout)
        assert record["line"] == line
        assert (record["text"], record["finish_reason"]) == (wanted["text"], wanted["finish_reason"])
        assert record["tokens"] == {name: wanted["tokens"][name] for name in ("prompt", "generated")}
    assert sorted(path.name for path in output.parent.iterdir()) == ["out.jsonl"]


def test_a_csv_file_is_answered_as_json_lines_are(pair: list[str], rows: Path, tmp_path: Path) -> None:
    assert batch(rows, tmp_path / "from_json", *pair).exit_code == 0
    table = tmp_path / "in.csv"
    table.write_text("id,query\n" + "".join(f"{row['id']},{row['input']}\n" for row in ROWS))
    result = batch(table, tmp_path / "from_csv", *pair, "--column", "input=query")
    assert result.exit_code == 0, result.stderr
    for one, other in zip(records(tmp_path / "from_json"), records(tmp_path / "from_csv"), strict=True):
        assert other == {"query": one.pop("input"), **one, "line": one["line"] + 1}


def test_off_is_the_base_model(pair: list[str], rows: Path, tmp_path: Path) -> None:
    assert batch(rows, tmp_path / "on.jsonl", *pair).exit_code == 0
    assert batch(rows, tmp_path / "off.jsonl", *pair[:2], *pair[4:], "--off").exit_code == 0
    alone = CliRunner().invoke(app, ["run", *pair[:2], *pair[4:], "--off", "--json", ROWS[3]["input"]], input="")
    found = records(tmp_path / "off.jsonl")
    assert found[3]["text"] == json.loads(alone.stdout)["text"] != records(tmp_path / "on.jsonl")[3]["text"]


def test_bad_rows_are_named_and_passed_over(pair: list[str], tmp_path: Path) -> None:
    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    bad = {
        2: (b"{'input': 1}", "not JSON"),
        3: (b'["apple"]', "not a JSON object"),
        5: (b'{"output": "a"}', "--column"),
        6: (b'{"input": "  "}', "input"),
        7: (b'{"input": [5]}', "input"),
        8: (b'{"input": "caf\xe9"}', "not UTF-8"),
        9: (b'{"input": "%s"}' % (b"a" * 3000), "the context 512"),
        10: (b'{"input": "%s"}' % (b"a" * MAX_LINE_BYTES), "longer than 1048576 bytes"),
        11: (b'{"input": "x", "max_tokens": 0}', "max_tokens: "),
        12: (b'{"input": "x", "n": 1e999}', "not JSON"),
        13: (b"\x1b[31m", "not JSON"),
    }
    lines = {1: b'\xef\xbb\xbf{"input": "apple 1", "text": "old"}', 4: b"", **{n: row for n, (row, _) in bad.items()}}
    lines[14] = b'{"input": "dog 1"}'  # and no newline
    file.write_bytes(b"\n".join(lines[n] for n in sorted(lines)))
    result = batch(file, output, *pair)
    assert result.exit_code == 0
    assert [(record["line"], record["text"]) for record in records(output)] == [(1, "a"), (14, "b")]
    unread, replaced, *said, last = result.stderr.splitlines()
    assert "not read: 'text'" in unread
    assert "'text'" in replaced
    assert last.startswith("2 rows answered, 11 skipped")
    for line, (number, (_, words)) in zip(said, bad.items(), strict=True):
        assert line.startswith(f"{file}:{number}: ")
        assert words in line
        assert line.isprintable()
    strict = batch(file, output, *pair, "--strict", "--overwrite")
    assert strict.exit_code == 1
    assert len(records(output)) == 2


@pytest.mark.parametrize(("name", "text"), [("in.jsonl", ""), ("in.txt", "\n \n"), ("in.csv", "input,id\n,\n  , \n")])
def test_a_file_without_rows_is_an_error(pair: list[str], tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    one_sentence(batch(tmp_path / name, tmp_path / "out.jsonl", *pair), 1, name, "no rows", "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_row_draws_by_its_line_and_the_seed(pair: list[str], rows: Path, tmp_path: Path, engine: Engine) -> None:
    hot = ["--temp", "1.5", "--top-k", "0", "--top-p", "1"]
    texts = {}
    for name, extra in {
        "1": ["--seed", "1"],
        "again": ["--seed", "1", "--parallel", "1"],
        "2": ["--seed", "2"],
    }.items():
        assert batch(rows, tmp_path / f"{name}.jsonl", *pair, *hot, *extra).exit_code == 0
        texts[name] = [record["text"] for record in records(tmp_path / f"{name}.jsonl")]
    assert texts["1"] == texts["again"] != texts["2"]
    sampling = Sampling(1.5, 1.0, 0, 1)
    alone = [
        engine.answer(row["input"], sampling=sampling.of_row(line), max_tokens=6).text
        for line, row in enumerate(ROWS[:8], start=1)
    ]
    assert texts["1"][:8] == alone
    same = [{"input": "apple 1"}] * 12
    assert batch(written(tmp_path / "same.jsonl", same), tmp_path / "same", *pair[:2], "--off", *hot).exit_code == 0
    assert len({record["text"] for record in records(tmp_path / "same")}) > 1


def test_a_neighbour_that_fails_does_not_change_what_is_drawn(engine: Engine) -> None:
    prompts = engine.target.prompts
    monstrous = SteeredPrompt(TaskVector(np.full((engine.target.n_rows, engine.target.n_embd), 3e38)))
    drawing = BatchQuestion(prompts("apple 1"), max_tokens=8, sampling=Sampling(1.5, seed=5))
    late = BatchQuestion(prompts("a long way to go"), [monstrous], max_tokens=8)
    (alone,) = Batch(engine).ask([drawing])
    first, _ = Batch(engine).ask([drawing, late])
    assert first.outcomes == alone.outcomes


def test_a_file_is_read_as_it_is_answered(settings: AnswerSettings) -> None:
    drawn = itertools.count()

    def endless() -> Iterator[RowRequest]:
        for n in drawn:
            yield RowRequest(n + 1, 0, {}, f"apple {n}", error="bad" if n % 3 else "")

    results = Answerer(settings)(endless())
    assert [next(results).request.line for _ in range(40)] == list(range(1, 41))
    assert next(drawn) < 40 + 4 * 128


def test_a_line_without_end_takes_no_memory() -> None:
    class Pipe(io.RawIOBase):
        left = 64

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.left -= 1
            data = b"x" * (1 << 20) if self.left > 0 else b'\n{"input": "y"}\n' if self.left == 0 else b""
            data = data[: len(buffer)]
            buffer[: len(data)] = data
            return len(data)

    tracemalloc.start()
    first, second = read_requests(io.BufferedReader(Pipe(), 1 << 20), Path("-"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MAX_LINE_BYTES
    assert "longer than" in first.error
    assert (second.line, second.query) == (2, "y")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--layers", "x"], 2, ["'x'"]),
        (["--layers", "1-9"], 2, ["1-9", "1 to 3"]),
        (["--strength", "nan"], 2, ["strength nan"]),
        (["--temp", "-1"], 2, ["--temp", "-1"]),
        (["--seed", "-1"], 2, ["seed -1"]),
        (["-n", "0"], 2, ["--max-tokens 0"]),
        (["-c", "9999999"], 2, ["9999999"]),
        (["-m", "absent.gguf"], 1, ["absent.gguf"]),
        (["-g", "absent"], 1, ["absent"]),
        (["--off", "--strength", "nan"], 2, ["strength nan"]),
        (["--off", "-g", "absent"], 1, ["absent"]),
        (["--executor-option", "workers=2"], 2, ["--executor ray"]),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    pair: list[str], rows: Path, tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    one_sentence(batch(rows, tmp_path / "out.jsonl", *pair, *arguments), code, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_input_that_is_not_there(pair: list[str], tmp_path: Path) -> None:
    one_sentence(batch(tmp_path / "absent.jsonl", tmp_path / "out.jsonl", *pair), 1, "absent.jsonl")
    one_sentence(batch(tmp_path, tmp_path / "out.jsonl", *pair), 1, "cannot read")


def test_a_bar_on_a_terminal(pair: list[str], rows: Path, tmp_path: Path) -> None:
    import pty

    parent, child = pty.openpty()
    command = [sys.executable, "-m", "atv_cli", "batch", str(rows), str(tmp_path / "out.jsonl"), *pair]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    output = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
        output += part
    os.close(parent)
    assert process.wait(timeout=60) == 0
    assert b"answering" in output
    assert b"30 rows answered" in output


@pytest.mark.parametrize(("name", "text"), [("in.jsonl", '{"input": "apple 1"}\n'), ("in.csv", "input\napple 1\n")])
@pytest.mark.parametrize("part", ["input", "system"])
def test_a_column_that_the_first_row_lacks_ends_the_command(
    pair: list[str], tmp_path: Path, name: str, text: str, part: str
) -> None:
    (tmp_path / name).write_text(text * 2)
    result = batch(tmp_path / name, tmp_path / "out.jsonl", *pair, "--column", f"{part}=question")
    one_sentence(result, 1, "'question'", "'input'", f"{name}:1", "--column")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_any_answer_there_is_no_output(pair: list[str], tmp_path: Path) -> None:
    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(b"\x80\x81\n\x82\n")
    result = batch(file, output, *pair)
    assert result.exit_code == 1
    assert str(output) in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    written(file, ROWS[:1])
    result = batch(file, output, *pair)
    assert (result.exit_code, len(records(output))) == (0, 1)
    assert "1 row answered" in result.stderr


def test_a_line_number_is_printed_as_it_is(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("\n" * 99 + 'bad\n{"input": "apple 1"}\n')  # rich would print an emoji for :100:
    assert f"{file}:100: not JSON" in batch(file, tmp_path / "out.jsonl", *pair).stderr


@pytest.mark.parametrize("name", ["out.tsv", "out.jsonl.gz", "out.xlsx", "out.txt"])
def test_an_output_is_not_named_for_a_format_that_is_not_written(
    pair: list[str], rows: Path, tmp_path: Path, name: str
) -> None:
    one_sentence(batch(rows, tmp_path / name, *pair), 2, name, ".jsonl")


def test_a_conversation_is_asked_after_its_earlier_turns(pair: list[str], tmp_path: Path) -> None:
    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    turns = [("user", "dog 1"), ("assistant", "b"), ("user", "apple 1"), ("assistant", "a")]
    messages = [{"role": role, "content": text} for role, text in turns]
    file.write_text(json.dumps({"messages": messages}) + "\n" + json.dumps({"input": "apple 1"}) + "\n")
    assert batch(file, output, *pair).exit_code == 0
    after, alone = records(output)
    assert after["messages"] == messages
    assert after["tokens"]["prompt"] > alone["tokens"]["prompt"]
