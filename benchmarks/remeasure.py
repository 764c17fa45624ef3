"""Measure again what docs/explanation/results.md shows.

python -m benchmarks.remeasure [--quick] [--data FOLDER] [--run RUN] [--only NAME ...] [--to FOLDER]

Says first what will run and how long each part took when it was measured last. Results go to a folder of their own; a
part that is there is not run again. `--quick` runs what takes minutes and says which of the published figures it finds
again, within their intervals. `--data` is a folder of tasks with index.json, `--run` the run of the demo bundle
(`make demo-bundle`): without them the parts that need them are left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.json_lines import RESULTS
from benchmarks.published import compared

_EVAL = "-m atv_cli eval {} --shots-from data/demo/train --instructions data/demo/instructions.json --timed {}"
_BANK, _JSON = "data/demo/test/banking77_top10.jsonl", "data/demo/test/snips_json.jsonl"


@dataclass(frozen=True)
class Part:
    """One command and the file that it makes: with `.md` what it prints, else what it appends.

    Args:
        file: in benchmarks/results.
        command: after `python`; `{data}`, `{run}` and `{work}` are folders.
        minutes: on two cores, when it was timed; None for what takes longer than half an hour or was not.
        quick: whether readers can run it on their own machine.
    """

    file: str
    command: str
    minutes: float | None = None
    quick: bool = False

    @property
    def shown(self) -> str:
        """A command of our own program as one types it."""
        return self.command.replace("-m atv_cli", "atv-local")

    @property
    def prints(self) -> bool:
        """Whether the file has what it prints."""
        return self.file.endswith(".md")

    def possible(self, data: Path | None, run: Path | None) -> bool:
        """Whether what it needs is given."""
        return ("{data}" not in self.command or data is not None) and ("{run}" not in self.command or run is not None)


PARTS = (
    Part(
        "eval.md",
        f"{_EVAL.format(f'{_BANK} {_JSON}', 0)} --method base --method steered --method zero-shot --method nearest "
        "--method classifier",
        4,
        quick=True,
    ),
    Part("eval-bm25.md", f"{_EVAL.format(_BANK, 10)} --no-harm", 6, quick=True),
    Part(
        "eval-bm25-json.md",
        f"{_EVAL.format(_JSON, 0)} --no-harm --method base --method steered --method zero-shot --method bm25 "
        "--method nearest",
        10,
    ),
    Part("calibrate.md", "-m atv_cli calibrate data/demo/valid -g demo --rows 30 --dry-run"),
    Part("bench.md", "-m atv_cli bench", 4),
    Part("latency.jsonl", "-m benchmarks.latency", 1, quick=True),
    Part("startup.jsonl", "-m benchmarks.startup", 1, quick=True),
    Part("structured.jsonl", "-m benchmarks.structured", 2, quick=True),
    Part("conversation_growth.jsonl", "-m benchmarks.conversation_growth", 2, quick=True),
    Part("vector_shapes.jsonl", "-m benchmarks.vector_shapes"),
    Part("throughput.jsonl", "-m benchmarks.throughput"),
    Part("serving.jsonl", "-m benchmarks.serving"),
    Part("load.jsonl", "-m benchmarks.load", 31),
    Part("mixed_traffic.jsonl", "-m benchmarks.mixed_traffic"),
    Part("growth.jsonl", "-m benchmarks.growth 0.1B 0.5B -- --quick"),
    Part("training_growth.jsonl", "-m benchmarks.training_growth", 3),
    Part("row_growth.jsonl", "-m benchmarks.row_growth"),
    Part("training_speed.jsonl", "-m benchmarks.training_speed"),
    Part("style.jsonl", "-m benchmarks.style"),
    Part("precision.jsonl", "-m benchmarks.precision --run {run}"),
    Part("corrections.jsonl", "-m benchmarks.corrections --run {run}"),
    Part("gate.jsonl", "-m benchmarks.gate --data {data} --demo", 0.5),
    Part("told.jsonl", "-m benchmarks.told --data {data} --bundle general"),
    Part("few_rows.jsonl", "-m benchmarks.few_rows --data {data} --work {work}/few-rows"),
    Part("study.jsonl", "-m benchmarks.study --data {data} --epochs 6"),
    Part(
        "study_texts.jsonl",
        "-m benchmarks.study --texts --rows 100 --tests 30 --epochs 3 --data {data}",
    ),
    Part(
        "generation.jsonl",
        "-m benchmarks.generation --data {data} --work {work}/generation --lora-epochs 2 --in-pytorch",
    ),
    Part("rivals.jsonl", "-m benchmarks.rivals --data {data} --part paper"),
    Part("held_out.jsonl", "-m benchmarks.held_out --data {data}"),
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
    words = part.command.format(data=data, run=run, work=folder).split()
    started = time.monotonic()
    print(f"{part.file}: python {' '.join(words)}", flush=True)
    if part.prints:
        with partial.open("w", encoding="utf-8") as file:
            subprocess.run([sys.executable, *words], stdout=file, check=True)
    else:  # it skips what it has appended already
        subprocess.run([sys.executable, *words, "--output", str(partial)], stdout=subprocess.DEVNULL, check=True)
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
    parts = [
        part
        for part in PARTS
        if (part.file in arguments.only if arguments.only else part.quick or not arguments.quick)
        and part.possible(arguments.data, arguments.run)
    ]
    print(estimate(parts), flush=True)
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
    print(f"To publish: copy what is in {arguments.to} to {RESULTS.name}, then make docs.")


if __name__ == "__main__":
    main()
