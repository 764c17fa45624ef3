"""Adding task vectors to the hidden states of a PyTorch model, as llama.cpp adds control vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from atv_local.errors import ModelError
from atv_local.vectors import Positions


def decoder_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The model's blocks in order: the first list of modules that is as long as the config says.

    Raises:
        ModelError: no such list.
    """
    n_layer = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layer:
            return module
    raise ModelError(f"{type(model).__name__} has no list of {n_layer} blocks to steer")


@contextmanager
def injected(blocks: nn.ModuleList, vectors: Tensor, mask: Tensor, places: Tensor | None = None) -> Iterator[None]:
    """Within the context, add `vectors` [batch, n_layer-1, n_embd] where `mask` [batch, seq] is true.

    Row k goes to the output of block k+1; block 0 has no row (llama.cpp, `llama_adapter_cvec`). With `places`, int64
    [n], the blocks have one row of n tokens, and these are the places among batch * seq where they stand.

    For two vectors a row, [batch, 2 * (n_layer-1), n_embd], there are two masks, [2, batch, seq]: see `vector_masks`.
    """
    masks = mask.to(vectors.dtype).view(-1, *mask.shape[-2:], 1)

    def hook(rows: Sequence[Tensor]) -> Any:
        def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            added = reduce(torch.add, [weights * row[:, None] for weights, row in zip(masks, rows, strict=True)])
            if places is not None:  # after the product: its gradient is a sum in one order, that of an index is not
                added = added.flatten(0, 1).index_select(0, places)[None]
            steered = hidden + added.to(hidden.dtype)
            return (steered, *output[1:]) if isinstance(output, tuple) else steered

        return add

    by_layer = list(zip(*(part.unbind(1) for part in vectors.chunk(len(masks), dim=1)), strict=True))
    handles = [block.register_forward_hook(hook(rows)) for block, rows in zip(blocks[1:], by_layer, strict=False)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def position_mask(prompts: Sequence[int], lengths: Sequence[int], positions: Positions, device: torch.device) -> Tensor:
    """Which positions of right-padded sequences are steered.

    Args:
        prompts: number of prompt tokens of each sequence.
        lengths: number of tokens of each, prompt included.

    Returns:
        bool [batch, max(lengths)].
    """
    index = torch.arange(max(lengths), device=device)
    last = torch.tensor(prompts, device=device)[:, None] - 1
    end = torch.tensor(lengths, device=device)[:, None]
    mask = index == last
    if positions.prefix:
        mask = mask | (index < last)
    if positions.generated:
        mask = mask | ((index > last) & (index < end))
    return mask


def vector_masks(mask: Tensor, prompts: Sequence[int], n_vectors: int) -> Tensor:
    """The mask of each vector: with two, the second one's are the prompt tokens before the last.

    Args:
        mask: bool [batch, seq], from `position_mask`.
        prompts: number of prompt tokens of each sequence.

    Returns:
        bool [n_vectors, batch, seq].
    """
    if n_vectors == 1:
        return mask[None]
    before = torch.arange(mask.shape[1], device=mask.device) < torch.tensor(prompts, device=mask.device)[:, None] - 1
    return torch.stack([mask & ~before, mask & before])
