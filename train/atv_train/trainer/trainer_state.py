"""The progress of a training run, and the tensors needed to continue it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from atv_train.training_choices import EpochMeasure

TrainingMetrics = dict[str, float]
"""Measured after an epoch: `epoch`, `loss`, `seconds`, `valid_*` and `unrelated_*`."""

_WEIGHT, _MOMENT = "weight.", "moment."


@dataclass
class TrainerState:
    """`step` steps of `epoch` are done, with a summed loss of `loss`; `history` has the epochs before.

    `measure` decides which of them is the best, the last one if it is None.
    """

    epoch: Annotated[int, Field(ge=0)] = 0
    step: Annotated[int, Field(ge=0)] = 0
    loss: float = 0.0
    history: list[TrainingMetrics] = field(default_factory=list)
    measure: EpochMeasure | None = "valid_accuracy"

    @property
    def best(self) -> TrainingMetrics | None:
        """The best epoch by the measure; the latest if nothing is measured."""
        return max(self.history, key=self._quality) if self.history else None

    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.history) - 1 - self.history.index(self.best) if self.best else 0

    def _quality(self, metrics: TrainingMetrics) -> tuple[float, ...]:
        if self.measure is None or self.measure not in metrics:
            return (metrics["epoch"],)
        if self.measure == "valid_accuracy":
            return (metrics["valid_accuracy"], -metrics["valid_loss"])
        return (-metrics[self.measure],)


def state_tensors(source: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Trainable weights and the optimizer's moments, by name. Frozen weights come from the backbone again."""
    moments = optimizer.state_dict()["state"]
    named = {f"{_MOMENT}{index}.{name}": value for index, values in moments.items() for name, value in values.items()}
    return {**_weights(source), **named}


def load_state_tensors(tensors: dict[str, Tensor], source: nn.Module, optimizer: Optimizer, *, stepped: bool) -> None:
    """Put such tensors into a source and an optimizer made as those were; the optimizer has moments once it `stepped`.

    Raises:
        ValueError: other names or shapes.
    """
    if {name: tensor.shape for name, tensor in tensors.items()} != _shapes(source, optimizer, stepped=stepped):
        raise ValueError("its tensors are not those of this generator")
    weights = {name.removeprefix(_WEIGHT): t for name, t in tensors.items() if name.startswith(_WEIGHT)}
    source.load_state_dict(weights, strict=False)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_MOMENT):
            index, _, part = name.removeprefix(_MOMENT).partition(".")
            moments.setdefault(int(index), {})[part] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _weights(source: nn.Module) -> dict[str, Tensor]:
    return {_WEIGHT + name: parameter for name, parameter in source.named_parameters() if parameter.requires_grad}


def _shapes(source: nn.Module, optimizer: Optimizer, *, stepped: bool) -> dict[str, torch.Size]:
    shapes = {name: tensor.shape for name, tensor in _weights(source).items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters if stepped else ()):
        shapes[f"{_MOMENT}{index}.step"] = torch.Size([])
        shapes |= {f"{_MOMENT}{index}.{name}": parameter.shape for name in ("exp_avg", "exp_avg_sq")}
    return shapes
