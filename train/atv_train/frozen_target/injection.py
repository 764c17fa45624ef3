"""Adding task vectors to the hidden states of a PyTorch model, as llama.cpp adds control vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """
    weights = mask.to(vectors.dtype).unsqueeze(-1)

    def hook(row: Tensor) -> Any:
        def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            added = weights * row[:, None]
            if places is not None:  # after the product: its gradient is a sum in one order, that of an index is not
                added = added.flatten(0, 1).index_select(0, places)[None]
            steered = hidden + added.to(hidden.dtype)
            return (steered, *output[1:]) if isinstance(output, tuple) else steered

        return add

    rows = vectors.unbind(1)
    handles = [block.register_forward_hook(hook(row)) for block, row in zip(blocks[1:], rows, strict=False)]
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
