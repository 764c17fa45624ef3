"""A trained generator on disk: config.json, weights as safetensors, the backbone's config and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from atv_local.errors import BundleError, UsageError
from atv_local.files import replacing_folder
from atv_local.manifest import Spec
from atv_train.backbone import backbone_from_config, load_tokenizer
from atv_train.generator import Generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FOLDER = "checkpoint"
"""Where the checkpoint is in the folder of a run."""
CONFIG = "config.json"
WEIGHTS = "generator.safetensors"
BACKBONE = "backbone"


def save(
    folder: Path,
    spec: Spec,
    generator: Generator,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Write the checkpoint whole or not at all; an earlier checkpoint at `folder` is replaced.

    Raises:
        UsageError: the folder cannot be written or holds something else.
    """
    with replacing_folder(folder, marker=CONFIG) as temporary:
        (temporary / CONFIG).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
        try:
            save_file(state, temporary / WEIGHTS)
        except SafetensorError as error:  # its word for a full disk
            raise UsageError(f"cannot write {folder}: {error}") from error
        generator.backbone.config.save_pretrained(temporary / BACKBONE)
        tokenizer.save_pretrained(temporary / BACKBONE)


def load(folder: Path) -> tuple[Spec, Generator, PreTrainedTokenizerFast]:
    """The generator as it was saved, on the CPU in float32, in evaluation mode.

    Args:
        folder: a checkpoint, or the run that it belongs to.

    Raises:
        BundleError: a file is missing, damaged, or of another shape than config.json says.
    """
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    try:
        spec = Spec.model_validate_json((folder / CONFIG).read_bytes())
        generator = Generator(
            backbone_from_config(folder / BACKBONE),
            spec.target.n_layer - 1,
            spec.target.n_embd,
            spec.generator.pooling,
            spec.injection.scale,
            spec.generator.rank,
            spec.injection.layers,
        )
        generator.load_state_dict(load_file(folder / WEIGHTS))
        return spec, generator.eval(), load_tokenizer(folder / BACKBONE)
    except OSError as error:
        raise BundleError(f"{folder} is not a checkpoint of `atv-local train`: {error}") from error
    except Exception as error:  # what the libraries raise depends on where the damage is
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise BundleError(f"the checkpoint {folder} is damaged: {reason}") from error
