"""The model `atv-local` of lm-evaluation-harness: a GGUF under the vectors of a bundle, in this process.

Log-likelihoods and generations are steered, each by the vector of its context alone, never by what is scored. Of a
context in the chat template the query is the user's last message, as in training; else it is the whole context. An
empty one, and a rolling log-likelihood, whose whole text is scored, have no query: the base model answers.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby, islice
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from atv_eval.lm_eval.harness_arguments import HarnessArguments
from atv_local.answer import Asked, load
from atv_local.batch import Batch, BatchQuestion, BatchReply, SteeredPrompt
from atv_local.errors import UsageError
from atv_local.target import MARK, LastUserMessage, Prompt, Sampling, Vocabulary
from atv_local.vectors import OFF

MAX_OPTIONS = 32
"""Continuations of one context that are scored together; more are several questions."""

_GENERATION = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}

Scored = tuple[tuple[str, str] | None, list[int], list[int]]
"""Context and continuation as text (None: there is no query), and as tokens."""


@register_model("atv-local")
class AtvLocal(TemplateLM):
    """A steered GGUF as lm_eval sees a model; see `HarnessArguments`.

    Text is tokenised by llama.cpp, and control tokens spelt in it become themselves, as in lm_eval's own models. What
    is longer than the context loses its beginning.

    Raises:
        AtvError: what `load` and `Batch` raise.
        UsageError: an argument that is not one of `HarnessArguments`.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self._arguments = arguments = HarnessArguments.of(given)
        self._engine = load(
            arguments.model,
            arguments.bundle or None,
            off=arguments.off,
            control_vectors=arguments.control_vectors,
            template_variables=arguments.template_variables,
            n_ctx=arguments.n_ctx,
            n_threads=arguments.n_threads,
            n_gpu_layers=arguments.n_gpu_layers,
        )
        target = self._engine.target
        changes = {name: getattr(arguments, name) for name in ("strength", "layers", "positions", "gate")}
        changes = {name: value for name, value in changes.items() if value is not None}
        steering = replace(self._engine.steering, **changes)
        self._steering = OFF if arguments.off else steering
        self._steering.range(target.n_rows)  # raises if the target lacks a layer
        self._vocabulary: Vocabulary = target.vocabulary
        self._prompts = self._engine.prompts
        self._queries = LastUserMessage(self._prompts)
        self._batch = Batch(self._engine, parallel=arguments.parallel)
        self._way = lru_cache(maxsize=64)(self._way_of)

    # What lm_eval asks of a tokenizer.

    @property
    def max_length(self) -> int:
        """Tokens the model reads at most; the last one that is scored or written is not among them."""
        return self._engine.target.n_ctx

    @property
    def eot_token_id(self) -> int:
        """The end-of-sequence token."""
        return self._vocabulary.eos

    @property
    def prefix_token_id(self) -> int:
        """Stands before a text without context: the beginning-of-sequence token, or the end-of-sequence token."""
        return self._vocabulary.bos if self._vocabulary.bos >= 0 else self._vocabulary.eos

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; by default with a beginning-of-sequence token where the GGUF asks for one."""
        return self._vocabulary.tokenize(string, special=True, bos=add_special_tokens)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Split as lm_eval does, but in the chat template, whose last token stays with the context, as in training.

        lm_eval takes white space at the end of a context, such as that token often is, for the continuation's.
        """
        if self._queries(context) != context:
            before, whole = self.tok_encode(context), self.tok_encode(context + continuation)
            if whole[: len(before)] == before:
                return before, whole[len(before) :]
        pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return pair

    @property
    def tokenizer_name(self) -> str:
        """Tells request caches apart: of vocabulary and chat template."""
        text = self._vocabulary.sha256 + self._vocabulary.chat_template + json.dumps(dict(self._prompts.variables))
        return f"atv-local-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The GGUF's template, for the record.

        Raises:
            UsageError: one is asked for by name, or there is none.
        """
        if chat_template is False or chat_template is None:
            return None
        if isinstance(chat_template, str):
            raise UsageError(f"the chat template cannot be {chat_template!r}: the one in the GGUF is used")
        if not self._vocabulary.chat_template:
            raise UsageError(f"{self._engine.target.path} has no chat template; leave --apply_chat_template out")
        return self._vocabulary.chat_template

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation in the GGUF's template, up to where the answer begins or continues.

        Raises:
            UsageError: there is no template.
            ModelError: it does not take this conversation.
        """
        self.chat_template(True)
        messages = list(chat_history)
        if not add_generation_prompt:
            messages[-1] = messages[-1] | {"content": messages[-1]["content"] + MARK}
        return self._prompts.render(messages).partition(MARK)[0]

    def get_model_info(self) -> dict[str, Any]:
        """The model, for the record of results."""
        steering, ids = self._steering, [generator.bundle.id for generator in self._engine.generators]
        if steering.off:
            return {"bundle": None}
        layers = steering.range(self._engine.target.n_rows)
        return {
            "bundle": ids if len(ids) > 1 else next(iter(ids), None),
            "strength": steering.strength,
            "layers": list(layers),
            "positions": str(steering.positions),
            "gate": steering.gate,
            "control_vectors": [vector.as_dict() for vector in self._engine.control_vectors],
        }

    # Requests.

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each text after the prefix token, in nats, in windows of `max_length` tokens.

        The base model's: there is no query that is not scored. The text's own tokens are predicted and no other, so
        where a GGUF asks for a beginning-of-sequence token, that is the prefix and is not scored.
        """
        if not self._steering.off:
            warnings.warn("a rolling log-likelihood has no query to steer by; it is the base model's", stacklevel=1)
        windows: list[Scored] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(index)
        totals = [0.0] * len(requests)
        for index, (total, _) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            totals[index] += total
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _loglikelihood_tokens(
        self, requests: Sequence[Scored], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """Log-probability in nats of each continuation, and whether it is the greedy one."""
        scores: list[tuple[float, bool]] = []
        for reply in self._replies(self._scored(requests), len(requests), "loglikelihood", disable_tqdm):
            outcome = reply.outcomes[0]
            for texts, result in zip(
                reply.question.tag, zip(outcome.options, outcome.greedy, strict=True), strict=True
            ):
                scores.append(result)
                if texts is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, result)
        return scores

    def _scored(self, requests: Sequence[Scored]) -> Iterator[BatchQuestion]:
        """Neighbours with the same context are options of one question, which evaluates it once."""

        def context(request: Scored) -> tuple[str, tuple[int, ...]]:
            texts, tokens, continuation = request
            if not continuation:
                raise UsageError(
                    f"the continuation {(texts or ('', ''))[1]!r} has no token of its own after its context"
                )
            room = self.max_length + 1 - len(continuation)
            if room < 1:
                raise UsageError(f"a continuation of {len(continuation)} tokens; n_ctx {self.max_length} is too small")
            return texts[0] if texts else "", self._fitting(tokens, room)

        for (text, tokens), group in groupby(requests, context):
            while scored := list(islice(group, MAX_OPTIONS)):
                options, tags = [continuation for *_, continuation in scored], [texts for texts, *_ in scored]
                yield BatchQuestion(Prompt(tokens, 0), [self._way(text)], options=options, tag=tags)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Each answer up to the first of its stop strings, or to the token that ends it. Greedy by default.

        Raises:
            UsageError: more tokens asked for than the context holds.
        """
        answers: list[str] = []
        for reply in self._replies(self._generations(requests), len(requests), "generate_until", disable_tqdm):
            request, stops = reply.question.tag
            answers.append(postprocess_generated_text(reply.outcomes[0].text, stops, None))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def _generations(self, requests: Sequence[Any]) -> Iterator[BatchQuestion]:
        for index, request in enumerate(requests):
            context, given = request.args
            wanted = normalize_gen_kwargs(given, self._arguments.max_tokens)
            max_tokens, stops = wanted["max_gen_toks"], [stop for stop in wanted["until"] if stop]
            if not 1 <= max_tokens < self.max_length:
                raise UsageError(f"max_gen_toks {max_tokens} is not within 1 to {self.max_length - 1}; enlarge n_ctx")
            if ignored := sorted(wanted.keys() - _GENERATION):
                warnings.warn(f"generation arguments without effect: {', '.join(ignored)}", stacklevel=1)
            sampling = Sampling(
                float(wanted.get("temperature", 1.0)) if wanted["do_sample"] else 0.0,
                float(wanted.get("top_p", 1.0)),
                int(wanted.get("top_k", 0)),
                self._arguments.seed,
            ).of_row(index)
            tokens = self._fitting(self.tok_encode(context), self.max_length - max_tokens)
            yield BatchQuestion(
                Prompt(tokens, 0),
                [self._way(context)],
                max_tokens,
                sampling=sampling,
                enough=_stopped(self._vocabulary, stops) if stops else None,
                tag=(request, stops),
            )

    def _replies(self, questions: Iterator[BatchQuestion], total: int, what: str, quiet: bool) -> Iterator[BatchReply]:
        """Replies in order, with progress on stderr; the first error ends it."""
        with tqdm(total=total, desc=f"Running {what} requests", disable=quiet) as progress:
            for reply in self._batch.ask(questions):
                if reply.error:
                    raise reply.error
                yield reply
                progress.update(len(reply.question.options) or 1)

    def _fitting(self, tokens: list[int], room: int) -> tuple[int, ...]:
        if len(tokens) > room:
            warnings.warn("contexts that do not fit n_ctx lose their beginning", stacklevel=1)
        return tuple(tokens[-room:]) or (self.prefix_token_id,)

    # What steers them.

    def _way_of(self, context: str) -> SteeredPrompt:
        query = "" if self._steering.off else self._queries(context)
        return SteeredPrompt.of_asked(self._engine, Asked(query, self._steering)) if query.strip() else SteeredPrompt()


def _stopped(vocabulary: Vocabulary, stops: Sequence[str]) -> Callable[[Sequence[int]], bool]:
    """For a question's `enough`: whether one of the strings has been written, if only with the last token."""
    longest = max(len(stop.encode()) for stop in stops)

    def enough(written: Sequence[int]) -> bool:
        end = vocabulary.text(written[-longest:])  # a token is at least a byte
        return any(stop in end for stop in stops)

    return enough
