"""The commands that write, on tiny models, and how to compare what they write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMES = {"seconds", "timings_ms", "first_token_ms", "evaluated_tokens"}


@dataclass(frozen=True)
class Job:
    """A command with one output.

    Args:
        verb: of the program.
        output: its name in the folder of outputs.
        command: arguments for that output, by variant; any two variants write different contents.
        read: the content without times and dates; raises if it is torn. Called in a process of its own.
        grows: records are added to the output one by one.
        resume: arguments that go on with an unfinished output instead of running the same command.
    """

    verb: str
    output: str
    command: Callable[[Path, int], list[str]]
    read: Callable[[Path], Any]
    grows: bool = False
    resume: Callable[[Path], list[str]] | None = None


def write_inputs(folder: Path) -> None:
    """A tiny target, rows, a bundle, a backbone, and a trained run."""
    from tests import tiny
    from tests.tiny.backbone import write_backbone

    folder.mkdir()
    target, rows = tiny.write_gguf(folder / "target.gguf"), tiny.write_rows(folder / "kinds.jsonl")
    tiny.write_bundle(folder / "bundle", target, rows, tiny.fit(target))
    write_backbone(folder / "backbone")


def jobs(inputs: Path) -> dict[str, Job]:
    """By verb. They come from the same inputs, which they do not change."""
    target, rows, bundle = (str(inputs / name) for name in ("target.gguf", "kinds.jsonl", "bundle"))
    models = ["-m", target, "-g", bundle, "-t", "1"]

    def vector(output: Path, variant: int) -> list[str]:
        return ["vector", f"apple {variant}", "-g", bundle, "-o", str(output), "--overwrite"]

    def train(output: Path, variant: int) -> list[str]:
        short = ["--epochs", "2", "--batch-size", "8", "--seed", str(variant)]
        models = ["-m", target, "--backbone", str(inputs / "backbone")]
        return ["train", rows, *models, *short, "-o", str(output), "--overwrite"]

    def export(output: Path, variant: int) -> list[str]:
        precision = ("fp32", "int8")[variant % 2]
        return ["export", str(inputs / "run"), str(output), "--precisions", precision, "--overwrite"]

    def calibrate(output: Path, variant: int) -> list[str]:
        measured = ["--rows", "4", "--strengths", str(variant + 1), "--no-search-layers", "--budget", "99"]
        return ["calibrate", rows, *models, *measured, "-o", str(output), "--overwrite"]

    def evaluate(output: Path, variant: int) -> list[str]:
        measured = [
            "--rows",
            str(3 * variant + 3),
            "--method",
            "base",
            "--method",
            "steered",
            "--no-harm",
            "--timed",
            "0",
        ]
        return ["eval", rows, *models, *measured, "-o", str(output)]

    def batch(output: Path, variant: int) -> list[str]:
        return ["batch", rows, str(output), *models, "-n", str(variant + 1), "--overwrite"]

    found = [
        Job("vector", "v.gguf", vector, _hash),
        Job("train", "run", train, _run, resume=lambda output: ["train", "--resume", str(output)]),
        Job("export", "bundle", export, _bundle),
        Job("calibrate", "bundle", calibrate, _bundle),
        Job("eval", "eval", evaluate, lambda folder: _records(folder / "answers.jsonl"), grows=True),
        Job("batch", "out.jsonl", batch, _records),
    ]
    return {job.verb: job for job in found}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(folder: Path) -> dict[str, Any]:
    from atv_train.run_folder import load_checkpoint, read_run_record

    seed = read_run_record(folder).job.settings.seed
    load_checkpoint(folder)
    weights = {path.name: _hash(path) for path in sorted((folder / "checkpoint").glob("*.safetensors"))}
    return {"seed": seed, "epochs": len((folder / "metrics.jsonl").read_text().splitlines()), **weights}


def _bundle(folder: Path) -> dict[str, Any]:
    from atv_local.generator import Bundle

    manifest = Bundle(folder).manifest  # which compares every file with its hash
    files = {name: entry.sha256 for name, entry in manifest.files.items() if name != "README.md"}
    return {"files": files, "strength": manifest.steering.strength}


def _records(path: Path) -> list[str]:
    lines = path.read_text().split("\n")[:-1]  # what is after the last is cut off by the next run
    records = [json.loads(line) for line in lines]
    return sorted(json.dumps({k: v for k, v in record.items() if k not in _TIMES}) for record in records)
