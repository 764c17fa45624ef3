"""Pictures as PNG files: vectors of queries, and the scores of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from atv_cli.screen.describe_file import cosines
from atv_local.data import replacing
from atv_local.text import shorten
from atv_local.vectors import TaskVector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from atv_eval import EvalResult

mpl.use("Agg")  # no display is needed
from matplotlib import pyplot as plt  # reads the backend when it is imported


def draw_vectors(queries: Sequence[str], vectors: Sequence[TaskVector], path: Path) -> None:
    """Write norms by layer and cosines between queries to `path`.

    Raises:
        UsageError: it cannot be written.
    """
    labels = [shorten(query) for query in queries]
    with plt.rc_context({"text.parse_math": False}):  # a $ in a query is a $
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
        for label, vector in zip(labels, vectors, strict=True):
            left.plot(range(1, vector.n_rows + 1), vector.norms(), label=label, linewidth=1)
        left.set(xlabel="layer", ylabel="norm", title="Task vectors by layer", ylim=(0, None))
        if len(labels) <= 12:
            left.legend(fontsize="small")
        image = right.imshow(cosines(vectors), vmin=-1, vmax=1, cmap="RdBu_r")
        right.set(title="Cosine between the queries' vectors")
        right.set_xticks([])
        right.set_yticks(range(len(labels)), labels if len(labels) <= 40 else [""] * len(labels), fontsize="small")
        figure.colorbar(image, ax=right)
        _save(figure, path)


def draw_scores(result: EvalResult, path: Path) -> None:
    """Write bars of each task's main metric by method, with their intervals, to `path`.

    Raises:
        UsageError: it cannot be written.
    """
    tasks = list(dict.fromkeys(score.task for score in result.scores))
    methods = list(dict.fromkeys(score.method for score in result.scores))
    height = 0.8 / len(methods)
    with plt.rc_context({"text.parse_math": False}):
        size = 1.5 + 0.28 * len(tasks) * (len(methods) + 1)
        figure, axes = plt.subplots(figsize=(8, min(size, 40)), layout="constrained")
        for number, method in enumerate(methods):
            scores = [score for score in result.scores if score.method == method]
            places = [tasks.index(score.task) + number * height for score in scores]
            estimates = [score.main for score in scores]
            reach = [
                [100 * (e.value - e.low) for e in estimates],
                [100 * (e.high - e.value) for e in estimates],
            ]
            values = [100 * e.value for e in estimates]
            axes.barh(places, values, height, xerr=reach, label=str(method), error_kw={"linewidth": 1})
        axes.set_yticks([place + 0.4 - height / 2 for place in range(len(tasks))], tasks)
        axes.invert_yaxis()
        metrics = {score.metric for score in result.scores}
        metric = metrics.pop() if len(metrics) == 1 else None
        name = metric.heading if metric else "main metric"
        axes.set(xlabel=f"{name}, %, with 95 % intervals", xlim=(0, 100))
        axes.legend(fontsize="small")
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=120, format="png", metadata={"Software": "atv-local"})
    finally:
        plt.close(figure)
