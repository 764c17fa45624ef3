"""The frozen target in PyTorch: the very GGUF, dequantised. Answers' logits under given task vectors.

With `last` and `decode` no prompt token before the last depends on the vector, so those prefixes are
evaluated once without gradient and their keys and values are kept across epochs, within a memory budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from atv_local.errors import ModelError
from atv_local.steering import Positions
from atv_train.examples import Example, pad
from atv_train.injection import decoder_blocks, injected, position_mask


def load_target(path: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The dequantised GGUF as a frozen transformers model.

    Raises:
        ModelError: an architecture that transformers cannot read from GGUF.
    """
    try:
        with redirect_stderr(StringIO()):  # its progress bar has no switch
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    except (ValueError, NotImplementedError, KeyError) as error:
        raise ModelError(f"transformers cannot dequantise {path}: {error}") from error
    model = model.eval().requires_grad_(False)
    return model.to(device)


class FrozenTarget:
    """Answers' logits of the frozen target, differentiable in the task vectors only.

    Args:
        model: from `load_target`.
        positions: where vectors are injected.
        cache_bytes: how much memory the kept prefixes may take; what does not fit is recomputed.
    """

    def __init__(self, model: PreTrainedModel, positions: Positions, cache_bytes: int = 0) -> None:
        self.model = model
        self.blocks = decoder_blocks(model)
        self.n_rows, self.n_embd = len(self.blocks) - 1, int(model.config.hidden_size)
        self.positions = positions
        self.device = model.device
        self._budget = cache_bytes
        self._kept: dict[tuple[int, ...], Tensor] = {}

    def answer_logits(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced logits of every answer token.

        Args:
            vectors: [batch, n_layer-1, n_embd].

        Returns:
            logits float32 [n, n_vocab] and labels int64 [n], for all n answer tokens of the batch in order.
        """
        hidden, starts = self._whole(examples, vectors) if self.positions.prefix else self._tail(examples, vectors)
        rows = zip(hidden, starts, examples, strict=True)
        chosen = torch.cat([row[start : start + len(example.answer)] for row, start, example in rows])
        labels = torch.tensor([token for example in examples for token in example.answer], device=self.device)
        return self.model.get_output_embeddings()(chosen).float(), labels

    def _whole(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, list[int]]:
        rows = [example.prompt + example.answer[:-1] for example in examples]
        prompts = [len(example.prompt) for example in examples]
        mask = position_mask(prompts, [len(row) for row in rows], self.positions, self.device)
        with injected(self.blocks, vectors, mask):
            hidden = self._hidden(rows, [0] * len(rows), None)
        return hidden, [prompt - 1 for prompt in prompts]

    def _tail(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, list[int]]:
        rows = [example.prompt[-1:] + example.answer[:-1] for example in examples]
        mask = position_mask([1] * len(rows), [len(row) for row in rows], self.positions, self.device)
        prefixes = [example.prompt[:-1] for example in examples]
        kept = self._prefixes(prefixes)
        with injected(self.blocks, vectors, mask):
            hidden = self._hidden(rows, [len(prefix) for prefix in prefixes], kept)
        return hidden, [0] * len(rows)

    def _hidden(self, rows: Sequence[Sequence[int]], starts: Sequence[int], kept: list[Tensor] | None) -> Tensor:
        """Last hidden states [batch, seq, n_embd] of `rows`, which begin at positions `starts` after `kept`."""
        tokens = pad(rows, 0, self.device)
        before = _key_mask([part.shape[3] for part in kept], self.device) if kept else None
        mask = _key_mask([len(row) for row in rows], self.device)
        positions = torch.tensor(starts, device=self.device)[:, None] + torch.arange(
            tokens.shape[1], device=self.device
        )
        output = self.model.base_model(
            input_ids=tokens,
            attention_mask=mask if before is None else torch.cat([before, mask], dim=1),
            position_ids=positions,
            past_key_values=_stack(kept) if kept else None,
            use_cache=kept is not None,
        )
        return output.last_hidden_state

    @torch.no_grad()
    def _prefixes(self, prefixes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Keys and values [n_layer, 2, n_head, len(prefix), d_head] of each prefix, kept where the budget allows."""
        missing = sorted({prefix for prefix in prefixes if prefix not in self._kept}, key=len)
        fresh: dict[tuple[int, ...], Tensor] = {}
        if missing:
            output = self.model.base_model(
                input_ids=pad(missing, 0, self.device),
                attention_mask=_key_mask([len(prefix) for prefix in missing], self.device),
                use_cache=True,
            )
            layers = output.past_key_values.layers
            for index, prefix in enumerate(missing):
                parts = [torch.stack([layer.keys[index], layer.values[index]]) for layer in layers]
                fresh[prefix] = torch.stack(parts)[:, :, :, : len(prefix)].contiguous()
        for prefix, part in fresh.items():
            size = part.numel() * part.element_size()
            if size <= self._budget:
                self._budget -= size
                self._kept[prefix] = part
        return [fresh[prefix] if prefix in fresh else self._kept[prefix] for prefix in prefixes]


def _key_mask(lengths: Sequence[int], device: torch.device) -> Tensor:
    """int64 [batch, longest]: 1 on tokens, 0 on the padding at the right."""
    return (torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]).long()


def _stack(parts: list[Tensor]) -> DynamicCache:
    width = max(part.shape[3] for part in parts)
    padded = torch.stack([torch.nn.functional.pad(part, (0, 0, 0, width - part.shape[3])) for part in parts], dim=2)
    cache = DynamicCache()
    for index, (keys, values) in enumerate(padded.unbind(0)):
        cache.update(keys, values, index)
    return cache
