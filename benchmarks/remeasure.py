"""Measure again what docs/explanation/results.md shows.

python -m benchmarks.remeasure [--quick] [--data FOLDER] [--run RUN] [--only NAME ...] [--to FOLDER]

Says first what will run and how long it takes. Results go to a folder of their own; a part that is complete is not run
again, and those that train many models go on where they were stopped. `--quick` runs what takes minutes and says which
of the published figures it finds again. `--data` is a folder of tasks with index.json, `--run` the run of the demo
bundle (`make demo-bundle`): without them the parts that need them are left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.json_lines import RESULTS
from benchmarks.published import compared

_EVAL = "-m atv_cli eval {} --shots-from data/demo/train --instructions data/demo/instructions.json --timed {}"
_BANK, _JSON = "data/demo/test/banking77_top10.jsonl", "data/demo/test/snips_json.jsonl"


@dataclass(frozen=True)
class Part:
    """A file and the commands that make it: with `.md` what they print, else what they append.

    Args:
        file: in benchmarks/results.
        commands: after `python`; `{data}`, `{run}` and `{work}` are folders, `{out}` is the file.
        minutes: on two cores, when it was timed; None for what takes longer than half an hour or was not.
        quick: whether readers can run it on their own machine.
        resumes: whether the commands skip what the file has already.
    """

    file: str
    commands: tuple[str, ...]
    minutes: float | None = None
    quick: bool = False
    resumes: bool = False

    @property
    def shown(self) -> str:
        """The command of our own program as one types it."""
        return self.commands[0].replace("-m atv_cli", "atv-local")

    @property
    def prints(self) -> bool:
        """Whether the file has what it prints."""
        return self.file.endswith(".md")

    def needs(self, folder: str) -> bool:
        """Whether it cannot run without this folder."""
        return any(f"{{{folder}}}" in command for command in self.commands)


def _appends(file: str, *options: str, **facts: Any) -> Part:
    """A part that the module of the same name makes, once with each of the options."""
    command = f"-m benchmarks.{file} --output {{out}}"
    return Part(f"{file}.jsonl", tuple(f"{command} {words}".strip() for words in options or ("",)), **facts)


_STUDY = "--data {data} --epochs"
PARTS = (
    Part(
        "eval.md",
        (
            f"{_EVAL.format(f'{_BANK} {_JSON}', 0)} --method base --method steered --method zero-shot "
            "--method nearest --method classifier",
        ),
        3,
        quick=True,
    ),
    Part("eval-bm25.md", (f"{_EVAL.format(_BANK, 10)} --no-harm",), 7, quick=True),
    Part(
        "eval-bm25-json.md",
        (
            f"{_EVAL.format(_JSON, 0)} --no-harm --method base --method steered --method zero-shot --method bm25 "
            "--method nearest",
        ),
    ),
    Part("calibrate.md", ("-m atv_cli calibrate data/demo/valid -g demo --rows 30 --dry-run",)),
    Part("bench.md", ("-m atv_cli bench",)),
    _appends("latency", minutes=1, quick=True),
    _appends("startup", minutes=1),
    _appends("structured", minutes=1, quick=True),
    _appends("conversation_growth"),
    _appends("vector_shapes", minutes=0.1),
    _appends("throughput"),
    _appends("serving"),
    _appends("load", minutes=31),
    _appends("mixed_traffic"),
    _appends("growth", "0.1B 0.5B -- --quick", "1B 3B -- --quick --only first-token,decode"),
    _appends("training_growth", minutes=3),
    _appends("row_growth", "", "--model default --rows 10000 --tasks"),
    _appends(
        "training_speed",
        "",
        "--task snips_json --loss 0.55",
    ),
    _appends("style"),
    _appends("precision", "--run {run}"),
    _appends("corrections", "--run {run}", resumes=True),
    _appends("gate", "--data {data} --demo", "--data {data} --work {work}/gate"),
    _appends("told", "--data {data} --bundle general"),
    _appends("few_rows", "--data {data} --work {work}/few-rows", resumes=True),
    _appends(
        "study",
        f"{_STUDY} 6",
        resumes=True,
    ),
    Part(
        "study_texts.jsonl",
        ("-m benchmarks.study --output {out} --texts --rows 100 --tests 30 --epochs 3 --data {data}",),
        resumes=True,
    ),
    _appends("generation", "--data {data} --work {work}/generation --lora-epochs 2 --in-pytorch", resumes=True),
    _appends("rivals", "--data {data}", resumes=True),
    _appends("budgets", "--data {data}", resumes=True),
    _appends("label_rows", "--data {data}", "--data {data} --method setfit --rows 16 64 256", resumes=True),
    _appends("formats", "--data {data}", resumes=True),
    _appends(
        "held_out",
        "--data {data}",
        *(f"--data {{data}} --tasks {tasks} --method static generator" for tasks in (7, 14, 28)),
        resumes=True,
    ),
    Part(
        "faults.jsonl",
        (
            *(f"-m benchmarks.faults {fault} --count 20 --output {{out}}" for fault in ("kill", "fill", "pair")),
            "-m benchmarks.mutations --ggufs 100 --templates 40 --bundles 40 --output {out}",
            "-m benchmarks.thread_stress --output {out}",
            "-m benchmarks.attack --requests 1000 --output {out}",
        ),
    ),
)


def estimate(parts: list[Part]) -> str:
    """What will run, with the minutes that are known."""
    lines = [
        f"{f'{part.minutes:.0f} min' if part.minutes is not None else 'not timed':>10}  {part.file}" for part in parts
    ]
    total = sum(part.minutes or 0 for part in parts)
    untimed = " and those not timed" if any(part.minutes is None for part in parts) else ""
    return "\n".join([*lines, f"{total:6.0f} min in all on two cores{untimed}; training in PyTorch is faster on a GPU"])


def measure(part: Part, folder: Path, data: Path | None, run: Path | None) -> None:
    """Run one part, unless it is there; what it makes has another name until it is complete."""
    made, partial = folder / part.file, folder / f"{part.file}.partial"
    if made.exists():
        print(f"{part.file} is there", flush=True)
        return
    started = time.monotonic()
    if not part.resumes:
        partial.unlink(missing_ok=True)
    for command in part.commands:
        words = command.format(data=data, run=run, work=folder, out=partial).split()
        print(f"{part.file}: python {' '.join(words)}", flush=True)
        with (partial if part.prints else Path(os.devnull)).open("w", encoding="utf-8") as file:
            subprocess.run([sys.executable, *words], stdout=file, check=True)
    partial.rename(made)
    print(f"{part.file}: {(time.monotonic() - started) / 60:.1f} min", flush=True)


def main() -> None:
    """Estimate, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only what takes minutes")
    parser.add_argument("--data", type=Path, help="folder of tasks with index.json")
    parser.add_argument("--run", type=Path, help="of the demo bundle")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="files, such as eval.md")
    parser.add_argument("--to", type=Path, default=Path("runs/results"), help="folder for what is measured")
    parser.add_argument("--estimate", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.only or ()) - {part.file for part in PARTS}:
        parser.error(f"{', '.join(sorted(unknown))}: the files are {', '.join(part.file for part in PARTS)}")
    wanted = [
        part for part in PARTS if (part.file in arguments.only if arguments.only else part.quick or not arguments.quick)
    ]
    missing = [folder for folder in ("data", "run") if getattr(arguments, folder) is None]
    parts = [part for part in wanted if not any(part.needs(folder) for folder in missing)]
    print(estimate(parts), flush=True)
    for folder in missing:
        if without := [part.file for part in wanted if part.needs(folder)]:
            print(f"without --{folder} these are left out: {', '.join(without)}", flush=True)
    if arguments.estimate:
        return
    arguments.to.mkdir(parents=True, exist_ok=True)
    for part in parts:
        try:
            measure(part, arguments.to, arguments.data, arguments.run)
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                f"{part.file}: ended with {error.returncode}; what was measured is in {arguments.to}"
            ) from error
    print(compared(arguments.to, RESULTS))
    print(f"To publish: copy what is in {arguments.to} to {RESULTS.name}, name those files that were measured with the")
    print("present code in python -m benchmarks.freshness measured FILE ..., then make docs.")


if __name__ == "__main__":
    main()
