"""Pictures of what was measured, in docs/images/results: SVG files that can be read on light and on dark pages.

python -m benchmarks.pictures

Each is drawn from files in benchmarks/results alone, and names in its description a hash of what it shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

from atv_eval import mean_over_tasks
from benchmarks.json_lines import RESULTS, json_lines
from benchmarks.paper_tasks import N_POOL
from benchmarks.quotes import printed
from benchmarks.report_budgets import curves as budget_curves
from benchmarks.report_cells import Hits
from benchmarks.report_generation import text_hits
from benchmarks.report_label_rows import curves
from benchmarks.report_rivals import paper_hits
from benchmarks.vector_shapes import OTHER

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "results"
GREY = "#808080"
"""Of text and axes: it stands out on white and on black."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255")
"""Told apart by people who do not see all colours (Okabe and Ito)."""
STYLE: Any = {
    **{"svg.fonttype": "none", "svg.hashsalt": "atv-local", "font.size": 10, "font.family": "sans-serif"},
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    **{"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False},
    **{"axes.prop_cycle": cycler(color=COLOURS), "lines.linewidth": 1.8, "lines.markersize": 5},
}
OURS = ("task vectors by query", "steered")
"""Names of the method that others are compared with."""
Data = dict[str, Any]


def learning_curve() -> Data:
    """Right labels by training rows, from `benchmarks.label_rows`."""
    return curves(json_lines(RESULTS / "label_rows.jsonl"))


def draw_learning_curve(figure: Figure, data: Data) -> None:
    """Lines, rows on a logarithmic axis."""
    axes = figure.subplots()
    for what, points in data.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=what, linestyle="-" if what in OURS else "--")
    sizes = sorted({size for points in data.values() for size, _ in points})
    axes.set(xscale="log", xlabel="training rows of each of four tasks", ylabel="right answers, %", ylim=(0, 100))
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    axes.minorticks_off()
    axes.legend(loc="lower right")


def equal_budgets() -> Data:
    """Right labels and likelihood of texts by trained parameters, from `benchmarks.budgets`."""
    return budget_curves(json_lines(RESULTS / "budgets.jsonl"))


def draw_equal_budgets(figure: Figure, data: Data) -> None:
    """Labels on the left, texts on the right, parameters on a logarithmic axis."""
    left, right = figure.subplots(1, 2)
    for what, points in data.items():
        sizes, labels, likelihoods = zip(*points, strict=True)
        left.plot(sizes, labels, marker="o", label=what)
        right.plot(sizes, likelihoods, marker="o")
    for axes, measure in ((left, "right labels, %"), (right, "likelihood of wanted texts, %")):
        axes.set(xscale="log", xlabel="trained parameters", ylabel=measure, ylim=(0, 80))
        axes.set_xticks((1e4, 1e5, 1e6, 1e7), ("10k", "100k", "1M", "10M"), minor=False)
        axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=2)


def strength() -> Data:
    """Accuracy and harm at each strength, from `benchmarks.study`."""
    names = {"sweep-default": "default", "sweep-strengths": "--strength-range 0.5 2", "sweep-harmless": "--harmless 1"}
    return {
        names[record["name"]]: [
            (point["strength"], round(100 * point["accuracy"], 1), round(point["unrelated_kl"], 3))
            for point in record["sweep"]
        ]
        for record in json_lines(RESULTS / "study.jsonl")
        if record["name"] in names and record["rows"] == N_POOL
    }


def draw_strength(figure: Figure, data: Data) -> None:
    """What is won and what is lost, side by side."""
    left, right = figure.subplots(1, 2)
    for what, points in data.items():
        strengths, accuracies, harms = zip(*points, strict=True)
        left.plot(strengths, accuracies, marker="o", label=what)
        right.plot(strengths, harms, marker="o")
    left.set(xlabel="strength", ylabel="right answers, %", ylim=(0, 100))
    right.set(xlabel="strength", ylabel="change of unrelated answers, KL in nats", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=len(data))


def gate_roc() -> Data:
    """Shares steered at every threshold, of the demo's queries and of others, from `benchmarks.gate --demo`."""
    what = {
        "near": "near misses",
        "other": "other tasks",
        "general": "unrelated queries",
        "chat": "prompts to a chat model",
    }
    record = [record for record in json_lines(RESULTS / "gate.jsonl") if "scores" in record][-1]
    scores = {kind: np.array(values) for kind, values in record["scores"].items()}
    limits = np.unique(np.concatenate([*scores.values(), [0.0, 1.001]]))[::-1]

    def shares(values: np.ndarray[Any, Any], at: Any) -> list[float]:
        return [round(100 * float((values >= limit).mean()), 2) for limit in at]

    inside = shares(scores["tasks"], limits)
    return {
        name: {
            "curve": list(zip(shares(scores[kind], limits), inside, strict=True)),
            "chosen": (shares(scores[kind], [0.5])[0], shares(scores["tasks"], [0.5])[0]),
            "auroc": record["outside"][kind]["auroc"],
        }
        for kind, name in what.items()
    }


def draw_gate_roc(figure: Figure, data: Data) -> None:
    """A curve for each kind of other queries; a dot at the bundle's own threshold."""
    axes = figure.subplots()
    for what, found in data.items():
        (line,) = axes.step(
            *zip(*found["curve"], strict=True), where="post", label=f"{what}: AUROC {found['auroc']:.3f}"
        )
        axes.plot(*found["chosen"], marker="o", color=line.get_color())
    axes.set(xlabel="other queries that are steered, %", ylabel="queries of the tasks that are steered, %")
    axes.set(xlim=(0, 40), ylim=(60, 100.5))
    axes.legend(loc="lower right")


def norms() -> Data:
    """Norms by layer for each task, from `benchmarks.vector_shapes`."""
    tasks = json_lines(RESULTS / "vector_shapes.jsonl")[-1]["tasks"]
    return {task: found["norms"] for task, found in tasks.items()}


def draw_norms(figure: Figure, data: Data) -> None:
    """Medians, with the quartiles as bands."""
    axes = figure.subplots()
    for task, (low, median, high) in data.items():
        layers = range(1, len(median) + 1)
        (line,) = axes.plot(layers, median, label=task, linestyle="--" if task == OTHER else "-")
        axes.fill_between(layers, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="layer", ylabel="norm of the vector", ylim=(0, None))
    axes.legend(loc="upper left")


def projection() -> Data:
    """Vectors in the plane in which they vary most, from `benchmarks.vector_shapes`."""
    tasks = json_lines(RESULTS / "vector_shapes.jsonl")[-1]["tasks"]
    return {task: found["plane"] for task, found in tasks.items()}


def draw_projection(figure: Figure, data: Data) -> None:
    """A dot for each query."""
    axes = figure.subplots()
    for task, points in data.items():
        across, up = zip(*points, strict=True)
        axes.scatter(across, up, label=task, s=18, marker="x" if task == OTHER else "o")
    axes.set(xlabel="first principal component", ylabel="second")
    axes.legend()


def growth() -> Data:
    """Ratios by the size of the target, from `benchmarks.growth`."""
    rows = {"steered / base": "steered", "16-shot / steered": "16-shot"}
    found: Data = {name: [] for name in rows.values()}
    for record in json_lines(RESULTS / "growth.jsonl"):
        for ratio in record["ratios"]:
            if ratio["what"] in rows and ratio["size"] == 32:
                found[rows[ratio["what"]]].append((record["size"], round(ratio["median"], 3)))
    return found


def draw_growth(figure: Figure, data: Data) -> None:
    """Bars: how long the first token takes, in times of the base model's."""
    axes = figure.subplots()
    sizes = [size for size, _ in data["steered"]]
    steered = [value for _, value in data["steered"]]
    shots = [ours * value for ours, (_, value) in zip(steered, data["16-shot"], strict=True)]
    places = np.arange(len(sizes))
    for shift, (name, values) in zip((-0.2, 0.2), (("steered", steered), ("16 demonstrations", shots)), strict=True):
        bars = axes.bar(places + shift, values, 0.4, label=name)
        axes.bar_label(bars, fmt="%.2f", color=GREY)
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axes.set(xlabel="parameters of the target", ylabel="time to the first token, times the base model's")
    axes.set_xticks(places, sizes)
    figure.legend(loc="outside upper center", ncols=2)


def paper_tasks() -> Data:
    """The paper's measure on its 20 tasks under each method, from `benchmarks.rivals`."""
    return estimates(paper_hits(json_lines(RESULTS / "rivals.jsonl")))


def texts() -> Data:
    """The mean metric of 14 tasks with texts under each method, from `benchmarks.generation`."""
    return estimates(text_hits(json_lines(RESULTS / "generation.jsonl")))


def estimates(hits: dict[str, Hits]) -> Data:
    """The mean of the tasks under each method in percent, with its interval."""
    found = {what.strip("*"): mean_over_tasks(tasks) for what, tasks in hits.items()}
    return {what: [round(100 * x, 2) for x in (one.value, one.low, one.high)] for what, one in found.items()}


def draw_estimates(figure: Figure, data: Data) -> None:
    """A dot for each method with its interval, the best on top."""
    axes = figure.subplots()
    for place, (what, (value, low, high)) in enumerate(sorted(data.items(), key=lambda item: item[1][0])):
        colour = COLOURS[1] if what in OURS else COLOURS[0]
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3)
    names = sorted(data, key=lambda what: data[what][0])
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="mean of the tasks, %", xlim=(0, None))


def accuracy_and_time() -> Data:
    """Right answers and milliseconds to the first token, from `eval` on messages to a bank."""
    cells = printed("eval-bm25.md")
    names = {row for row, _ in cells}
    return {
        row.split(": ")[1]: (float(cells[row, "first token, ms"]), float(cells[row, "exact match, %"]))
        for row in sorted(names)
        if cells[row, "first token, ms"]
    }


def draw_accuracy_and_time(figure: Figure, data: Data) -> None:
    """A dot for each method, time on a logarithmic axis: the best are above on the left."""
    axes = figure.subplots()
    for what, (milliseconds, share) in data.items():
        axes.plot(milliseconds, share, marker="o", color=COLOURS[1] if what in OURS else COLOURS[0])
        axes.annotate(what, (milliseconds, share), xytext=(6, 4), textcoords="offset points", color=GREY)
    axes.set(xscale="log", xlabel="time to the first token, ms", ylabel="right answers, %", ylim=(-3, 105))
    ticks = (100, 200, 500, 1000, 2000)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.margins(x=0.2)


PICTURES: dict[str, tuple[str, Callable[[], Data], Callable[[Figure, Data], None]]] = {
    "learning-curve": ("Accuracy by the number of training rows.", learning_curve, draw_learning_curve),
    "budgets": ("Quality by the number of trained parameters.", equal_budgets, draw_equal_budgets),
    "strength": ("Accuracy and change of unrelated answers by strength.", strength, draw_strength),
    "gate-roc": ("Queries that are steered at every threshold of the gate.", gate_roc, draw_gate_roc),
    "paper-tasks": ("The paper's tasks under each method.", paper_tasks, draw_estimates),
    "accuracy-and-time": (
        "Right answers and time to the first token of each method.",
        accuracy_and_time,
        draw_accuracy_and_time,
    ),
    "texts": ("Tasks with texts under each method.", texts, draw_estimates),
    "norms": ("Norms of the demo's vectors by layer and task.", norms, draw_norms),
    "projection": ("The demo's vectors in the plane in which they vary most.", projection, draw_projection),
    "growth": ("Time to the first token by the size of the target.", growth, draw_growth),
}
"""By file: what a picture shows, its data, and how it is drawn."""


def digest(data: Data) -> str:
    """A hash of what a picture shows."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def drawn() -> Iterator[Path]:
    """Write all pictures; their paths."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (title, read, draw) in PICTURES.items():
        data, path = read(), FOLDER / f"{name}.svg"
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(7, 4), layout="constrained")
            draw(figure, data)
            metadata = {"Title": title, "Description": digest(data), "Date": None}
            figure.savefig(path, transparent=True, metadata=metadata)
        yield path


if __name__ == "__main__":
    for made in drawn():
        print(made)
