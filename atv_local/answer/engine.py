"""A query to its vector and to a steered answer. Everything that answers one query reads this one stream of events."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from atv_local.answer.answer import Answer, Event
from atv_local.answer.answer_stream import AnswerStream
from atv_local.answer.asked import Asked
from atv_local.answer.constraint import Choices, Constraint, Schema, of_task
from atv_local.answer.given_vector import GivenVector
from atv_local.answer.messages import as_messages, last_query, with_last_query
from atv_local.answer.queries import check_prompt, check_queries, check_query, check_settings
from atv_local.answer.router import GatedVector, Generators
from atv_local.answer.steered_target import SteeredTarget
from atv_local.data import as_max_tokens
from atv_local.errors import UsageError
from atv_local.target import DEFAULT_MAX_TOKENS, Grammar, Prompt, Sampling, Target
from atv_local.vectors import OFF, Steering, TaskVector, VectorSources


@dataclass(frozen=True)
class _Settings:
    """How to answer, checked."""

    sampling: Sampling
    max_tokens: int
    system: str | None
    constraint: Constraint


class Engine(SteeredTarget):
    """A target, and what steers it: a generator made for it, control vectors, or both.

    An engine is a context manager; leaving it frees the context. Answers do not depend on each other. A target gives
    one answer at a time, whichever engine it is for. A stream keeps its turn until it is read to the end or closed:
    meanwhile other threads wait, and the thread that began it gets a UsageError if it asks for another answer.

    Args:
        target: the loaded model. `atv_local.load` makes an engine from the names of files.
        generator: reads each query and makes its vector; or several, as `load` makes of several bundles.
        control_vectors: as `load` takes them. Their sum is added to the vector of every query, in all its layers and at
            the generator's positions; without a generator it steers the tokens that all were made for, or else all
            tokens, as llama.cpp's own tools do.
        steering: what answers use unless they are given another; by default that of the bundle.
        template_variables: values for variables of the chat template, such as `{"enable_thinking": False}`; by default
            those that the bundle was trained with.

    Raises:
        ModelError: a chat template that cannot be used.
        BundleError: a generator made for another target.
        VectorError: a control vector made for another target.
        UsageError: something else than a `Target`, such as the path of a file, or layers that it does not have.
    """

    def __init__(
        self,
        target: Target,
        generator: Generators = None,
        control_vectors: VectorSources = (),
        *,
        steering: Steering | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(target, generator, control_vectors, steering, template_variables)
        self._answers = AnswerStream(target)
        self._closed = False
        self._prompts = lru_cache(maxsize=8)(lambda system: self.prompts.after(system=system))

    def answer(
        self,
        query: str,
        *,
        task: str | None = None,
        instruction: str | None = None,
        vector: GivenVector | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        system: str | None = None,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
    ) -> Answer:
        """Answer a query.

        Args:
            query: the user's words; the chat template of the GGUF is put around them for the target alone.
            task: one of the bundle's tasks that have an instruction, which is read before the query. The gate then does
                not decide whether the query is steered, unless `steering` sets a score.
            instruction: what to do with the query, in words, in place of `task`. `choices` are listed after either.
            vector: steer with this vector instead of `self.vector(query)`, so without control vectors too: a
                `TaskVector`, an array, a `ControlVector` or the path of its GGUF.
            steering: by default `self.steering`. An engine that is off because it has nothing to steer by takes all
                layers at strength 1 for a given vector, and the positions that a control-vector file was made for.
            sampling: greedy by default.
            max_tokens: of the answer, at least 1; -1 means no limit.
            system: a system message.
            choices: allowed answers, up to 256 texts, or `"auto"` for the labels that the bundles were trained on, or
                `"auto:TASK"` for those of one task. The answer is the most likely one as a whole, or with a temperature
                drawn from `Answer.probabilities`; `max_tokens` has no effect.
            schema: a JSON schema; the answer is JSON that is valid under it, unless `max_tokens` ends it before.
            grammar: a grammar in GBNF, the notation of llama.cpp, that the answer follows. At most one of `choices`,
                `schema` and `grammar`.

        Raises:
            UsageError: an empty query, `max_tokens` below 1, steering that this target does not have, or choices, a
                schema or a grammar that cannot be used.
            PromptError: a prompt that leaves no room for an answer in the context.
            ModelError: the target cannot be evaluated, as under a vector that is too strong.
            VectorError: a vector that does not fit the target.
        """
        started = perf_counter()
        given, source, steering = self._steered(vector, steering)
        settings = self._settings(sampling, max_tokens, system, choices, schema, grammar, task)
        asked = self._asked(query, task, instruction, given, steering, settings)
        events = self._events(asked, None, given, settings, started)
        return Answer.of_events(self, asked.steering, events, source, asked=asked)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        task: str | None = None,
        instruction: str | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
    ) -> Answer:
        """Answer a conversation. The user's last message alone makes the vector.

        If the last message is the assistant's, it is the beginning of the answer, which goes on. `Conversation` records
        the turns of one.

        Args:
            messages: dictionaries with `role` (system, developer, user, assistant) and `content`, a text or a list of
                text parts, as OpenAI's API has them.
            task: as for `answer`, and so is `instruction`: before the user's last message.
            instruction: what to do with it.
            steering: by default `self.steering`.
            sampling: greedy by default.
            max_tokens: of the answer, at least 1; -1 means no limit.
            choices: as for `answer`, and so are `schema` and `grammar`.

        Raises:
            UsageError: another role or content, no message of the user that makes a vector, or as `answer`.
            PromptError, ModelError: as `answer`; also a template that does not take the conversation.
        """
        started = perf_counter()
        conversation = as_messages(messages)
        steering = self.checked_steering(steering)
        settings = self._settings(sampling, max_tokens, None, choices, schema, grammar, task)
        query = last_query(conversation)
        if query is None and not steering.off:
            raise UsageError("none of `messages` is the user's, whose last one makes the vector; add one")
        if query is None or not query.strip():
            if task is not None or instruction is not None:
                raise UsageError("no message is the user's, so there is nothing to put an instruction before")
            asked = Asked(query or "", steering)
        else:
            asked = self._asked(query, task, instruction, None, steering, settings)
        prompt = self.prompts.conversation(with_last_query(conversation, asked.text), self.target.n_ctx)
        events = self._events(asked, prompt, None, settings, started)
        return Answer.of_events(self, asked.steering, events, asked=None if query is None else asked)

    def answer_many(
        self,
        queries: Iterable[str],
        *,
        task: str | None = None,
        instruction: str | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        system: str | None = None,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
    ) -> Generator[Answer]:
        """Answer many queries together, in order. For several calls make a `Batch` once, which this does each time.

        Arguments are checked at once, each query in its turn. Close the generator to stop early.

        Args:
            queries: drawn as there is room, some hundreds ahead at most.
            task: as for `answer`, and so is `instruction`: before every query.
            instruction: what to do with the queries.
            steering: by default `self.steering`.
            sampling: greedy by default; a seed is used for every answer.
            max_tokens: of each answer, at least 1; -1 means no limit.
            system: a system message for all.
            choices: as for `answer`, and so are `schema` and `grammar`.

        Yields:
            Answers without times. Each has the text that `answer` gives, within what `Batch` promises.

        Raises:
            UsageError: arguments that `answer` refuses.
            AtvError: a query that cannot be answered, after the answers to those before it.
        """
        steering = self.checked_steering(steering)
        check_queries(queries)
        settings = self._settings(sampling, max_tokens, system, choices, schema, grammar, task)

        def answers() -> Generator[Answer]:
            from atv_local.batch import Batch

            with Batch(self) as batch:
                yield from batch.answer(
                    queries,
                    task=task,
                    instruction=instruction,
                    steering=steering,
                    sampling=settings.sampling,
                    max_tokens=settings.max_tokens,
                    system=system,
                    choices=settings.constraint.choices or None,
                    grammar=settings.constraint.grammar,
                )

        return answers()

    def stream(
        self,
        query: str | Asked,
        *,
        task: str | None = None,
        instruction: str | None = None,
        vector: GivenVector | None = None,
        steering: Steering | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        system: str | None = None,
        prompt: Prompt | None = None,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
    ) -> Generator[Event]:
        """Answer a query, token by token. Arguments are checked at once. Close the generator to stop early.

        Args:
            query: as for `answer`, and so are `task`, `instruction`, `vector`, `steering`, `sampling`, `max_tokens` and
                `system`; or what `asked` makes of it, which has its steering.
            prompt: what the target reads instead of the query, such as the conversation that the query ends; the query
                still makes the vector.
            choices: as for `answer`, and so are `schema` and `grammar`. A choice is a single event.

        Yields:
            Events; the last one has `finish_reason` set.

        Raises:
            UsageError: as `answer`; also an answer of this target that this thread has begun and not ended.
            PromptError, ModelError, VectorError: as `answer`.
        """
        started = perf_counter()
        given, _, steering = self._steered(vector, steering)
        check_prompt(prompt)
        settings = self._settings(sampling, max_tokens, system, choices, schema, grammar, task)
        if isinstance(query, Asked):
            asked = query
        elif prompt is None or task is not None or instruction is not None:
            asked = self._asked(query, task, instruction, given, steering, settings)
        else:
            asked = Asked(query, steering)
        return self._events(asked, prompt, given, settings, started)

    def _asked(
        self,
        query: str,
        task: str | None,
        instruction: str | None,
        given: TaskVector | None,
        steering: Steering,
        settings: _Settings,
    ) -> Asked:
        """What is read for a query. A vector that is given with it needs no generator, nor its bundle's instruction."""
        if given is not None and task is None and instruction is None:
            return Asked(query, steering)
        return self.asked(
            query, task=task, instruction=instruction, choices=settings.constraint.choices, steering=steering
        )

    def _settings(
        self,
        sampling: Sampling | None,
        max_tokens: int,
        system: str | None,
        choices: Choices | None,
        schema: Schema | None,
        grammar: str | Grammar | None,
        task: str | None,
    ) -> _Settings:
        check_settings(OFF, sampling, system)
        max_tokens = as_max_tokens(max_tokens)
        constraint = self.constraint(choices, schema, grammar, task=task) or Constraint()
        return _Settings(sampling or Sampling(), max_tokens, system, constraint)

    def _events(
        self,
        asked: Asked,
        prompt: Prompt | None,
        given: TaskVector | None,
        settings: _Settings,
        started: float,
    ) -> Generator[Event]:
        query, steering = asked.text, asked.steering
        if prompt is None or not (steering.off or given is not None):
            check_query(query)

        def find() -> GatedVector:
            return GatedVector(given, steering) if given is not None else self.gated(asked)

        prompts = self._prompts(settings.system)
        return self._answers.events(
            prompt or prompts(query),
            None if steering.off else find,
            self.steers_prefix(steering) if given is None else steering.positions.prefix,
            settings.sampling,
            settings.max_tokens,
            started,
            settings.constraint,
            lambda choice: prompts.answer_after(prompt, choice) if prompt else prompts.answer(query, choice),
        )

    def constraint(
        self,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
        *,
        task: str | None = None,
    ) -> Constraint | None:
        """What these arguments of `answer` restrict answers to, checked; None without one. With a `task`, `"auto"` are
        its labels.

        Raises:
            UsageError: more than one of them, one that cannot be used, or `"auto"` for bundles without labels.
        """
        manifests = [generator.bundle.manifest for generator in self.generators]
        return Constraint.of(of_task(choices, task), schema, grammar, bundles=manifests)

    def check_open(self) -> None:
        """Raise UsageError after `close`, and in a process that was forked after the target was loaded."""
        if self._closed:
            raise UsageError("the engine is closed; load it again")
        self.target.check_open()

    def close(self) -> None:
        """Free the target's context; an unfinished answer ends with a UsageError.

        The engine, its batches and its conversations cannot be used again. Calling it again does nothing.
        """
        self._closed = True
        self._answers.close()
        self.target.close()

    def __enter__(self) -> Self:
        self.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        steered_by = [repr(part) for part in (*self.generators, *self.control_vectors)]
        return f"Engine({', '.join([repr(self.target), *steered_by, repr(self.steering)])})"
