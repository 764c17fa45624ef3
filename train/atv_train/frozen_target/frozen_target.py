"""The frozen target in PyTorch: the very GGUF, dequantised. Answers' logits under given task vectors.

With `last` and `decode` no prompt token before the last depends on the vector, so those prefixes are
evaluated once without gradient, and their keys and values are kept across epochs (`prefixes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from atv_local.errors import DataError, ModelError
from atv_local.target import Target
from atv_local.vectors import Positions
from atv_train.examples import Example, pad
from atv_train.frozen_target.attention import CachedPrefix, attending
from atv_train.frozen_target.injection import decoder_blocks, injected, position_mask
from atv_train.frozen_target.prefix_cache import PrefixStore
from atv_train.vector_sources import SAFE

_PREFIX_TOKENS = 1024  # of one batch of prefixes, padding included


def load_target(path: Path, dtype: torch.dtype, device: torch.device, weights: str | None = None) -> PreTrainedModel:
    """The target as a frozen transformers model: the dequantised GGUF, or `weights`, a folder or hub id.

    Raises:
        ModelError: an architecture that transformers cannot read from GGUF, or weights that cannot be loaded.
    """
    try:
        with redirect_stderr(StringIO()):  # its progress bar has no switch
            if weights is not None:
                model = AutoModelForCausalLM.from_pretrained(weights, dtype=dtype, **SAFE)
            else:
                model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if weights is not None:
            raise ModelError(f"cannot load the weights {weights}: {reason} Name a model folder or a hub id.") from error
        raise ModelError(
            f"transformers cannot dequantise {path}: {reason} Name its unquantised weights with --weights."
        ) from error
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the other kernels leave the cap out
    model = model.eval().requires_grad_(False)
    return model.to(device)


@torch.no_grad()
def check_weights(model: PreTrainedModel, path: Path, example: Example) -> None:
    """Require that `model` gives what llama.cpp gives for the GGUF at `path`: the same logits after a prompt, nearly.

    Raises:
        ModelError: it is another model, or one that llama.cpp does not steer.
    """
    target = Target(path, n_ctx=max(64, len(example.prompt) + 1))
    found = torch.from_numpy(target.evaluate(example.prompt).copy())
    target.close()
    expected = model(input_ids=torch.tensor([example.prompt], device=model.device)).logits[0, -1].float().cpu()
    alike = 0.0
    if len(expected) >= len(found):  # some pad their vocabulary
        alike = torch.cosine_similarity(expected[: len(found)], found, dim=0).item()
    if not alike > 0.9:
        raise ModelError(
            f"PyTorch's weights are not those of {path}: logits agree with cosine {alike:.3f} only; "
            "name its own unquantised weights with --weights"
        )


class FrozenTarget:
    """Answers' logits of the frozen target, differentiable in the task vectors only.

    Args:
        model: from `load_target`.
        positions: where vectors are injected.
        store: where prefixes are kept; what does not fit is computed again at every step.
    """

    def __init__(self, model: PreTrainedModel, positions: Positions, store: PrefixStore | None = None) -> None:
        self.model = model
        self.blocks = decoder_blocks(model)
        self.n_rows, self.n_embd = len(self.blocks) - 1, int(model.config.get_text_config().hidden_size)
        self.positions = positions
        self.device, self.dtype = model.device, model.dtype
        self.store = PrefixStore(0) if store is None else store
        self.apart = True
        """Whether kept prefixes go through `attention.py`; `check` turns it off where a model cannot."""

    def answer_logits(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced logits of every answer token.

        Args:
            vectors: [batch, n_layer-1, n_embd].

        Returns:
            logits float32 [n, n_vocab] and labels int64 [n], for all n answer tokens of the batch in order.
        """
        logits = self._whole(examples, vectors) if self.positions.prefix else self._tail(examples, vectors)
        labels = torch.tensor([token for example in examples for token in example.answer], device=self.device)
        return logits.float(), labels

    def check_length(self, examples: Sequence[Example]) -> None:
        """Require that all rows fit the target's context.

        Raises:
            DataError: one is longer.
        """
        longest = max(example.length for example in examples)
        if longest > (
            limit := getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or longest
        ):
            raise DataError(
                f"a row of {longest} tokens is over the target's context of {limit}; "
                f"leave such rows out with --max-tokens {limit}"
            )

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
        alone = []
        for e in pair:
            row = torch.tensor([e.prompt + e.answer[:-1]], device=self.device)
            alone.append(self.model(input_ids=row).logits[0, len(e.prompt) - 1 :].float())
        store, found = self.store, "no logits"
        for apart in (True, False):
            self.apart, self.store = apart, PrefixStore(1 << 62)
            try:
                self.prepare(pair)
                together, _ = self.answer_logits(pair, self.zeros(len(pair)))
            except (AttributeError, TypeError, RuntimeError, ValueError, LookupError) as error:
                found = str(error)
                continue
            finally:
                self.store = store
            alike = torch.cosine_similarity(together, torch.cat(alone), dim=-1).min().item()
            if alike > 0.98:
                return
            found = f"other logits in batches than alone (cosine {alike:.3f})"
        raise ModelError(
            f"{type(self.model).__name__} cannot be trained through with positions {self.positions}: {found}"
        )

    def zeros(self, n: int) -> Tensor:
        """Task vectors of `n` rows that leave the target as it is, float32 [n, n_layer-1, n_embd]."""
        return torch.zeros(n, self.n_rows, self.n_embd, device=self.device)

    @property
    def bytes_per_token(self) -> int:
        """What one kept token of a prefix takes."""
        part = self._evaluated([(0,)])[0]
        return part.numel() * part.element_size()

    def prepare(
        self,
        examples: Sequence[Example],
        on_batch: Callable[[int, int], None] = lambda *_: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Evaluate and keep the prefixes of all examples, shortest first, as far as the store has room.

        They go through batches of their own, so what is kept does not depend on the order of training.
        `on_batch` is told how many tokens are done, and of how many; once `stopped` turns true the rest is left out.
        """
        if self.positions.prefix:
            return
        wanted = {e.prompt[:-1] for e in examples}
        prefixes = sorted((p for p in wanted if p not in self.store), key=lambda p: (len(p), p))
        if not prefixes:
            return
        total, done, start = sum(map(len, prefixes)), 0, 0
        shared = prefixes[0][: _common(prefixes)]  # the chat template's beginning, for one
        head = self._evaluated([shared])[0] if shared else None
        while start < len(prefixes) and not stopped():
            end = start + 1
            while end < len(prefixes) and len(prefixes[end]) * (end + 1 - start) <= _PREFIX_TOKENS:
                end += 1
            batch = prefixes[start:end]
            for prefix, part in zip(batch, self._evaluated(batch, head), strict=True):
                if not self.store.add(prefix, part):
                    return
            start, done = end, done + sum(map(len, batch))
            on_batch(done, total)

    def _whole(self, examples: Sequence[Example], vectors: Tensor) -> Tensor:
        """Answers' logits from one pass over whole rows."""
        rows = [example.prompt + example.answer[:-1] for example in examples]
        starts = [len(example.prompt) - 1 for example in examples]
        mask = position_mask([start + 1 for start in starts], [len(row) for row in rows], self.positions, self.device)
        wanted = sorted({start + n for start, e in zip(starts, examples, strict=True) for n in range(len(e.answer))})
        with injected(self.blocks, vectors, mask):
            logits = self.model(
                input_ids=pad(rows, 0, self.device),
                attention_mask=_filled([len(row) for row in rows], self.device).long(),
                logits_to_keep=torch.tensor(wanted, device=self.device),  # over a vocabulary they are what is large
                use_cache=False,
            ).logits
        firsts = [wanted.index(start) for start in starts]
        parts = zip(logits, firsts, examples, strict=True)
        return torch.cat([row[first : first + len(example.answer)] for row, first, example in parts])

    def _tail(self, examples: Sequence[Example], vectors: Tensor) -> Tensor:
        """Answers' logits from the last prompt token on, after prefixes that are kept."""
        rows = [example.prompt[-1:] + example.answer[:-1] for example in examples]
        lengths = [len(row) for row in rows]
        real = _filled(lengths, self.device)
        kept = CachedPrefix.stack(self._prefixes([example.prompt[:-1] for example in examples]), real)
        tokens, mask = pad(rows, 0, self.device), position_mask([1] * len(rows), lengths, self.positions, self.device)
        places = kept.lengths[:, None] + torch.arange(max(lengths), device=self.device)
        if not self.apart:
            return self._padded_tail(tokens, places, kept, vectors, mask)[real]
        with attending(self.model), injected(self.blocks, vectors, mask, kept.places):
            inputs = {"input_ids": tokens[real][None], "position_ids": places[real][None]}
            return self.model(**inputs, kept=kept, use_cache=False).logits[0]

    def _padded_tail(self, tokens: Tensor, places: Tensor, kept: CachedPrefix, vectors: Tensor, mask: Tensor) -> Tensor:
        """Logits [batch, tail, n_vocab] by the model's own attention, with the prefixes in its cache."""
        cache = DynamicCache()
        for index, (keys, values) in enumerate(kept.states.unbind(0)):
            cache.update(keys, values, index)
        keys_mask = torch.cat([kept.mask, kept.tails], dim=1).long()
        inputs = {"input_ids": tokens, "position_ids": places, "attention_mask": keys_mask}
        with injected(self.blocks, vectors, mask):
            return self.model(**inputs, past_key_values=cache, use_cache=True).logits

    def _prefixes(self, prefixes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Each prefix's keys and values, from the store or computed now."""
        kept = {prefix: self.store.get(prefix) for prefix in set(prefixes)}
        missing = sorted((prefix for prefix, part in kept.items() if part is None), key=lambda p: (len(p), p))
        if missing:
            kept |= dict(zip(missing, self._evaluated(missing), strict=True))
        return [part for prefix in prefixes if (part := kept[prefix]) is not None]

    @torch.no_grad()
    def _evaluated(self, prefixes: Sequence[tuple[int, ...]], head: Tensor | None = None) -> list[Tensor]:
        """Keys and values [n_layer, 2, n_head_kv, len(prefix), d_head] of each prefix, as the base model has them.

        `head` has those of the tokens that all of them begin with.
        """
        cache = DynamicCache()  # our own, so that no layer forgets what is outside an attention window
        begin = 0 if head is None else head.shape[3]
        for index, (keys, values) in enumerate(head if head is not None else ()):
            cache.update(keys.expand(len(prefixes), -1, -1, -1), values.expand(len(prefixes), -1, -1, -1), index)
        self.model.base_model(  # without its head: one logit row a prompt would cost more than all the layers
            input_ids=pad([prefix[begin:] for prefix in prefixes], 0, self.device),
            attention_mask=_filled([len(prefix) for prefix in prefixes], self.device).long(),
            past_key_values=cache,
            use_cache=True,
        )
        layers: list[Any] = list(cache.layers)
        parts = []
        for index, prefix in enumerate(prefixes):
            states = [torch.stack([layer.keys[index], layer.values[index]]) for layer in layers]
            parts.append(torch.stack(states)[:, :, :, : len(prefix)].contiguous())
        return parts


def _common(prefixes: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all of them begin with, so that at least one of each is left."""
    first, last = min(prefixes), max(prefixes)
    limit = min(map(len, prefixes)) - 1
    return next((n for n in range(limit) if first[n] != last[n]), max(0, limit))


def _filled(lengths: Sequence[int], device: torch.device) -> Tensor:
    """bool [batch, longest]: true on tokens, false on the padding at the right."""
    return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]
