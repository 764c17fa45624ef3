"""What resuming needs, on disk: weights, the optimizer's moments and where the run is, in one safetensors file.

One file, because one rename is all or nothing: a run killed at any moment continues from the last state that was
written, bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from atv_local.data import replacing
from atv_local.errors import BundleError, UsageError
from atv_train.trainer import State, Trainer

_PROGRESS, _WEIGHT, _MOMENT = "progress", "weight.", "moment."


def save(path: Path, trainer: Trainer) -> None:
    """Write the trainer's state, replacing an earlier one.

    Raises:
        UsageError: the file cannot be written.
    """
    tensors = {name: _plain(tensor) for name, tensor in (_weights(trainer) | _moments(trainer)).items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_PROGRESS: json.dumps(asdict(trainer.state))})
        except SafetensorError as error:  # its word for a full disk
            raise UsageError(f"cannot write {path}: {error}") from error


def restore(path: Path, trainer: Trainer) -> None:
    """Put a saved state into a trainer made with the same settings.

    Raises:
        BundleError: the file is missing, damaged, or of another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = TypeAdapter(State).validate_json((file.metadata() or {})[_PROGRESS])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # it is no mapping
        found = {name: tensor.shape for name, tensor in tensors.items()}
        if len(state.history) != state.epoch or not all("epoch" in metrics for metrics in state.history):
            raise BundleError(f"the state {path} is damaged: its history is not that of {state.epoch} epochs")
        if found != _shapes(trainer, moved=state.epoch + state.step > 0):
            raise BundleError(f"the state {path} is damaged, or of another generator than its run.json says")
        weights = {name.removeprefix(_WEIGHT): t for name, t in tensors.items() if name.startswith(_WEIGHT)}
        trainer.source.load_state_dict(weights, strict=False)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(_MOMENT):
                index, _, what = name.removeprefix(_MOMENT).partition(".")
                moments.setdefault(int(index), {})[what] = tensor
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        trainer.state = state
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"there is no state to resume from at {path}: {error.strerror or error}") from error
    except Exception as error:  # what the libraries raise depends on where the damage is
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise BundleError(f"the state {path} is damaged: {reason}") from error


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    """The trainable parameters; what is frozen comes from the backbone again."""
    named = trainer.source.named_parameters()
    return {_WEIGHT + name: parameter for name, parameter in named if parameter.requires_grad}


def _moments(trainer: Trainer) -> dict[str, Tensor]:
    state = trainer.optimizer.state_dict()["state"]
    return {f"{_MOMENT}{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def _shapes(trainer: Trainer, *, moved: bool) -> dict[str, torch.Size]:
    """What a state of this trainer must hold; moments exist from the first step on."""
    shapes = {name: tensor.shape for name, tensor in _weights(trainer).items()}
    parameters = [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters if moved else ()):
        shapes[f"{_MOMENT}{index}.step"] = torch.Size([])
        shapes |= {f"{_MOMENT}{index}.{name}": parameter.shape for name in ("exp_avg", "exp_avg_sq")}
    return shapes


def _plain(tensor: Tensor) -> Tensor:
    return torch.as_tensor(tensor).detach().cpu().contiguous()
