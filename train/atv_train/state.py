"""What resuming needs, on disk: weights, the optimizer's moments and where the run is. Safetensors and JSON.

Written whole or not at all; a run killed at any moment continues from the last one written, bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from atv_local.errors import BundleError, UsageError
from atv_local.files import replacing_folder
from atv_train.trainer import State, Trainer

_PROGRESS, _WEIGHTS, _MOMENTS = "progress.json", "weights.safetensors", "moments.safetensors"


def save(folder: Path, trainer: Trainer) -> None:
    """Write the trainer's state, replacing an earlier one.

    Raises:
        UsageError: the folder cannot be written.
    """
    with replacing_folder(folder, marker=_PROGRESS) as temporary:
        try:
            save_file(_weights(trainer), temporary / _WEIGHTS)
            save_file(_moments(trainer), temporary / _MOMENTS)
        except SafetensorError as error:  # its word for a full disk
            raise UsageError(f"cannot write {folder}: {error}") from error
        (temporary / _PROGRESS).write_text(json.dumps(asdict(trainer.state)) + "\n", encoding="utf-8")


def restore(folder: Path, trainer: Trainer) -> None:
    """Put a saved state into a trainer made with the same settings.

    Raises:
        BundleError: a file is missing, damaged, or of another run.
    """
    try:
        state = TypeAdapter(State).validate_json((folder / _PROGRESS).read_bytes())
        weights, moments = load_file(folder / _WEIGHTS), load_file(folder / _MOMENTS)
        if weights.keys() != _weights(trainer).keys():
            raise BundleError(f"{folder} belongs to another kind of run")
        trainer.source.load_state_dict(weights, strict=False)
        saved: dict[int, dict[str, Tensor]] = {}
        for name, tensor in moments.items():
            index, _, what = name.partition(".")
            saved.setdefault(int(index), {})[what] = tensor
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": saved, "param_groups": groups})
        trainer.state = state
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{folder} has no state to resume from: {error.strerror or error}") from error
    except Exception as error:  # what the libraries raise depends on where the damage is
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise BundleError(f"the state {folder} is damaged: {reason}") from error


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    """The trainable parameters; what is frozen comes from the backbone again."""
    named = trainer.source.named_parameters()
    return {name: _plain(parameter) for name, parameter in named if parameter.requires_grad}


def _moments(trainer: Trainer) -> dict[str, Tensor]:
    state = trainer.optimizer.state_dict()["state"]
    return {f"{index}.{name}": _plain(value) for index, values in state.items() for name, value in values.items()}


def _plain(tensor: Tensor) -> Tensor:
    return torch.as_tensor(tensor).detach().cpu().contiguous()
