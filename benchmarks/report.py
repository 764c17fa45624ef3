"""docs/explanation/results.md from the measurements in benchmarks/results.

python -m benchmarks.report

Each table says how its file was made. Nothing in it is typed by hand: to change a figure, measure again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.json_lines import RESULTS, json_lines
from benchmarks.remeasure import PARTS
from benchmarks.report_budgets import budgets
from benchmarks.report_cells import picture
from benchmarks.report_corrections import corrections
from benchmarks.report_faults import faults
from benchmarks.report_formats import formats
from benchmarks.report_gate import gate, mixed
from benchmarks.report_generation import generation
from benchmarks.report_growth import conversation_growth, growth, row_growth, training_growth
from benchmarks.report_held_out import held_out
from benchmarks.report_label_rows import label_rows
from benchmarks.report_peers import peers
from benchmarks.report_rivals import paper
from benchmarks.report_serving import serving
from benchmarks.report_speed import latency, precision, speed, startup, throughput
from benchmarks.report_study import study, study_texts, sweeps
from benchmarks.report_text import structured, style
from benchmarks.report_told import few_rows, told

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "results.md"

COMMANDS = {
    "eval": (
        "The demo bundle",
        "All test rows of two of its three tasks, with SmolLM2-135M-Instruct Q4_1; styles are measured below. The\n"
        "prompt of `zero-shot` has an instruction and the labels or keys of an answer, `nearest` is the output of the\n"
        "most similar training row, `classifier` a logistic regression. Brackets contain 95 % intervals.",
    ),
    "eval-bm25": (
        "Against demonstrations",
        "The messages to a bank again. The prompts of `k-shot` and `bm25` have 16 demonstrations after instruction\n"
        "and labels: the same rows for every query, or the training rows that are most similar to it. Times are\n"
        "medians of 10 queries, each in all ways in turn from an empty cache; `nearest` and `classifier` need no\n"
        "target and are not timed.\n\n"
        + picture("accuracy-and-time", "Right answers and milliseconds to the first token of each method.")
        + "\n",
    ),
    "eval-bm25-json": (
        "Requests as JSON against demonstrations",
        "The demo bundle with its gate; `bm25` as above, from the 599 training rows.",
    ),
    "calibrate": (
        "Strength and layers",
        "The demo bundle. Its gate reads all validation rows; up to 30 of each task are answered, and the 40\n"
        "unrelated queries of `eval`.",
    ),
    "bench": (
        "What steering costs",
        "Ratios first, then medians; compared times are measured alternately, in one run.",
    ),
}
"""Title and text of what commands print."""
HEAD = """# Results

What was measured, from `benchmarks/results/`, which says of each new measurement when, on which code and on which
machine it was made. `make results-quick` measures the first two tables and the times to the first token again, on your
own machine, and compares; `make results` measures all (`python -m benchmarks.remeasure --help`).
`python -m benchmarks.task_recipe build --output FOLDER` knows the sources of 98 of the 111 tasks: it downloads them in
FOLDER, checks every row, and names the tasks that it could not have as they were measured on.
"""
SHAPES = f"""## What vectors look like

Vectors of 30 test queries of each task of the demo and of 30 unrelated ones, most of which its gate does not steer: the
norm at each layer (medians and quartiles), and the plane in which all of them vary most.
`python -m benchmarks.vector_shapes --output benchmarks/results/vector_shapes.jsonl`

{picture("norms", "Norms by layer: longer for JSON and labels than for a style, and longest in the last layers.")}

{picture("projection", "Two principal components: each task has its region, and unrelated queries lie between.")}
"""


def outputs() -> Iterator[str]:
    """What commands printed, as they printed it; `make results` runs them again."""
    commands = {part.file: part.shown for part in PARTS}
    for name, (title, text) in COMMANDS.items():
        path = RESULTS / f"{name}.md"
        if path.exists():
            printed = path.read_text().removeprefix("# Cost of steering\n\n")
            yield f"## {title}\n\n{text}\n`{commands[path.name]}`\n\n{printed}"
    for name, section in (("latency", latency), ("startup", startup), ("throughput", throughput)):
        found = json_lines(RESULTS / f"{name}.jsonl")
        if found:
            yield section(found[-1])


def main() -> None:
    """Write the page."""
    parts = [HEAD]
    served = serving(json_lines(RESULTS / "serving.jsonl"), json_lines(RESULTS / "load.jsonl"))
    texts = [style(json_lines(RESULTS / "style.jsonl")), structured(json_lines(RESULTS / "structured.jsonl"))]
    texts += [generation(json_lines(RESULTS / "generation.jsonl"))]
    texts += [told(json_lines(RESULTS / "told.jsonl")), held_out(json_lines(RESULTS / "held_out.jsonl"))]
    texts += [few_rows(json_lines(RESULTS / "few_rows.jsonl"))]
    texts += [corrections(json_lines(RESULTS / "corrections.jsonl"))]
    texts += [gate(json_lines(RESULTS / "gate.jsonl")), mixed(json_lines(RESULTS / "mixed_traffic.jsonl"))]
    choices = json_lines(RESULTS / "study.jsonl")
    found = [
        *outputs(),
        *texts,
        served,
        peers(json_lines(RESULTS / "peers.jsonl")),
        speed(json_lines(RESULTS / "training_speed.jsonl")),
        SHAPES,
        paper(json_lines(RESULTS / "rivals.jsonl")),
        formats(json_lines(RESULTS / "formats.jsonl")),
        budgets(json_lines(RESULTS / "budgets.jsonl")),
        label_rows(json_lines(RESULTS / "label_rows.jsonl")),
        study(choices),
        study_texts(json_lines(RESULTS / "study_texts.jsonl")),
        sweeps(choices),
        precision(json_lines(RESULTS / "precision.jsonl")),
        growth(json_lines(RESULTS / "growth.jsonl")),
        training_growth(json_lines(RESULTS / "training_growth.jsonl")),
        row_growth(json_lines(RESULTS / "row_growth.jsonl")),
        conversation_growth(json_lines(RESULTS / "conversation_growth.jsonl")),
        faults(json_lines(RESULTS / "faults.jsonl")),
    ]
    parts += [part for part in found if part]
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
