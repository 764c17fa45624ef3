"""`atv-local bench` measures what it says with any GGUF, and random GGUFs are what they are asked to be."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_eval.bench import benchmark as measuring
from atv_eval.bench.bench_report import bench_markdown
from atv_eval.bench.bench_results import BenchResults
from atv_eval.bench.benchmark import BenchOptions
from atv_eval.bench.costs import BenchPlan
from atv_eval.bench.timing import in_turn, ratios, spread
from atv_local.answer.engine import Engine
from atv_local.target.target import Target
from atv_local.vectors.steering import OFF
from benchmarks import growth, random_gguf
from tests.tiny import write_gguf

SHORT = BenchPlan(rounds=2, queries=(8, 32, 300), prompts=(16, 1000), n_decode=4, n_toggles=3, n_queries=3, n_answer=3)
SMALL = "3x64x4x2x128"
PARTS = ["memory", "generator", "vector", "first-token", "decode", "batch"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "QUICK", SHORT)


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", "--quick", "-t", "1", *map(str, arguments)])


def record_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return record


def rows_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [*record["ratios"], *record["medians"]]


def says(result: Result, *words: str) -> None:
    """One sentence at the end of stderr, nothing on stdout, exit code 2."""
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("atv-local: ")
    for word in words:
        assert word in line


def test_every_part_is_measured_in_finite_positive_numbers(tiny_gguf: Path, tiny_bundle: Path) -> None:
    record = record_of(bench("-m", tiny_gguf, "-g", tiny_bundle, "--json"))
    assert list(dict.fromkeys(row["part"] for row in record["medians"])) == PARTS
    assert {row["part"] for row in record["ratios"]} == set(PARTS)
    for row in rows_of(record):
        assert row["low"] <= row["median"] <= row["high"]
        assert all(map(math.isfinite, row["samples"]))
        if not row["what"].startswith("what a change adds"):  # a difference, which noise can make negative
            assert min(row["samples"]) > 0, row
    assert {row["unit"] for row in record["medians"]} == {"MB", "ms", "tokens/s", "queries/s"}
    assert [row["size"] for row in record["medians"] if row["what"] == "int8 on cpu"] == [8, 32]  # it reads at most 64
    assert "3 of 3 answers are the same together as one by one" in record["notes"]
    assert any("no room for a prompt of 1000" in note for note in record["notes"])
    assert (record["model"]["n_layer"], record["model"]["n_embd"]) == (4, 64)
    assert record["model"]["kv_bytes_per_token"] >= 4 * 2 * 2 * 16 * 2  # layers, K and V, heads, width, float16
    assert record["machine"]["threads"] == 1
    assert record["bundle"]["precision"] == "int8"
    assert "=" in record["machine"]["llama_cpp"]


def test_what_is_measured_is_steered_though_the_gate_is_closed(tiny_gguf: Path, gated_bundle: Path) -> None:
    loaded = measuring._load(BenchOptions(tiny_gguf, gated_bundle, n_threads=1), BenchResults(lambda _: None))
    with loaded.engine as engine:
        gated = engine.gated_vector(loaded.text(16))
    assert gated.vector is not None
    assert gated.gate is not None
    assert gated.gate.score < 0.5


def test_memory_is_told_at_every_stage_of_loading(tiny_gguf: Path, tiny_bundle: Path) -> None:
    record = record_of(bench("-m", tiny_gguf, "-g", tiny_bundle, "--only", "memory", "--json"))
    assert [row["what"] for row in record["medians"]] == [
        "before the target",
        "with the target",
        "with the generator",
        "with a context for many queries",
    ]


def test_ratios_are_of_the_samples_beside_them(tiny_gguf: Path) -> None:
    record = record_of(bench("-m", tiny_gguf, "--only", "first-token,decode,batch", "--json"))
    samples = {(row["part"], row["size"], row["what"]): row["samples"] for row in record["medians"]}
    assert len(record["ratios"]) == 4
    for row in record["ratios"]:
        above, below = (samples[row["part"], row["size"], name] for name in row["what"].split(" / "))
        assert np.allclose(row["samples"], np.divide(above, below), rtol=1e-3)
        assert math.isclose(row["median"], np.median(row["samples"]), rel_tol=1e-3)


def test_markdown_says_what_json_says(tiny_gguf: Path, tmp_path: Path) -> None:
    record = record_of(bench("-m", tiny_gguf, "--json"))
    lines = re.findall(r"^\| (.*) \|$", bench_markdown(record), re.MULTILINE)
    cells = [line.split(" | ") for line in lines if "---" not in line and not line.startswith("part")]
    assert len(cells) == len(rows_of(record))
    for row, (part, what, size, median, quartiles, last) in zip(rows_of(record), cells, strict=True):
        assert (part, what, size.partition(" ")[0]) == (row["part"], row["what"], str(row["size"] or ""))
        assert math.isclose(float(median), row["median"], rel_tol=6e-3)
        assert np.allclose([*map(float, quartiles.split(" to "))], [row["low"], row["high"]], rtol=6e-3)
        assert last == row.get("unit", str(len(row["samples"])))
    file = tmp_path / "result.md"
    result = bench("-m", tiny_gguf, "-o", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert file.read_text().startswith("# Cost of steering\n")
    says(bench("-m", tiny_gguf, "-o", file, "--only", "vector"), "exists", "--overwrite")
    assert bench("-m", tiny_gguf, "-o", file, "--only", "vector", "--overwrite").exit_code == 0
    assert "decode" not in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["result.md"]


def test_any_gguf_is_measured_without_a_bundle(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "other.gguf", n_layer=3, n_embd=32, template="")
    record = record_of(bench("-m", model, "--json"))
    assert {row["part"] for row in record["medians"]} == set(PARTS) - {"generator"}
    assert record["bundle"] is None
    assert any("random vector" in note for note in record["notes"])


def test_only_measures_that(tiny_gguf: Path, tiny_bundle: Path) -> None:
    record = record_of(bench("-m", tiny_gguf, "-g", tiny_bundle, "--only", "batch, generator", "--json"))
    assert [*dict.fromkeys(row["part"] for row in record["medians"])] == ["generator", "batch"]
    assert record["settings"]["parts"] == ["generator", "batch"]


def test_the_demo_bundle_is_taken_where_it_fits(smollm2: Path) -> None:
    record = record_of(bench("-m", smollm2, "--only", "generator", "--json"))
    assert record["bundle"]["id"]
    assert [row["size"] for row in record["medians"]] == [8, 32]


def test_mistakes_are_one_sentence(tiny_gguf: Path, smollm2: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    says(bench("-m", tiny_gguf, "--only", "speed"), "'speed'", "first-token")
    says(bench("-m", tiny_gguf, "--only", "generator"), "no bundle fits", "--bundle")
    says(bench("-m", tiny_gguf, "--provider", "cpu"), "no bundle fits", "--provider", "--bundle")
    says(bench("-m", tiny_gguf, "--rounds", "1"), "--rounds 1")
    says(bench("-m", tiny_gguf, "-o", tiny_gguf, "--overwrite"), "not a result that this command wrote")
    says(bench("-m", tiny_gguf, "-o", tmp_path), "not a result that this command wrote")
    says(bench("-m", tiny_gguf, "-c", "9999"), "9999", "512")
    unfit = bench("-m", smollm2, "-g", tiny_bundle)
    assert (unfit.exit_code, unfit.stdout) == (1, "")
    assert "was made for" in unfit.stderr
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_measured_is_said_and_does_not_stop_the_rest(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "QUICK", BenchPlan(rounds=2, prompts=(1000,), n_queries=2, n_query=1000, n_decode=4))
    record = record_of(bench("-m", tiny_gguf, "--only", "first-token,decode,batch", "--json"))
    assert {row["part"] for row in record["medians"]} == {"decode"}
    assert any("batch could not be measured" in note for note in record["notes"])
    says(bench("-m", tiny_gguf, "--only", "first-token"), "no room for a prompt of 1000")


def test_rounds_alternate_and_are_warmed() -> None:
    called = []

    def measure(name: str) -> float:
        called.append(name)
        return len(called)

    samples = in_turn({"a": lambda: measure("a"), "b": lambda: measure("b")}, 2)
    assert "".join(called) == "ababba"
    assert samples == {"a": [3, 6], "b": [4, 5]}
    assert ratios([2, 9], [1, 3]) == [2, 3]
    assert spread([1, 2, 3, 4, 5]) == (3, 2, 4)
    assert spread([7]) == (7, 7, 7)


@pytest.mark.parametrize("kind", random_gguf.TYPES)
def test_a_random_gguf_has_the_asked_shape_and_finite_logits(kind: str, tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    random_gguf.write(path, random_gguf.parse(SMALL), kind=kind, vocabulary=tiny_gguf)
    target = Target(path, n_threads=1)
    model = target.model
    assert (model.architecture, model.n_layer, model.n_embd, model.quantisation) == ("llama", 3, 64, kind)
    assert model.meta("llama.attention.head_count_kv") == "2"
    source = Target(tiny_gguf, n_threads=1).vocabulary
    assert (target.vocabulary.sha256, target.vocabulary.chat_template) == (source.sha256, source.chat_template)
    logits = target.evaluate(target.vocabulary.tokenize("hello there", special=False))
    assert np.isfinite(logits).all()
    assert 0.3 < logits.std() < 3  # neither flat nor certain, as a model's are
    events = list(Engine(target).stream("hello", steering=OFF, max_tokens=4))
    assert events[-1].tokens.generated <= 4


def test_a_random_gguf_is_that_of_its_seed(tiny_gguf: Path, tmp_path: Path) -> None:
    def made(folder: str, seed: int) -> bytes:
        path = tmp_path / folder / "random.gguf"
        random_gguf.write(path, random_gguf.parse(SMALL), seed=seed, vocabulary=tiny_gguf)
        return path.read_bytes()

    assert made("a", 1) == made("b", 1)
    assert made("a", 1) != made("c", 2)


def test_the_sizes_are_those_of_their_names() -> None:
    for name, shape in random_gguf.SIZES.items():
        n_weights = sum(rows * columns for _, rows, columns in shape.matrices(49152))
        assert math.isclose(n_weights, float(name.removesuffix("B")) * 1e9, rel_tol=0.25), name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("7B", "neither"),
        ("", "neither"),
        ("3x64", "neither"),
        ("3x64x4x3x128", "heads"),
        ("3x72x4x2x128", "multiples of 32"),
        ("1x64x4x2x128", "least"),
        ("3x64x4x0x128", "least"),
    ],
)
def test_shapes_that_cannot_be_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        random_gguf.parse(text)


@pytest.mark.model  # whose vocabulary the random one takes
def test_growth_measures_a_size_in_a_process_of_its_own(tmp_path: Path) -> None:
    options = ["--quick", "-t", "1", "-c", "256", "--only", "decode", "--rounds", "2"]
    record = growth.measure("2x32x2x1x32", "Q8_0", tmp_path, options)
    assert record["size"] == "2x32x2x1x32"
    assert (record["model"]["n_layer"], record["model"]["quantisation"]) == (2, "Q8_0")
    assert [row["what"] for row in record["ratios"]] == ["steered / off"]
