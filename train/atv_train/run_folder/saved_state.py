"""A trainer's state on disk: progress, weights and the optimizer's moments in one safetensors file.

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

from atv_local.data import replacing
from atv_local.errors import BundleError, UsageError, first_line
from atv_train.trainer import Trainer, TrainerState

_PROGRESS = "progress"


def save_state(path: Path, trainer: Trainer) -> None:
    """Write the trainer's state, replacing an earlier one.

    Raises:
        UsageError: the file cannot be written.
    """
    tensors = {name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in trainer.tensors().items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_PROGRESS: json.dumps(asdict(trainer.state))})
        except SafetensorError as error:  # a full disk, for one
            raise UsageError(f"cannot write {path}: {error}") from error


def restore_state(path: Path, trainer: Trainer) -> None:
    """Put a saved state into a trainer made with the same settings.

    Raises:
        BundleError: the file is missing, damaged, or of another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = TypeAdapter(TrainerState).validate_json((file.metadata() or {})[_PROGRESS])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # not a mapping
        if len(state.history) != state.epoch or not all("epoch" in metrics for metrics in state.history):
            raise ValueError(f"its history is not that of {state.epoch} epochs")
        trainer.restore(state, tensors)
    except OSError as error:
        raise BundleError(f"there is no state to resume from at {path}: {error.strerror or error}") from error
    except Exception as error:  # the libraries raise various errors, depending on the damage
        reason = first_line(error)
        raise BundleError(f"the state {path} is damaged: {reason}") from error
