"""The frozen target in PyTorch: logits of answers under task vectors.

With `last` and `decode` no prompt token before the last depends on the vector, so those prefixes are evaluated once
without gradient, and their keys and values are cached across epochs (`prefix_cache.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from atv_local.vectors import Positions
from atv_train.examples import Example, pad, padding_mask
from atv_train.frozen_target.attention import CachedPrefix, attending
from atv_train.frozen_target.injection import decoder_blocks, injected, position_mask, vector_masks
from atv_train.frozen_target.prefix_cache import PrefixCache
from atv_train.frozen_target.prefixes import Prefix, evaluate_prefixes, shared_heads

_PREFIX_TOKENS = 1024  # of one batch of prefixes, padding included


class FrozenTarget:
    """Logits of answers, differentiable in the task vectors only.

    Args:
        model: from `load_target`.
        positions: where vectors are injected.
        cache: holds prefixes; one that does not fit is computed again at every step.
        split_attention: whether tokens after a cached prefix go through `attention.py` or through the model's own
            attention and cache: see `supports_split_attention`.
        n_vectors: 2 if the prompt's tokens before the last have a vector of their own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        positions: Positions,
        cache: PrefixCache | None = None,
        *,
        split_attention: bool = True,
        n_vectors: int = 1,
    ) -> None:
        self.model = model
        self.blocks = decoder_blocks(model)
        self.n_rows, self.n_embd = len(self.blocks) - 1, int(model.config.get_text_config().hidden_size)
        self.positions, self.n_vectors = positions, n_vectors
        self.device, self.dtype = model.device, model.dtype
        self._cache = PrefixCache(0) if cache is None else cache
        self._split_attention = split_attention
        self._keeps_logits = "logits_to_keep" in signature(model.forward).parameters

    def answer_logits(self, examples: Sequence[Example], vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced logits of every answer token.

        Args:
            vectors: [batch, *vector_shape].

        Returns:
            logits float32 [n, n_vocab] and labels int64 [n], for all n answer tokens of the batch in order.
        """
        logits = self._whole(examples, vectors) if self.positions.prefix else self._tail(examples, vectors)
        labels = torch.tensor([token for example in examples for token in example.answer], device=self.device)
        return logits.float(), labels

    def base_logits(self, example: Example) -> Tensor:
        """Logits float32 [len(answer), n_vocab] of its answer, without a vector, alone and in one pass."""
        row = torch.tensor([example.prompt + example.answer[:-1]], device=self.device)
        return self.model(input_ids=row, use_cache=False).logits[0, len(example.prompt) - 1 :].float()

    @property
    def vector_shape(self) -> tuple[int, int]:
        """Rows and width of what is injected for one example: n_layer-1 rows for each vector."""
        return self.n_vectors * self.n_rows, self.n_embd

    def zeros(self, n: int) -> Tensor:
        """Task vectors of `n` examples that leave the target as it is, float32 [n, *vector_shape]."""
        return torch.zeros(n, *self.vector_shape, device=self.device)

    def prompt_states(self, examples: Sequence[Example], vectors: Tensor) -> list[Tensor]:
        """Keys and values [n_layer, 2, n_head_kv, length, d_head] of each prompt before its last token, steered where
        the positions say so."""
        prefixes = [example.prompt[:-1] for example in examples]
        if not self.positions.prefix:
            return self._prefixes(prefixes)
        prompts, lengths = [len(example.prompt) for example in examples], [len(prefix) for prefix in prefixes]
        mask = position_mask(prompts, lengths, self.positions, self.device)
        with injected(self.blocks, vectors, vector_masks(mask, prompts, self.n_vectors)):
            return evaluate_prefixes(self.model, prefixes)

    @contextmanager
    def steering_one_token(self, vectors: Tensor, *, first: bool) -> Iterator[None]:
        """Within the context the model's input is one token a row: the last of the prompt, or one of the answer."""
        steered = first or self.positions.generated
        mask = torch.full((len(vectors), 1), steered, device=self.device)
        with injected(self.blocks, vectors, vector_masks(mask, [1] * len(vectors), self.n_vectors)):
            yield

    @contextmanager
    def temporary_cache(self) -> Iterator[None]:
        """Within the context every prefix is cached, however large; nothing of it stays."""
        cache, self._cache = self._cache, PrefixCache(1 << 62, heads=self._cache.heads)
        try:
            yield
        finally:
            self._cache = cache

    def cache_prefixes(
        self,
        examples: Sequence[Example],
        on_batch: Callable[[int, int], None] = lambda *_: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Evaluate and cache the prefixes of all examples, shortest first, as far as the cache has room.

        They go through batches of their own, so the cached values do not depend on the order of training.

        Args:
            on_batch: called with the number of tokens done and of all tokens.
            stopped: once it is true, the rest is left out.
        """
        if self.positions.prefix:
            return
        try:
            self._cache_prefixes({example.prompt[:-1] for example in examples}, on_batch, stopped)
        finally:
            self._cache.finish()

    def _cache_prefixes(
        self, wanted: set[Prefix], on_batch: Callable[[int, int], None], stopped: Callable[[], bool]
    ) -> None:
        cache = self._cache
        if cache.heads is None:
            cache.heads = shared_heads(wanted)
        for head in sorted({cache.head(prefix) for prefix in wanted}, key=lambda head: (len(head), head)):
            if head and cache.head_states(head) is None:
                saved = cache.saved_head(head)
                known = evaluate_prefixes(self.model, [head])[0] if saved is None else saved.to(self.model.device)
                if not cache.add_head(head, known):
                    return
        missing = {prefix: cache.head(prefix) for prefix in wanted if prefix not in cache}
        prefixes = sorted(missing, key=lambda p: (missing[p], len(p), p))
        total, done, start = sum(map(len, prefixes)), 0, 0
        while start < len(prefixes) and not stopped():
            head, end = missing[prefixes[start]], start + 1
            while (
                end < len(prefixes)
                and missing[prefixes[end]] == head
                and len(prefixes[end]) * (end + 1 - start) <= _PREFIX_TOKENS
            ):
                end += 1
            batch = prefixes[start:end]
            states = evaluate_prefixes(self.model, batch, cache.head_states(head))
            for prefix, part in zip(batch, states, strict=True):
                if not cache.add(prefix, part[:, :, :, len(head) :].contiguous()):
                    return
            start, done = end, done + sum(map(len, batch))
            on_batch(done, total)

    def _whole(self, examples: Sequence[Example], vectors: Tensor) -> Tensor:
        """Answers' logits from one pass over whole rows."""
        rows = [example.prompt + example.answer[:-1] for example in examples]
        starts = [len(example.prompt) - 1 for example in examples]
        prompts = [start + 1 for start in starts]
        mask = position_mask(prompts, [len(row) for row in rows], self.positions, self.device)
        mask = vector_masks(mask, prompts, self.n_vectors)
        wanted = sorted({start + n for start, e in zip(starts, examples, strict=True) for n in range(len(e.answer))})
        kept = torch.tensor(wanted, device=self.device)
        options = {"logits_to_keep": kept} if self._keeps_logits else {}  # over a vocabulary they are what is large
        with injected(self.blocks, vectors, mask):
            logits = self.model(
                input_ids=pad(rows, 0, self.device),
                attention_mask=padding_mask([len(row) for row in rows], self.device).long(),
                use_cache=False,
                **options,
            ).logits
        if not self._keeps_logits:
            logits = logits.index_select(1, kept)
        firsts = [wanted.index(start) for start in starts]
        parts = zip(logits, firsts, examples, strict=True)
        return torch.cat([row[first : first + len(example.answer)] for row, first, example in parts])

    def _tail(self, examples: Sequence[Example], vectors: Tensor) -> Tensor:
        """Answers' logits from the last prompt token on, after cached prefixes."""
        rows = [example.prompt[-1:] + example.answer[:-1] for example in examples]
        lengths = [len(row) for row in rows]
        real = padding_mask(lengths, self.device)
        prefix = CachedPrefix.stack(self._prefixes([example.prompt[:-1] for example in examples]), real)
        tokens, mask = pad(rows, 0, self.device), position_mask([1] * len(rows), lengths, self.positions, self.device)
        places = prefix.lengths[:, None] + torch.arange(max(lengths), device=self.device)
        if not self._split_attention:
            return self._padded_tail(tokens, places, prefix, vectors, mask)[real]
        with attending(self.model), injected(self.blocks, vectors, mask, prefix.places):
            inputs = {"input_ids": tokens[real][None], "position_ids": places[real][None]}
            return self.model(**inputs, cached_prefix=prefix, use_cache=False).logits[0]

    def _padded_tail(
        self, tokens: Tensor, places: Tensor, prefix: CachedPrefix, vectors: Tensor, mask: Tensor
    ) -> Tensor:
        """Logits [batch, tail, n_vocab] by the model's own attention, with the prefixes in its cache."""
        cache = DynamicCache()
        for index, (keys, values) in enumerate(prefix.states.unbind(0)):
            cache.update(keys, values, index)
        keys_mask = torch.cat([prefix.mask, prefix.tails], dim=1).long()
        inputs = {"input_ids": tokens, "position_ids": places, "attention_mask": keys_mask}
        with injected(self.blocks, vectors, mask):
            return self.model(**inputs, past_key_values=cache, use_cache=True).logits

    def _prefixes(self, prefixes: Sequence[Prefix]) -> list[Tensor]:
        """Each prefix's keys and values, from the cache or computed now."""
        parts = {prefix: self._cache.get(prefix) for prefix in set(prefixes)}
        missing = sorted((prefix for prefix, part in parts.items() if part is None), key=lambda p: (len(p), p))
        if missing:
            parts |= dict(zip(missing, evaluate_prefixes(self.model, missing), strict=True))
        return [part for prefix in prefixes if (part := parts[prefix]) is not None]
