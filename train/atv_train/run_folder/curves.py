"""A run's metrics as a picture. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atv_local.data import replacing

_TASK = "valid_accuracy/"


def draw_curves(history: Sequence[dict[str, float]], path: Path) -> bool:
    """Loss and accuracy by epoch as a PNG at `path`; False where matplotlib is not installed.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    epochs = [metrics["epoch"] for metrics in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (("loss", "training"), ("valid_loss", "validation")):
        if all(name in metrics for metrics in history):
            left.plot(epochs, [metrics[name] for metrics in history], marker=".", label=label)
    left.set(title="loss per answer token", xlabel="epoch", ylabel="nats", ylim=(0, None))
    left.legend()
    tasks = sorted(name for name in history[-1] if name.startswith(_TASK))
    for name in tasks:
        values = [metrics.get(name, float("nan")) for metrics in history]
        short = name.removeprefix(_TASK).replace("$", r"\$") if len(tasks) <= 8 else None
        right.plot(epochs, values, linewidth=0.8, alpha=0.6, label=short)
    if "valid_accuracy" in history[-1]:
        values = [metrics["valid_accuracy"] for metrics in history]
        right.plot(epochs, values, color="black", marker=".", label="mean of tasks")
        right.legend(fontsize="small")
    right.set(title="validation accuracy", xlabel="epoch", ylim=(0, 1.02))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return True
