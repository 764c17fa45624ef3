"""The vectors of some queries as a PNG: norms by layer, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from atv_cli.facts import likeness
from atv_cli.queries import shorten
from atv_local.files import replacing
from atv_local.vectors import TaskVector

mpl.use("Agg")  # no display is needed
from matplotlib import pyplot as plt  # reads the backend when it is imported


def draw(queries: Sequence[str], vectors: Sequence[TaskVector], path: Path) -> None:
    """Write the picture to `path`.

    Raises:
        UsageError: it cannot be written.
    """
    labels = [shorten(query) for query in queries]
    with plt.rc_context({"text.parse_math": False}):  # a $ in a query is a $
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
        for label, vector in zip(labels, vectors, strict=True):
            left.plot(range(1, vector.n_rows + 1), vector.norms(), label=label, linewidth=1)
        left.set(xlabel="layer", ylabel="norm of the row", title="Task vectors by layer", ylim=(0, None))
        if len(labels) <= 12:
            left.legend(fontsize="small")
        image = right.imshow(likeness(vectors), vmin=-1, vmax=1, cmap="RdBu_r")
        right.set(title="Cosine between the queries' vectors")
        right.set_xticks([])
        right.set_yticks(range(len(labels)), labels if len(labels) <= 40 else [""] * len(labels), fontsize="small")
        figure.colorbar(image, ax=right)
        try:
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=120, format="png")
        finally:
            plt.close(figure)
