"""The frozen target in PyTorch: the very GGUF, dequantised. Answers' logits under given task vectors.

With `last` and `decode` no prompt token before the last depends on the vector, so those prefixes are
evaluated once without gradient and their keys and values are kept across epochs, within a memory budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from atv_local.errors import DataError, ModelError
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
        self.n_rows, self.n_embd = len(self.blocks) - 1, int(model.config.get_text_config().hidden_size)
        self.positions = positions
        self.device = model.device
        self._budget, self._used = cache_bytes, 0
        self._kept: dict[tuple[int, ...], Tensor] = {}

    def answer_logits(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced logits of every answer token.

        Args:
            vectors: [batch, n_layer-1, n_embd].

        Returns:
            logits float32 [n, n_vocab] and labels int64 [n], for all n answer tokens of the batch in order.
        """
        logits, starts = self._whole(examples, vectors) if self.positions.prefix else self._tail(examples, vectors)
        rows = zip(logits, starts, examples, strict=True)
        chosen = torch.cat([row[start : start + len(example.answer)] for row, start, example in rows])
        labels = torch.tensor([token for example in examples for token in example.answer], device=self.device)
        return chosen.float(), labels

    @torch.no_grad()
    def check(self, examples: Sequence[Example]) -> None:
        """Require that batches through kept prefixes give what the model gives for each row alone.

        Raises:
            ModelError: an architecture whose cache or attention does not allow it.
            DataError: rows longer than a sliding window of the target's attention.
        """
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        longest = max(len(e.prompt) for e in examples) + max(len(e.answer) for e in examples)
        if window and longest > window and not self.positions.prefix:
            raise DataError(
                f"rows of up to {longest} tokens do not fit the target's attention window of {window}; "
                "leave out the long ones or train with --positions all"
            )
        pair = [min(examples, key=lambda e: len(e.prompt)), max(examples[:64], key=lambda e: len(e.prompt))]
        zero = torch.zeros(len(pair), self.n_rows, self.n_embd, device=self.device)
        alone = []
        for e in pair:
            row = torch.tensor([e.prompt + e.answer[:-1]], device=self.device)
            alone.append(self.model(input_ids=row).logits[0, len(e.prompt) - 1 :].float())
        try:
            together, _ = self.answer_logits(pair, zero)
            alike = torch.cosine_similarity(together, torch.cat(alone), dim=-1).min().item()
        except (AttributeError, TypeError, RuntimeError) as error:
            raise ModelError(f"{type(self.model).__name__} cannot be trained through: {error}") from error
        finally:
            self._kept.clear()
            self._used = 0
        if not alike > 0.98:
            raise ModelError(
                f"{type(self.model).__name__} gives other logits in batches than alone (cosine {alike:.3f}), "
                f"so it cannot be trained through with positions {self.positions}"
            )

    def _whole(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, list[int]]:
        rows = [example.prompt + example.answer[:-1] for example in examples]
        prompts = [len(example.prompt) for example in examples]
        mask = position_mask(prompts, [len(row) for row in rows], self.positions, self.device)
        wanted = sorted(
            {start - 1 + n for start, e in zip(prompts, examples, strict=True) for n in range(len(e.answer))}
        )
        with injected(self.blocks, vectors, mask):
            logits = self._logits(rows, [0] * len(rows), None, keep=torch.tensor(wanted, device=self.device))
        return logits, [wanted.index(prompt - 1) for prompt in prompts]

    def _tail(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, list[int]]:
        rows = [example.prompt[-1:] + example.answer[:-1] for example in examples]
        mask = position_mask([1] * len(rows), [len(row) for row in rows], self.positions, self.device)
        prefixes = [example.prompt[:-1] for example in examples]
        kept = self._prefixes(prefixes)
        with injected(self.blocks, vectors, mask):
            logits = self._logits(rows, [len(prefix) for prefix in prefixes], kept, keep=0)
        return logits, [0] * len(rows)

    def _logits(
        self, rows: Sequence[Sequence[int]], starts: Sequence[int], kept: list[Tensor] | None, keep: int | Tensor
    ) -> Tensor:
        """Logits [batch, seq, n_vocab] of `rows`, which begin at positions `starts` after `kept`.

        `keep` has the positions whose logits are computed, 0 for all: over a vocabulary they are what is large.
        """
        tokens = pad(rows, 0, self.device)
        mask = _key_mask([len(row) for row in rows], self.device)
        if kept:
            mask = torch.cat([_key_mask([part.shape[3] for part in kept], self.device), mask], dim=1)
        steps = torch.arange(tokens.shape[1], device=self.device)
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=torch.tensor(starts, device=self.device)[:, None] + steps,
            past_key_values=_stack(kept) if kept else None,
            use_cache=kept is not None,
            logits_to_keep=keep,
        )
        return output.logits

    @torch.no_grad()
    def _prefixes(self, prefixes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Keys and values [n_layer, 2, n_head, len(prefix), d_head] of each prefix, kept where the budget allows."""
        missing = sorted({prefix for prefix in prefixes if prefix not in self._kept}, key=len)
        fresh: dict[tuple[int, ...], Tensor] = {}
        if missing:
            cache = DynamicCache()  # our own, so that no layer forgets what is outside an attention window
            self.model(
                input_ids=pad(missing, 0, self.device),
                attention_mask=_key_mask([len(prefix) for prefix in missing], self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            kept: list[Any] = [(layer.keys, layer.values) for layer in cache.layers]
            for index, prefix in enumerate(missing):
                parts = [torch.stack([keys[index], values[index]]) for keys, values in kept]
                fresh[prefix] = torch.stack(parts)[:, :, :, : len(prefix)].contiguous()
        for prefix, part in fresh.items():
            size = part.numel() * part.element_size()
            if size <= self._budget - self._used:
                self._used += size
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
