"""`atv-local lm-eval`: tasks of each kind through lm-evaluation-harness itself."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.registry import get_model
from typer.testing import CliRunner

from atv_cli.main import app
from atv_eval.lm_eval.harness_model import AtvLocal
from atv_local.answer.engine import Engine
from tests import ROOT
from tests.eval.lm_eval.token_by_token import scored, scored_pair, written

# Through lm_eval itself.


def test_it_is_registered_by_import_and_by_entry_point() -> None:
    assert get_model("atv-local") is AtvLocal
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lm_eval.models"]
    assert EntryPoint("atv-local", declared["atv-local"], "lm_eval.models").load() is AtvLocal


def test_without_lm_eval_the_verb_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    result = CliRunner().invoke(app, ["lm-eval", "--tasks", "any"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'atv-local[harness]'" in result.stderr


TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}, cache_dir: {cache}}}
test_split: test
output_type: {kind}
doc_to_text: "{text}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task of each kind."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = {
        "choosing": [{"q": "apple 1", "answer": 0}, {"q": "dog 2", "answer": 1}, {"q": "plum 3", "answer": 1}],
        "writing": [{"q": "apple 1", "answer": "a"}, {"q": "dog 2", "answer": "no"}],
        "rolling": [{"answer": "some text here"}, {"answer": "and a bit more"}],
    }
    kinds = {
        "choosing": ("multiple_choice", "{{q}}", 'doc_to_choice: ["a", "b", "abc"]\nmetric_list: [{metric: acc}]'),
        "writing": (
            "generate_until",
            "{{q}}",
            'generation_kwargs: {until: ["\\n", "x"], max_gen_toks: 8}\nmetric_list: [{metric: exact_match}]',
        ),
        "rolling": ("loglikelihood_rolling", "", "metric_list: [{metric: bits_per_byte}]"),
    }
    for name, (kind, text, more) in kinds.items():
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
        task = TASK.format(name=name, file=file, cache=folder / "cache", kind=kind, text=text)
        (folder / f"{name}.yaml").write_text(task + more + "\n")
    return folder


def lm_eval(folder: Path, arguments: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
    """The verb in a process of its own, with nothing to be had but what is in the folder."""
    given = ",".join(f"{name}={value}" for name, value in arguments.items())
    command = [sys.executable, "-m", "atv_cli", "lm-eval", "--model", "atv-local", "--model_args", given]
    environment = os.environ | {
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command += ["--include_path", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


def test_tasks_of_each_kind_through_lm_evals_command_line(
    tasks: Path, arguments: dict[str, Any], alone: Engine
) -> None:
    output = tasks / "out"
    more = ["--tasks", "choosing,writing,rolling", "--output_path", str(output), "--log_samples"]
    done = lm_eval(tasks, arguments, *more)
    assert done.returncode == 0, done.stderr
    assert "|choosing" in done.stdout
    (file,) = output.rglob("results_*.json")
    record = json.loads(file.read_text())
    assert record["config"]["bundle"] == alone.generator.bundle.id
    assert record["config"]["positions"] == "decode"

    def samples(name: str) -> list[dict[str, Any]]:
        (found,) = output.rglob(f"samples_{name}_*.jsonl")
        return sorted(map(json.loads, found.read_text().splitlines()), key=lambda row: row["doc_id"])

    right = 0
    for row in samples("choosing"):
        wanted = [scored_pair(alone, row["doc"]["q"], choice) for choice in ("a", "b", "abc")]
        for (((total, greedy),),), expected in zip(zip(row["resps"], strict=True), wanted, strict=True):
            assert float(total) == pytest.approx(expected[0], abs=1e-3)
            assert str(greedy) == str(expected[1])
        right += row["doc"]["answer"] == np.argmax([total for total, _ in wanted])
    assert record["results"]["choosing"]["acc,none"] == pytest.approx(right / 3)

    texts = [written(alone, row["doc"]["q"], 8).split("\n")[0].split("x")[0] for row in samples("writing")]
    assert [row["resps"][0][0] for row in samples("writing")] == texts
    matches = np.mean([text == row["doc"]["answer"] for text, row in zip(texts, samples("writing"), strict=True)])
    assert record["results"]["writing"]["exact_match,none"] == matches

    bits = n_bytes = 0.0
    for row in samples("rolling"):
        tokens = alone.target.vocabulary.tokenize(row["doc"]["answer"], special=True, bos=False)
        bits -= scored(alone, [1], tokens, None)[0] / math.log(2)
        n_bytes += len(row["doc"]["answer"].encode())
    assert record["results"]["rolling"]["bits_per_byte,none"] == pytest.approx(bits / n_bytes, abs=1e-3)


def test_mistakes_under_lm_eval_are_one_sentence_too(tasks: Path, arguments: dict[str, Any]) -> None:
    for changed, task, code, word in (
        ({"model": "missing.gguf"}, "choosing", 1, "missing.gguf"),
        ({}, "no-such-task", 2, "no-such-task"),
    ):
        done = lm_eval(tasks, arguments | changed, "--tasks", task)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("atv-local: ")
        assert word in done.stderr.splitlines()[-1]
