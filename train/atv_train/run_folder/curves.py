"""A run's metrics as a picture. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atv_local.data import replacing
from atv_local.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHARES = {"valid_accuracy": ("accuracy", 100), "valid_chrf": ("chrF", 1), "valid_exact": ("exactly right", 100)}
"""Label of each metric, and what makes it a percentage."""
_NAMED_TASKS = 8


def draw_curves(history: Sequence[dict[str, float]], path: Path) -> bool:
    """Loss by epoch, and beside it accuracy and chrF where they are measured, as a PNG at `path`; False where
    matplotlib is not installed.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    measured = [name for name in _SHARES if any(name in metrics for metrics in history)]
    figure = Figure(figsize=(9 if measured else 4.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
    epochs = [metrics["epoch"] for metrics in history]
    for name, label in (("loss", "training"), ("valid_loss", "validation")):
        if all(name in metrics for metrics in history):
            axes[0].plot(epochs, [metrics[name] for metrics in history], marker=".", label=label)
    axes[0].set(title="loss per answer token", xlabel="epoch", ylabel="nats", ylim=(0, None))
    axes[0].legend()
    if measured:
        _draw_shares(axes[1], history, measured)
    for panel in axes:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return True


def _draw_shares(axes: Axes, history: Sequence[dict[str, float]], measured: Sequence[str]) -> None:
    """In percent: each metric in black, and its tasks, where it has several, thin and in colour."""
    epochs = [metrics["epoch"] for metrics in history]
    for metric, style in zip(measured, ("-", "--", ":"), strict=False):
        label, factor = _SHARES[metric]
        tasks = [name for name in history[-1] if name.startswith(f"{metric}/")]
        for name in tasks if len(tasks) > 1 else ():
            values = [factor * metrics.get(name, float("nan")) for metrics in history]
            task = shorten(name.partition("/")[2]).replace("$", r"\$")
            named = f"{label}, {task}" if len(tasks) <= _NAMED_TASKS else None
            axes.plot(epochs, values, style, linewidth=0.8, alpha=0.6, label=named)
        values = [factor * metrics.get(metric, 0.0) for metrics in history]
        axes.plot(epochs, values, style, color="black", marker=".", label=f"{label}, mean" if len(tasks) > 1 else label)
    axes.legend(fontsize="small")
    axes.set(title="validation, percent", xlabel="epoch", ylim=(0, 102))
