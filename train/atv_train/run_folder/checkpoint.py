"""A trained generator on disk: config.json, weights as safetensors, the backbone's config and tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from atv_local.data import reading, replacing, replacing_folder
from atv_local.errors import BundleError, UsageError, first_line, first_problem
from atv_local.generator import GATE, GATED_VERSION, MAX_METRICS, STATIC, TOLD_VERSION, Spec
from atv_train.gate_fit import FittedGate
from atv_train.hub_models import first_sentence
from atv_train.run_folder.run_record import CHECKPOINT
from atv_train.vector_sources import GeneratorModule, backbone_from_config, load_saved_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CONFIG = "config.json"
WEIGHTS = "generator.safetensors"
BACKBONE = "backbone"

_COUNTS = re.compile(r"(n|num|encoder|decoder)_(\w+_)?(layers?|blocks?|experts?|groups?)|depths?")
_MAX_BUFFERS = 1 << 30


def save_checkpoint(
    folder: Path,
    spec: Spec,
    generator: GeneratorModule,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Write the checkpoint whole or not at all; an earlier checkpoint at `folder` is replaced.

    Raises:
        UsageError: the folder cannot be written or holds something else.
    """
    with replacing_folder(folder, marker=CONFIG, overwrite=True) as temporary:
        (temporary / CONFIG).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
        try:
            save_file(state, temporary / WEIGHTS)
            generator.backbone.config.save_pretrained(temporary / BACKBONE)
            tokenizer.save_pretrained(temporary / BACKBONE)
        except OSError:
            raise
        except Exception as error:  # safetensors and tokenizers raise their own, on a full disk for one
            raise UsageError(f"cannot write {folder}: {first_line(error)}") from error


def save_gate(folder: Path, gate: FittedGate) -> None:
    """Add a gate to the checkpoint of a run, and what was measured of it.

    Raises:
        UsageError: it cannot be written.
    """
    provenance = read_spec(folder).provenance
    measured = dict(islice({**gate.metrics, **provenance.metrics}.items(), MAX_METRICS))
    changes: dict[str, object] = {"gate": gate.spec, "provenance": provenance.model_copy(update={"metrics": measured})}
    _add_part(folder, GATE, gate.prototypes.astype("<f2").tobytes(), GATED_VERSION, changes)


def save_static(folder: Path, values: bytes) -> None:
    """Add a static vector to the checkpoint of a run.

    Args:
        values: float32 [n_vectors * n_rows, n_embd], little-endian.

    Raises:
        UsageError: it cannot be written.
    """
    _add_part(folder, STATIC, values, TOLD_VERSION, {"static": True})


def _add_part(run: Path, name: str, content: bytes, version: int, changes: dict[str, object]) -> None:
    """Write a file into the checkpoint of a run, then what config.json says of it, in this format version or later."""
    spec, folder = read_spec(run), run / CHECKPOINT
    spec = spec.model_copy(update={"format_version": max(spec.format_version, version), **changes})
    with replacing(folder / name) as temporary:
        temporary.write_bytes(content)
    with replacing(folder / CONFIG) as temporary:
        temporary.write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_part(folder: Path, name: str) -> bytes:
    """A file of a checkpoint beside its weights: the prototypes of its gate, or its static vector.

    Raises:
        BundleError: it cannot be read.
    """
    file = folder / CHECKPOINT / name if (folder / CHECKPOINT).is_dir() else folder / name
    with reading(file, BundleError):
        return file.read_bytes()


def read_spec(folder: Path) -> Spec:
    """What a run's checkpoint says of itself.

    Raises:
        BundleError: missing or damaged.
    """
    file = folder / CHECKPOINT / CONFIG
    try:
        with reading(file, BundleError):
            return Spec.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{file} is damaged: {first_problem(error)}") from error


def load_checkpoint(folder: Path) -> tuple[Spec, GeneratorModule, PreTrainedTokenizerFast]:
    """The generator as it was saved, on the CPU in float32, in evaluation mode.

    Args:
        folder: a checkpoint, or the run that it belongs to.

    Raises:
        BundleError: a file is missing, damaged, or of another shape than config.json says.
    """
    if (folder / CHECKPOINT).is_dir():
        folder = folder / CHECKPOINT
    try:
        spec = Spec.model_validate_json((folder / CONFIG).read_bytes())
        _check_sizes(folder, spec)
        generator = _empty_generator(folder, spec)
        generator.load_state_dict(load_file(folder / WEIGHTS))
        return spec, generator.eval(), load_saved_tokenizer(folder / BACKBONE)
    except OSError as error:
        reason = f"{error.strerror}: {Path(error.filename).name}" if error.filename else first_sentence(error)
        raise BundleError(
            f"{folder} is not a checkpoint of a training run: {reason}; name the folder of a run"
        ) from error
    except Exception as error:  # the libraries raise various errors, depending on the damage
        raise BundleError(f"the checkpoint {folder} is damaged: {first_sentence(error)}") from error


def _empty_generator(folder: Path, spec: Spec) -> GeneratorModule:
    """A generator of the shape that a checkpoint describes, without its weights."""
    return generator_of_spec(backbone_from_config(folder / BACKBONE), spec)


def generator_of_spec(backbone: PreTrainedModel, spec: Spec) -> GeneratorModule:
    """A generator of the shape that a spec describes, with this backbone."""
    return GeneratorModule(
        backbone,
        spec.target.n_layer - 1,
        spec.target.n_embd,
        spec.generator.pooling,
        spec.injection.scale,
        spec.generator.rank,
        spec.injection.layers,
        spec.injection.n_vectors,
    )


def _part_counts(config: object, name: str = "") -> Iterator[tuple[str, int]]:
    """Each number of parts, such as layers, that a config asks for at any depth."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from _part_counts(value, str(key))
    elif isinstance(config, list):
        for value in config:
            yield from _part_counts(value, name)
    elif isinstance(config, int) and _COUNTS.fullmatch(name):
        yield name, config


def _check_sizes(folder: Path, spec: Spec) -> None:
    """Raise ValueError unless the weights have the shapes that the configs ask for, before anything is allocated."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
    config = json.loads((folder / BACKBONE / "config.json").read_bytes())
    for name, value in _part_counts(config):  # each is a loop, even where nothing is allocated
        if value > len(shapes):
            raise ValueError(f"a backbone with {name} {value}, and {len(shapes)} tensors")
    with torch.device("meta"):
        built = _empty_generator(folder, spec)
    if (size := sum(buffer.numel() * buffer.element_size() for buffer in built.buffers())) > _MAX_BUFFERS:
        raise ValueError(f"a backbone with {size} bytes beside its weights")
    wanted = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    for name in wanted.keys() | shapes.keys():
        if wanted.get(name) != shapes.get(name):
            raise ValueError(f"{name} has shape {shapes.get(name)}, not {wanted.get(name)}")
