"""`atv-local eval` and `calibrate`: figures that follow from the answers, and answers that are kept."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atv_eval.calibration import calibrate, write
from atv_eval.demonstrations import BM25, balanced
from atv_eval.evaluation import RECORDS, EvalRecord, measure
from atv_eval.harm import measure_harm
from atv_eval.match import AnswerMatcher
from atv_eval.methods import Method
from atv_eval.questions import EvalPlan, Task
from atv_eval.report import MEAN, Summary, as_csv, compare, markdown, score
from atv_eval.tasks import read_tasks
from atv_local.answer.engine import Engine
from atv_local.answer.loading import load
from atv_local.data.columns import DEFAULT_COLUMNS
from atv_local.data.rows import Row
from atv_local.errors import BundleError, DataError, UsageError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.target.target import Target
from atv_local.vectors.steering import OFF, Positions, Steering
from atv_local.vectors.task_vector import TaskVector

Cli = Callable[..., subprocess.CompletedProcess[str]]
FRUITS = ["apple", "pear", "plum", "fig", "lime"]
BEASTS = ["cat", "dog", "cow", "hen", "pig"]


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path, tiny_generator: Generator) -> Engine:
    return Engine(Target(tiny_gguf, n_threads=1), tiny_generator)


@pytest.fixture
def cli(tiny_gguf: Path, tiny_bundle: Path) -> Cli:
    """The program on the tiny target."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "atv_cli", *map(str, arguments), "-m", str(tiny_gguf), "-g", str(tiny_bundle)]
        return subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    return run


def write_rows(path: Path, words: list[str], choices: list[str] | None = None) -> Path:
    rows = [{"input": word, "output": "a" if word.split()[0] in FRUITS else "b", "task": path.stem} for word in words]
    path.write_text("".join(json.dumps(row | ({"choices": choices} if choices else {})) + "\n" for row in rows))
    return path


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "kinds.jsonl", [f"{word} {n}" for n in (7, 8) for word in FRUITS + BEASTS], ["a", "b"])


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    folder = tmp_path / "shown"
    folder.mkdir()
    return write_rows(folder / "kinds.jsonl", [f"{word} {n}" for n in (1, 2) for word in FRUITS + BEASTS])


def plan_of(asked: Path, shown: Path | None = None, *methods: Method, **more: object) -> EvalPlan:
    tasks = read_tasks([asked], [shown] if shown else [], DEFAULT_COLUMNS, None, False)
    return EvalPlan(tasks, methods or (Method.BASE, Method.STEERED), Steering(), n_shots=4, **more)  # type: ignore[arg-type]


def test_records_are_what_the_engine_answers(tiny: Engine, asked: Path, shown: Path) -> None:
    records = measure(plan_of(asked, shown, *Method), tiny, None)
    assert len(records) == 80
    for record in records:
        row = json.loads(asked.read_text().splitlines()[record.row])
        if record.method in (Method.BASE, Method.STEERED):
            steering = OFF if record.method is Method.BASE else tiny.steering
            whole = tiny.answer(row["input"], steering=steering, max_tokens=9).text
            assert whole.startswith(record.answer.rstrip("\N{REPLACEMENT CHARACTER}"))
            assert (whole.strip() == row["output"]) == (record.said == record.output)
        assert record.chosen in ("a", "b")
    by_method = {score.method: score for score in score(records)}
    assert by_method[Method.STEERED].exact.value > 0.9  # the tiny generator was trained on such rows
    assert by_method[Method.STEERED].choice is not None
    assert by_method[Method.SHOTS].prompt_tokens > 3 * by_method[Method.BASE].prompt_tokens
    assert by_method[Method.BASE].prompt_tokens == by_method[Method.STEERED].prompt_tokens
    exact = compare(records)[Method.BASE]["exact"]
    assert exact.value == pytest.approx(by_method[Method.STEERED].exact.value - by_method[Method.BASE].exact.value)


def test_the_vector_is_made_from_the_query_alone(tiny: Engine, asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    vector = tiny.vector
    monkeypatch.setattr(tiny, "vector", lambda query: (read.append(query), vector(query))[1])
    measure(plan_of(asked), tiny, None)
    assert sorted(read) == sorted(json.loads(line)["input"] for line in asked.read_text().splitlines())


def test_an_answer_is_read_until_it_is_decided(tiny: Engine, asked: Path) -> None:
    short = measure(plan_of(asked, max_tokens=12), tiny, None)
    whole = measure(plan_of(asked, max_tokens=12, whole=True), tiny, None)
    assert [record.said for record in short] == [record.said for record in whole]
    assert [record.chosen for record in short] == [record.chosen for record in whole]
    assert sum(record.generated_tokens for record in short) < sum(record.generated_tokens for record in whole)


def test_an_evaluation_goes_on_where_it_was(tiny: Engine, asked: Path, tmp_path: Path) -> None:
    plan, folder = plan_of(asked), tmp_path / "out"

    def stop(record: EvalRecord) -> None:
        if record.row == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(plan, tiny, folder, stop)
    file = folder / RECORDS
    kept = file.read_text().splitlines()
    assert 1 < len(kept) < 30
    file.write_text("\n".join(kept) + '\n{"task": "kinds", "ro')  # as a crash leaves it
    seen: list[EvalRecord] = []
    again = measure(plan, tiny, folder, seen.append)
    assert again == measure(plan, tiny, None)
    assert len(seen) == 40
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({(line["row"], line["method"]) for line in lines}) == len(lines) == 40
    with pytest.raises(UsageError, match="strength"):
        measure(EvalPlan(plan.tasks, plan.methods, Steering(0.5), n_shots=4), tiny, folder)
    (tmp_path / "others").mkdir()
    others = write_rows(tmp_path / "others" / "kinds.jsonl", ["fig 3", "cat 3", "fig 4", "cat 4"])
    other = read_tasks([others], [], DEFAULT_COLUMNS, None, False)
    with pytest.raises(UsageError, match="another row 1"):
        measure(EvalPlan(other, plan.methods, Steering(), n_shots=4), tiny, folder)
    file.write_text("hello\n")
    with pytest.raises(UsageError, match="no record of an answer"):
        measure(plan, tiny, folder)


def test_demonstrations_that_do_not_fit_are_left_out(tiny_gguf: Path, asked: Path, tmp_path: Path) -> None:
    engine = load(tiny_gguf, steered=False, n_ctx=256, n_threads=1)
    (tmp_path / "long").mkdir()
    shown = write_rows(tmp_path / "long" / "kinds.jsonl", [f"{word} {'x' * 80}" for word in FRUITS])
    records = measure(plan_of(asked, shown, Method.SHOTS, Method.BM25), engine, None)
    assert all(
        0 < record.dropped < 4 and record.prompt_tokens <= engine.target.n_ctx and not record.error
        for record in records
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [("spam", "spam"), (' "Spam." ', "spam"), ("**Not spam**", "not spam"), ("\n\nham\nbecause", "ham"),
     ("spamming", None), ("", None), ("ham or spam", None)],
)  # fmt: skip
def test_what_an_answer_says(text: str, said: str | None) -> None:
    assert AnswerMatcher(["spam", "ham", "not spam"]).said(text) == said


def test_candidates_that_differ_in_case_alone_are_told_apart() -> None:
    answers = AnswerMatcher(["A", "a"])
    assert (answers.said("a"), answers.said(" A\n"), answers.said('"a"')) == ("a", "A", None)


@given(st.text('ab c.\n"', max_size=8))
def test_what_is_decided_can_become_no_candidate(text: str) -> None:
    class Letters:
        def piece(self, token: int) -> bytes:
            return bytes([token])

    answers = AnswerMatcher(["a", "abc", "b c"])
    decided = answers.decided(Letters())  # type: ignore[arg-type]
    if decided(list(text.encode())) and answers.said(text) is None:
        assert all(
            answers.said(text + rest) is None for rest in ("a", "b", "c", "bc", " c", "abc", "\nabc", '"', ". a")
        )


def test_shown_rows_are_balanced_and_near() -> None:
    rows = [
        Row(input=f"{word} {n}", output="a" if word in FRUITS else "b") for n in range(3) for word in FRUITS + BEASTS
    ]
    picked = balanced(rows[::-1] + rows[:5], 6, 0)
    assert sorted(row.output for row in picked) == ["a"] * 3 + ["b"] * 3
    assert picked == balanced(rows[::-1] + rows[:5], 6, 0)
    assert [row.input.split()[0] for row in BM25(rows).nearest("a pig", 3)] == ["pig"] * 3
    assert BM25(rows).nearest("two", 99)


def test_texts_of_several_lines_are_compared_whole() -> None:
    answers = AnswerMatcher(["SELECT a\nFROM t"])
    assert answers.said("SELECT a\nFROM t ") == "SELECT a\nFROM t"
    assert answers.said("SELECT a\nFROM u") is None
    assert AnswerMatcher(["*", "+"]).said("") is None


def test_a_row_that_cannot_be_asked_spoils_nothing(cli: Cli, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "kinds.jsonl", ["cat " * 400, "fig 1", "cat 1"], ["a", "b"])
    text = rows.read_text().replace("fig 1", "fig\\u2028 1")
    rows.write_text(text)
    command = ["eval", rows, "--no-harm", "--timed", "2", "-o", tmp_path / "out"]
    first, again = cli(*command), cli(*command)
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "| among the choices, % |" in first.stdout
    lines = [result.stdout.split(" | ")[:10] for result in (first, again)]
    assert lines[0] == lines[1]


def test_two_evaluations_do_not_share_a_folder(tiny: Engine, asked: Path, tmp_path: Path) -> None:
    def meanwhile(_: EvalRecord) -> None:
        with pytest.raises(UsageError, match="another process"):
            measure(plan_of(asked), tiny, tmp_path / "out")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(plan_of(asked), tiny, tmp_path / "out", meanwhile)


def test_calibrated_in_place_a_bundle_keeps_what_else_it_has(tmp_path: Path, tiny_bundle: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    (folder / "notes.txt").write_text("mine")
    found = json.loads((folder / "atv.json").read_text())
    (folder / "atv.json").write_text(json.dumps(found | {"future": {"a": 1}}))
    before = Bundle(folder)
    write(before, Steering(0.5, (2, 3)), folder)
    after = Bundle(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert json.loads((folder / "atv.json").read_text())["future"] == {"a": 1}
    assert after.manifest.injection == before.manifest.injection
    assert (after.manifest.steering.strength, after.manifest.steering.layers) == (0.5, (2, 3))
    for wrong in ({"strength": 0}, {"strength": 1, "layers": [2, 99]}):
        (folder / "atv.json").write_text(json.dumps(found | {"calibration": wrong}))
        with pytest.raises(BundleError):
            Bundle(folder)


def test_harm_grows_with_strength_and_of_none_is_none(tiny: Engine) -> None:
    queries = [f"say {word}" for word in FRUITS]
    steerings = [Steering(1e-6), Steering(0.3), Steering(1.0), Steering(0.3, None, Positions.ALL)]
    nearly, some, much, everywhere, random = measure_harm(tiny, queries, steerings)
    assert nearly.kl == pytest.approx(0, abs=1e-4)
    assert nearly.agreement == nearly.same == 1
    assert 0 < some.kl < much.kl
    assert everywhere.kl not in (0, some.kl)
    assert random.kl < 0.01  # of the norms of the first one
    assert {harm.n_queries for harm in (nearly, much)} == {5}


def test_kl_is_that_of_the_logits(tiny: Engine) -> None:
    query, steering = "say fig", Steering(0.5)
    harm = measure_harm(tiny, [query], [steering])[0]
    prompt = tiny.target.prompts(query)
    target, vector = tiny.target, tiny.vector(query)
    rows: list[list[np.ndarray]] = []
    answer: list[int] = []
    for made in (None, vector):
        target.reset()
        target.prefill(prompt.tokens[: prompt.shared], prompt.tokens[prompt.shared : -1])
        if made is not None:
            target.apply(steering.apply(made))
        logits = [target.evaluate(prompt.tokens[-1:]).astype(np.float64)]
        for step in range(15):
            if made is None:
                answer.append(int(logits[-1].argmax()))
                if target.vocabulary.ends(answer[-1]):
                    answer.pop()
                    break
            elif step == len(answer):
                break
            logits.append(target.evaluate([answer[step]]).astype(np.float64))
        rows.append(logits)
    target.reset()
    n = len(answer) + (len(answer) == 15)
    base, steered = (np.array(side)[:n] for side in rows)
    p, q = (side - np.log(np.exp(side).sum(axis=1, keepdims=True)) for side in (base, steered))
    assert harm.kl == pytest.approx(float((np.exp(p) * (p - q)).sum(axis=1).mean()), rel=1e-3)


def test_calibration_keeps_the_budget_and_the_bundle_remembers(tiny: Engine, asked: Path, tiny_gguf: Path,
                                                               tmp_path: Path) -> None:  # fmt: skip
    tasks = read_tasks([asked], [], DEFAULT_COLUMNS, None, False)
    queries = [f"say {word}" for word in FRUITS + BEASTS]
    free, points = calibrate(tiny, tasks, queries, budget=99, strengths=[0.01, 0.3, 1])
    assert free is not None
    assert free.accuracy.value == max(point.accuracy.value for point in points)
    budget = sorted(point.harm.kl for point in points)[len(points) // 3]
    best, _ = calibrate(tiny, tasks, queries, budget=budget, strengths=[0.01, 0.3, 1])
    assert best is not None
    assert best.harm.kl <= budget
    none, _ = calibrate(tiny, tasks, queries, budget=1e-12, strengths=[1], search_layers=False)
    assert none is None
    assert tiny.generator is not None
    name = write(tiny.generator.bundle, best.steering, tmp_path / "calibrated")
    again = load(tiny_gguf, tmp_path / "calibrated", n_threads=1)
    assert again.generator is not None
    assert again.generator.bundle.id == name != tiny.generator.bundle.id
    assert again.steering.strength == best.steering.strength
    assert again.steering.layers == (best.steering.layers or tiny.steering.layers)
    assert "".join(e.text for e in again.stream("fig 3", max_tokens=4)) == "".join(
        e.text for e in tiny.stream("fig 3", steering=best.steering, max_tokens=4)
    )


def summaries(records: list[EvalRecord]) -> Iterator[Summary]:
    yield Summary({}, score(records), compare(records), {Method.BASE: 3.5}, {})


def test_tables_agree(tiny: Engine, asked: Path, tmp_path: Path) -> None:
    second = write_rows(tmp_path / "more.jsonl", ["cat 1", "fig 1", "dog 1", "lime 1"])
    tasks = read_tasks([asked, second], [], DEFAULT_COLUMNS, 3, False)
    (summary,) = summaries(measure(EvalPlan(tasks, (Method.BASE, Method.STEERED), Steering()), tiny, None))
    rows = list(csv.DictReader(io.StringIO(as_csv(summary))))
    assert [(row["task"], row["method"]) for row in rows] == [
        (task, method) for method in ("base", "steered") for task in ("kinds", "more", MEAN)
    ]
    text = markdown(summary)
    for row in rows:
        line = next(line for line in text.splitlines() if line.startswith(f"| {row['task']}: {row['method']} |"))
        assert f" {100 * float(row['exact']):.1f} [" in line
    found = summary.as_dict()
    assert found["scores"][0]["exact"]["value"] == float(rows[0]["exact"])
    assert json.dumps(found)


def test_the_command_writes_results_and_resumes(cli: Cli, asked: Path, shown: Path, tmp_path: Path) -> None:
    unrelated = tmp_path / "unrelated.txt"
    unrelated.write_text("".join(f"say {n}\n" for n in range(12)))
    command = ["eval", asked, "--shots-from", shown, "-o", tmp_path / "out", "-t", "1"]
    first = cli(*command, "--unrelated", unrelated)
    assert first.returncode == 0, first.stderr
    assert "| kinds: steered | 20 |" in first.stdout
    assert (tmp_path / "out" / "results.md").read_text() == first.stdout
    assert (tmp_path / "out" / "results.png").read_bytes()[:4] == b"\x89PNG"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["harm"]) == {"steered", "random vectors of the same norms"}
    assert set(results["first_token_ms"]) == {"base", "steered", "k-shot", "bm25"}
    kept = (tmp_path / "out" / RECORDS).read_bytes()
    again = cli(*command, "--timed", "0", "--no-harm", "--format", "csv")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / RECORDS).read_bytes() == kept
    assert again.stdout.startswith("task,method,rows,exact,")
    other = cli(*command, "--strength", "0.5")
    assert other.returncode == 2
    assert "strength" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--method", "k-shot"], "--shots-from"), (["--layers", "3-99"], "steerable layers"),
     (["--shots-from", "SELF"], "among those to show"), (["--column", "input=nothing"], "no column"),
     (["--unrelated", "/nothing"], "--no-harm")],
)  # fmt: skip
def test_mistakes_are_said_in_a_sentence(cli: Cli, asked: Path, arguments: list[str], words: str) -> None:
    result = cli("eval", asked, *(str(asked) if a == "SELF" else a for a in arguments), "--timed", "0", "--no-harm")
    assert result.returncode in (1, 2)
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_row_that_fails_counts_as_wrong(cli: Cli, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "kinds.jsonl", ["fig 1", "cat " * 400, "cat 1"])
    result = cli("eval", rows, "--timed", "0", "--no-harm", "--format", "csv", "--method", "steered")
    assert "1 answers failed" in result.stderr
    assert "row 2 of 'kinds'" in result.stderr
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["rows"], row["errors"]) == ("3", "1")
    assert float(row["exact"]) <= 2 / 3


def test_calibrate_prints_the_curve_and_writes(cli: Cli, asked: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    command = ["calibrate", asked, "--strengths", "0.1,1", "--no-layers", "--budget", "50", "-t", "1"]
    dry = cli(*command, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    result = cli(*command, "-o", tmp_path / "new")
    assert result.returncode == 0, result.stderr
    assert result.stdout == dry.stdout
    assert result.stdout.count("(chosen)") == 1
    chosen = float(next(line for line in result.stdout.splitlines() if "(chosen)" in line).split()[1])
    assert Bundle(tmp_path / "new").manifest.steering.strength == chosen
    assert Bundle(tiny_bundle).manifest.steering.strength == 1
    tight = cli(*command[:-4], "--budget", "1e-9", "-o", tmp_path / "never")
    assert tight.returncode == 1
    assert "raise --budget" in tight.stderr
    assert not (tmp_path / "never").exists()
    assert cli(*command, "--strengths", "a").returncode == 2


def test_labels_stand_in_for_choices(tmp_path: Path) -> None:
    bare = write_rows(tmp_path / "bare.jsonl", ["cat 1", "fig 1"])
    (task,) = read_tasks([bare], [], DEFAULT_COLUMNS, None, True)
    assert all(set(row.choices or ()) == {"a", "b"} for row in task.rows)
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps({"input": f"i{n}", "output": f"o{n}"}) + "\n" for n in range(60)))
    with pytest.raises(DataError, match="too many for labels"):
        read_tasks([many], [], DEFAULT_COLUMNS, None, True)
    assert Task.of("t", [Row(input=f"{n}", output=f"text {n}") for n in range(9)], []).labels == ()


def test_noise_keeps_the_norms() -> None:
    from atv_eval.harm import _like

    vector = TaskVector(np.random.default_rng(0).normal(size=(5, 8)) * np.arange(5)[:, None])
    noise = _like(vector, np.random.default_rng(1))
    assert noise.norms() == pytest.approx(vector.norms(), rel=1e-5)
    assert noise != vector
