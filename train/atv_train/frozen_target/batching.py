"""Whether a model gives the same logits in training's batches, after cached prefixes, as for each row alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from atv_local.errors import DataError, ModelError
from atv_local.vectors import Positions
from atv_train.examples import Example
from atv_train.frozen_target.frozen_target import FrozenTarget
from atv_train.frozen_target.prefix_cache import PrefixCache
from atv_train.hub_models import first_sentence

MIN_COSINE = 0.98
"""The smallest cosine between logits in a batch and alone that passes; bfloat16 makes them differ."""


@torch.no_grad()
def supports_split_attention(model: PreTrainedModel, positions: Positions, examples: Sequence[Example]) -> bool:
    """Whether batches may go through `attention.py`, or else through the model's own attention and cache.

    Raises:
        ModelError: the architecture gives other logits in a batch either way.
        DataError: rows longer than a sliding window of the target's attention.
    """
    _check_window(model, positions, examples)
    pair = [min(examples, key=lambda e: len(e.prompt)), max(examples[:64], key=lambda e: len(e.prompt))]
    problem = ""
    for split in (True, False):
        if not (problem := _difference(model, positions, pair, split=split)):
            return split
    if not positions.prefix and not _difference(model, Positions.ALL, pair, split=False):
        raise ModelError(
            f"{type(model).__name__} cannot continue from a cached part of a prompt, which training with `positions="
            f"{positions}` does; train with `positions=all`"
        )
    raise ModelError(f"{type(model).__name__} cannot be trained through with positions {positions}: {problem}")


def _difference(model: PreTrainedModel, positions: Positions, pair: Sequence[Example], *, split: bool) -> str:
    """How logits of two rows in a batch differ from those of each alone, as a reason; empty if they do not."""
    target = FrozenTarget(model, positions, PrefixCache(1 << 62), split_attention=split)
    try:
        alone = [target.base_logits(example) for example in pair]
        target.cache_prefixes(pair)
        together, _ = target.answer_logits(pair, target.zeros(len(pair)))
    except (AssertionError, AttributeError, TypeError, RuntimeError, ValueError, LookupError) as error:
        return first_sentence(error)
    cosine = torch.cosine_similarity(together, torch.cat(alone), dim=-1).min().item()
    return "" if cosine > MIN_COSINE else f"other logits in a batch than alone (cosine {cosine:.3f})"


def _check_window(model: PreTrainedModel, positions: Positions, examples: Sequence[Example]) -> None:
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    longest = max(len(e.prompt) for e in examples) + max(len(e.answer) for e in examples)
    if window and longest > window and not positions.prefix:
        raise DataError(
            f"rows of up to {longest} tokens do not fit the target's attention window of {window}; "
            f"leave the long ones out with `max_row_tokens={window}`, or train with `positions=all`"
        )
