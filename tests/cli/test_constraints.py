"""Choices, schemas and grammars on the command line: `run`, `batch` and `chat`."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from atv_cli.chat.commands import summary
from atv_cli.chat.session import Session
from atv_cli.main import app
from atv_local.answer import Conversation, Engine, parse_choices, read_grammar, read_schema
from atv_local.batch import AnswerSettings
from atv_local.errors import UsageError
from tests.cli.batch_runs import ROWS, batch, one_sentence, records, written
from tests.cli.chat_lines import BEAST, FRUIT, chat

SCHEMA = {"type": "object", "properties": {"kind": {"enum": ["fruit", "beast"]}}, "required": ["kind"]}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    return path


@pytest.fixture
def grammar(tmp_path: Path) -> Path:
    path = tmp_path / "grammar.gbnf"
    path.write_text('root ::= "x" [yz]\n')
    return path


def test_run_answers_with_one_of_the_choices(pair: list[str], tmp_path: Path) -> None:
    lines = tmp_path / "choices.txt"
    lines.write_text("a\n\nb\nsome, other\n")
    assert run(*pair, FRUIT, "--choices", "a, b").stdout == "a\n"
    for choices, known in (("a,b,", ["a", "b"]), (lines, ["a", "b", "some, other"])):
        record = json.loads(run(*pair, BEAST, "--json", "--choices", choices).stdout)
        assert record["text"] == "b"
        assert list(record["probabilities"]) == known
        assert sum(record["probabilities"].values()) == pytest.approx(1)


def test_choices_are_read_from_a_file_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "labels.lst": "\ufeffyes\r\nno\r\n",
        "labels": "yes\nno\n",
        "yes,no,labels": "yes\nno\n",
        "labels.json": '\ufeff["yes", "no"]',
        "labels.txt": "a\u2028b\nc\fd\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, newline="")
    assert [parse_choices(name) for name in files] == [["yes", "no"]] * 4 + [["a\u2028b", "c\fd"]]
    assert parse_choices("labels,other.txt") == ["labels", "other.txt"]
    assert parse_choices('["a, b", "c"]') == ["a, b", "c"]
    assert parse_choices("[a],[b]") == ["[a]", "[b]"]
    Path("rows.csv").write_text("label\nyes\nno\n")
    with pytest.raises(UsageError, match=r"rows\.csv would be read as lines"):
        parse_choices("rows.csv")


def test_a_byte_order_mark_is_no_part_of_a_schema_or_grammar(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('\ufeff{"type": "object"}', encoding="utf-8")
    assert read_schema(file) == {"type": "object"}
    assert read_grammar(file).startswith("{")


def test_the_labels_of_the_bundle_are_the_choices(pair: list[str], tiny_bundle: Path) -> None:
    record = json.loads(run(*pair, FRUIT, "--json", "--choices", "auto").stdout)
    assert (record["text"], [*record["probabilities"]]) == ("a", ["a", "b"])
    shown = CliRunner().invoke(app, ["inspect", str(tiny_bundle)]).stdout
    assert re.search(r"^tasks +kinds  a, b$", shown, re.MULTILINE)


def test_run_answers_under_a_schema_or_grammar(pair: list[str], schema: Path, grammar: Path) -> None:
    assert json.loads(run(*pair, FRUIT, "--schema", schema).stdout)["kind"] in ("fruit", "beast")
    assert run(*pair, FRUIT, "--grammar", grammar).stdout in ("xy\n", "xz\n")
    compared = json.loads(run(*pair, FRUIT, "--compare", "--json", "--choices", "a,b").stdout)
    assert compared["without"]["probabilities"] != compared["with"]["probabilities"]


def test_run_says_that_an_answer_is_cut(pair: list[str], schema: Path, grammar: Path) -> None:
    for more in (["--schema", schema], ["--schema", schema, "--json"], ["--grammar", grammar, "--no-stream"]):
        one_sentence(run(*pair, FRUIT, *more, "-n", 1), 0, "1 token,", "incomplete", "--max-tokens")
        assert run(*pair, FRUIT, *more).stderr == ""
    assert run(*pair, FRUIT, "-n", 1).stderr == ""
    free = grammar.with_name("free.gbnf")
    free.write_text("root ::= [a-z]+")
    full = run(*pair, FRUIT, "--off", "--grammar", free, "--n-ctx", 256, "-n", 999)
    assert len(full.stdout) > 1
    one_sentence(full, 0, "incomplete", "--n-ctx")


def test_batch_records_have_the_probabilities(pair: list[str], tmp_path: Path) -> None:
    file, output, table = written(tmp_path / "in.jsonl", ROWS[:4]), tmp_path / "out.jsonl", tmp_path / "out.csv"
    for path in (output, table):
        assert batch(*pair, file, path, "--choices", "a,b").exit_code == 0
    found = records(output)
    assert [record["text"] for record in found] == ["a", "b", "a", "b"]
    for record in found:
        assert record["text"] == max(record["probabilities"], key=record["probabilities"].__getitem__)
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [json.loads(row["probabilities"]) for row in rows] == [record["probabilities"] for record in found]


def test_a_batch_is_resumed_only_with_the_same_restriction(tiny_gguf: Path, tiny_bundle: Path) -> None:
    def identity(**restriction: Any) -> dict[str, Any]:
        return AnswerSettings(tiny_gguf, tiny_bundle, **restriction).identity()

    restrictions: list[dict[str, Any]] = [
        *({"choices": ["a", "b"]}, {"choices": ["b", "a"]}, {"choices": "auto"}),
        *({"schema": SCHEMA}, {"grammar": 'root ::= "x"'}),
    ]
    identities = [identity(), *(identity(**restriction) for restriction in restrictions)]
    assert len({json.dumps(one) for one in identities}) == len(identities)
    assert not {"choices", "schema", "grammar"} & identities[0].keys()  # runs begun before these existed go on


def test_a_chat_changes_what_its_answers_are_restricted_to(pair: list[str], schema: Path, grammar: Path) -> None:
    result = chat(
        [*pair, "--choices", "b,zebra"],
        *(
            FRUIT,
            "/choices",
            "/choices a,b",
            FRUIT,
            f"/grammar {grammar}",
            FRUIT,
            "/choices",
            f"/schema {schema}",
            BEAST,
        ),
        *("/schema", "/schema off", "/clear", BEAST),
    )
    assert result.exit_code == 0
    first, second, third, fourth, last = result.stdout.splitlines()
    assert (first, second, last) == ("b", "a", "b")
    assert third in ("xy", "xz")
    assert json.loads(fourth)["kind"] in ("fruit", "beast")
    said = result.stderr.splitlines()
    assert said == [*("b, zebra", "choices a, b", "grammar on", "off", "schema on", "on", "schema off"), said[-1]]


def test_a_verbose_chat_names_its_restriction(pair: list[str], grammar: Path, engine: Engine) -> None:
    lines = ["/set verbose on", FRUIT, f"/grammar {grammar}", FRUIT, "/grammar off", FRUIT]
    first, second, last = re.findall(
        r"^\[.*ms to first token.*$", chat([*pair, "--choices", "a,b"], *lines).stderr, re.M
    )
    shown = re.search(r" · a (\d\.\d\d), b (\d\.\d\d)\]$", first)
    assert shown is not None, first
    assert float(shown[1]) + float(shown[2]) == pytest.approx(1, abs=0.02)
    assert (second.endswith("grammar]"), "grammar" in last) == (True, False)
    assert summary(Session(Conversation(engine, choices=["a", "b"]))).endswith("choices a, b")


def test_a_saved_chat_has_the_probabilities(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    result = chat(
        [*pair, "--choices", "a,b"], FRUIT, f"/save {file}", "/clear", f"/load {file}", BEAST, f"/save {file}"
    )
    assert (result.exit_code, result.stdout) == (0, "a\nb\n")
    assert file.read_text().count('"probabilities"') == 2


def test_a_chat_keeps_its_restriction_after_a_wrong_one(pair: list[str]) -> None:
    result = chat([*pair, "--choices", "b,zebra"], "/schema missing.json", "/choices a,a", FRUIT)
    assert result.stdout == "b\n"
    missing, twice = result.stderr.splitlines()
    assert "missing.json" in missing
    assert "'a' is twice" in twice


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--choices", "a,a"], ["--choices", "'a'"]),
        (["--choices", ","], ["--choices"]),
        (["--choices", "auto", "--off"], ["--choices", "without a bundle"]),
        (["--choices", "missing.txt"], ["missing.txt"]),
        (["--choices", "labels.lst"], ["labels.lst", "No such file"]),
        (["--choices", "folder/labels"], ["folder/labels", "No such file"]),
        (["--choices", "yes"], ["--choices", "'yes'"]),
        (["--choices", "yes,"], ["--choices", "'yes,'"]),
        (["--choices", "SCHEMA"], ["schema.json", "JSON list"]),
        (["--choices", "a,b", "--schema", "SCHEMA"], ["--choices", "--schema"]),
        (["--schema", "missing.json"], ["missing.json"]),
        (["--schema", "GRAMMAR"], ["grammar.gbnf", "JSON"]),
        (["--grammar", "missing.gbnf"], ["missing.gbnf"]),
        (["--grammar", "SCHEMA"], ["--grammar", "line 1"]),
    ],
)
def test_a_restriction_that_cannot_be_used_is_one_sentence(
    pair: list[str], schema: Path, grammar: Path, arguments: list[str], named: list[str]
) -> None:
    files = {"SCHEMA": str(schema), "GRAMMAR": str(grammar)}
    one_sentence(run(*pair, FRUIT, *(files.get(text, text) for text in arguments)), 2, *named)
