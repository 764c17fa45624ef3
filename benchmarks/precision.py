"""What the precision of a graph costs and keeps: time of a query, exactness, and accuracy on the demo's tasks.

python -m benchmarks.precision --run FOLDER --output FILE.jsonl [--rows N] [--rounds 60]

FOLDER is a run of `make demo-bundle`. Its graphs are exported anew; times are of one query of 64 tokens on one thread,
all graphs in turn; exactness is against the float32 graph over the test queries; scores are of greedy answers by the
path of `atv-local run`, to all test rows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

import atv_local
from atv_eval.bench import in_turn, ratios, seconds, spread
from atv_eval.metrics import slot_f1, text_exact
from atv_export import export
from atv_local.data import Row, read_rows
from atv_local.generator import Bundle, Generator, Precision
from benchmarks.json_lines import append_lines

DATA = Path(__file__).parent.parent / "data" / "demo" / "test"
TASKS = {"banking77_top10": (text_exact, 16), "snips_json": (slot_f1, 96)}
"""The score of an answer, and its tokens at most."""
N_TOKENS = 64


def speed(generators: dict[str, Generator], text: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each, and the median of the float32 graph's time over its own in the same round."""
    times = in_turn({name: partial(seconds, partial(g, text)) for name, g in generators.items()}, rounds)
    return {
        name: {"ms": 1000 * spread(one).median, "times_fp32": spread(ratios(times["fp32"], one)).median}
        for name, one in times.items()
    }


def exactness(found: Generator, full: Generator, queries: list[str]) -> dict[str, float]:
    """As `atv_local.generator.manifest.Fidelity`: the smallest cosine of any layer, and errors in parts of the norm."""
    expected = [full(query).array.astype(np.float64) for query in queries]
    typical = float(np.median([np.linalg.norm(vector) for vector in expected]))
    cosines, errors = [], []
    for query, b in zip(queries, expected, strict=True):
        a = found(query).array.astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        if np.linalg.norm(b) >= typical / 2:
            cosines.append(float(((a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0))[norms > 0].min()))
        errors.append(float(np.linalg.norm(a - b)) / max(typical, float(np.linalg.norm(b))))
    return {"cosine": min(cosines), "error": statistics.median(errors), "largest_error": max(errors)}


def scores(bundle: Path, precision: Precision, rows: dict[str, list[Row]]) -> dict[str, float]:
    """The mean score of the answers to each task."""
    found = {}
    with atv_local.load(bundle=bundle, precision=precision) as engine:
        for task, of_task in rows.items():
            score, max_tokens = TASKS[task]
            answers = engine.answer_many([row.input for row in of_task], max_tokens=max_tokens)
            pairs = zip(answers, of_task, strict=True)
            found[task] = statistics.mean(score(answer.text, [row.output]) for answer, row in pairs)
    return found


def main() -> None:
    """Export, then measure every graph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=None, help="test rows per task, all by default")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, replaced")
    arguments = parser.parse_args()
    rows = {task: list(read_rows(DATA / f"{task}.jsonl").rows)[: arguments.rows] for task in TASKS}
    queries = [row.input for of_task in rows.values() for row in of_task]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "bundle"
        report = export(arguments.run, folder, precisions=get_args(Precision))
        bundle = Bundle(folder)
        generators: dict[str, Generator] = {p: Generator(bundle, precision=p) for p in bundle.graphs}
        text = " ".join(["word"] * (N_TOKENS - 2))  # and the two tokens around it
        times = speed(generators, text, arguments.rounds)
        lines = []
        for precision, name in bundle.graphs.items():
            found = exactness(generators[precision], generators["fp32"], queries)
            line: dict[str, object] = {
                "precision": precision,
                "bytes": bundle.manifest.files[name].size,
                "queries": len(queries),
            }
            line |= {
                "float_matrices": report.float_matrices if precision == "int8" else None,
                **times[precision],
                **found,
            }
            lines.append(line | {"scores": scores(folder, precision, rows)})
            print(lines[-1], flush=True)
    arguments.output.unlink(missing_ok=True)
    append_lines(arguments.output, lines)


if __name__ == "__main__":
    main()
