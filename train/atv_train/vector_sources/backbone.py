"""Finding and loading the small language model that reads the query."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    ByT5Tokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from atv_local.errors import ModelError, UsageError
from atv_train.hub_models import HUB_DEFAULT, cannot_load, check_present, default_backbone, source_of
from atv_train.pretrained import SAFE_LOADING, check_config
from atv_train.vector_sources.byte_tokenizer import byte_tokenizer

DEFAULT_QUERY_TOKENS = 256
_WITH_DECODER = ("t5", "mt5", "umt5")
"""Model types that AutoModel loads with a decoder; ByT5 is one of them."""
logging.set_verbosity_error()  # it would warn of a missing pooler, which we leave out


def backbone_name(name: str) -> str:
    """The name of a backbone in a manifest: its hub id, or its folder's name without the path."""
    if name == default_backbone():
        return HUB_DEFAULT
    return Path(name).name if Path(name).is_dir() else name


def load_backbone(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Backbone in float32 and its tokenizer, from a folder or a hub id.

    Raises:
        NotFoundError: a path where there is nothing.
        UsageError: a file.
        ModelError: neither a folder with a model nor a hub id that can be reached.
    """
    check_present(name, "backbone")
    try:
        check_config(name)
        config = AutoConfig.from_pretrained(source_of(name), trust_remote_code=False)
        model = _kind(config).from_pretrained(source_of(name), dtype=torch.float32, **SAFE_LOADING)
        return _read_part(model), load_tokenizer(name)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise cannot_load(name, "backbone", error) from error


def backbone_from_config(folder: Path) -> PreTrainedModel:
    """The architecture of a saved backbone, its weights not loaded."""
    check_config(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return _read_part(_kind(config).from_config(config, trust_remote_code=False))


def _kind(config: PretrainedConfig) -> type[AutoModel | AutoModelForTextEncoding]:
    return AutoModelForTextEncoding if config.model_type in _WITH_DECODER else AutoModel


def _read_part(model: PreTrainedModel) -> PreTrainedModel:
    """What reads the query: of T5 the encoder alone."""
    if model.config.model_type not in _WITH_DECODER:
        return without_pooler(model)
    encoder = model.encoder
    assert isinstance(encoder, PreTrainedModel)
    return encoder


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """The model without the layer on top that BERT and similar models have; nothing reads its output."""
    if getattr(model, "pooler", None) is not None:
        setattr(model, "pooler", None)  # noqa: B010  # its type does not admit what its code does
    return model


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerFast:
    """The backbone's fast tokenizer, whose tokenizer.json the runtime reads.

    It pads on the right, which pooling relies on, and truncates on the right, as the runtime does.

    Raises:
        ModelError: there is no fast one, or its configuration has code loaded.
    """
    with suppress(OSError):  # it may come without the model's configuration
        check_config(name)
    tokenizer = AutoTokenizer.from_pretrained(
        source_of(str(name)), use_fast=True, padding_side="right", truncation_side="right", trust_remote_code=False
    )
    if isinstance(tokenizer, ByT5Tokenizer):
        return byte_tokenizer()
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {name} has no fast version, which the runtime needs; choose another backbone"
        )
    tokenizer.chat_template = None  # not needed, and saved under the names that it came with (CVE-2026-9856)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_saved_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint, whatever class transformers 4 or 5 saved it as."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder), padding_side="right", truncation_side="right")


def vocabulary_size(backbone: PreTrainedModel) -> int:
    """Number of tokens with an embedding."""
    embeddings = backbone.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    return embeddings.num_embeddings


def position_limit(backbone: PreTrainedModel) -> int | None:
    """Most tokens that the backbone has positions for; None if there is no limit."""
    limit: int | None = getattr(backbone.config, "max_position_embeddings", None)
    if limit is None:
        return None
    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return limit - int(module.padding_idx) - 1  # RoBERTa and others count from behind the padding's position
    return limit


def query_limit(backbone: PreTrainedModel, wanted: int | None = None) -> int:
    """Number of query tokens to read: `wanted`, by default 256, or fewer if the backbone's positions end before.

    Raises:
        UsageError: more are wanted than the backbone has positions for.
    """
    limit = position_limit(backbone)
    if wanted is not None and limit is not None and wanted > limit:
        raise UsageError(f"`max_query_tokens` {wanted} is above {limit}, which is all that this backbone reads")
    return wanted or min(DEFAULT_QUERY_TOKENS, limit or DEFAULT_QUERY_TOKENS)
