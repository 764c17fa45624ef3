"""The model `atv` of the program llm (llm.datasette.io): `llm -m atv "your query"`, steered as `atv-local run` is.

llm imports this file whenever it starts, so heavy packages are imported with the first answer. Names, aliases and
defaults are those of atv-local; llm saves options of its own: `llm models options set atv model NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import llm
from llm.parts import ReasoningPart, TextPart
from pydantic import Field

from atv_local.errors import AtvError, UsageError
from atv_local.vectors import Positions, parse_gate, parse_layers

if TYPE_CHECKING:
    from atv_local.answer import Engine
    from atv_local.target import Message

_worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="atv")
"""Gives one answer after another, as an engine must, however slowly or in whichever thread each is read."""


class Atv(llm.Model):
    """A GGUF that answers each query, or each turn of a conversation, under the task vector of those words alone."""

    model_id = "atv"
    can_stream = True
    supports_schema = True

    class Options(llm.Options):
        """All are None unless given: llm would prefer any other default to what a user has set for the model."""

        model: str | None = Field(
            None, description="Target, as atv-local -m; default: ATV_MODEL, then the config file, then embedded"
        )
        bundle: str | None = Field(
            None,
            description="Bundle, as atv-local -g, or several, separated by commas: each query goes to the one whose "
            "gate accepts it best; default: ATV_BUNDLE, then the config file, then embedded",
        )
        strength: float | None = Field(
            None, description="Multiply the task vector by this factor; default: the bundle's"
        )
        layers: str | None = Field(None, description="Steer only these layers, such as 5-20")
        positions: Positions | None = Field(
            None,
            description="Steer all tokens, only the last prompt token (last), or that token and the answer (decode)",
        )
        gate: str | float | None = Field(
            None,
            description="Steer queries whose score as part of the bundle's tasks, 0 to 1, is at least this; default: "
            "auto, which is 0.5; off steers every query",
        )
        task: str | None = Field(None, description="Put the instruction of this task of the bundle before the query")
        instruction: str | None = Field(None, description="Put this instruction before the query, and choices after it")
        control_vectors: str | None = Field(
            None,
            description="Steer with these control-vector GGUFs, each FILE or FILE:SCALE, separated by commas: "
            "in addition to a bundle that is named, else instead of one",
        )
        off: bool | None = Field(None, description="Turn steering off: answer with the base model")
        temperature: float | None = Field(
            None, description="Sample at this temperature; 0, the default, takes the most likely token"
        )
        top_p: float | None = Field(
            None, description="Sample from the most likely tokens up to this probability; default: 0.95"
        )
        top_k: int | None = Field(None, description="Sample from this many of the most likely tokens; default: 40")
        seed: int | None = Field(None, description="Sample with this seed; default: random")
        max_tokens: int | None = Field(None, description="Stop each answer after this many tokens; default: 256")
        choices: str | None = Field(
            None,
            description="Answer with one of these texts: separated by commas, the lines of a file, or the bundle's own "
            "labels (auto)",
        )
        grammar: str | None = Field(
            None,
            description="Answer with a text that the grammar in this file allows, in llama.cpp's GBNF",
        )
        template_variables: str | None = Field(
            None,
            description="Set variables of the chat template, as a JSON object or one NAME=VALUE, such as "
            "enable_thinking=false; default: the bundle's",
        )
        n_ctx: int | None = Field(None, description="Context size in tokens; default: 2048")

    def execute(
        self, prompt: llm.Prompt, stream: bool, response: llm.Response, conversation: llm.Conversation | None
    ) -> Iterator[str]:
        """Answer piece by piece; what was done is in the response's usage and `response_json`.

        Raises:
            llm.ModelError: for an AtvError, in its words.
        """
        del stream, conversation  # llm joins the pieces, and `prompt.messages` has the earlier turns
        pieces: SimpleQueue[str | None] = SimpleQueue()
        unread = Event()
        answer = _worker.submit(_answer, prompt, pieces.put, unread)
        answer.add_done_callback(lambda _: pieces.put(None))
        try:
            yield from iter(pieces.get, None)
            record = answer.result()
        except AtvError as error:
            raise llm.ModelError(str(error)) from error
        finally:
            unread.set()
        response.response_json = record
        response.set_resolved_model(record["model"])
        response.set_usage(input=record["tokens"]["prompt"], output=record["tokens"]["generated"])


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Tell llm of the model."""
    register(Atv(), aliases=("atv-local",))


def _answer(prompt: llm.Prompt, say: Callable[[str], None], unread: Event) -> dict[str, Any]:
    """Pass an answer to `say` until it ends or its reader stops; return its record as `run --json` has it."""
    from atv_local.answer import Answer, parse_choices, read_grammar, with_last_query
    from atv_local.target import Sampling
    from atv_local.vectors import OFF, parse_vector_file, split_files

    options = cast(Atv.Options, prompt.options)
    messages = _messages(prompt.messages)
    changes = _given(options, "strength", "positions")
    if options.layers is not None:
        changes["layers"] = parse_layers(options.layers)
    if options.gate is not None:
        changes["gate"] = parse_gate(str(options.gate))
    sampling = Sampling(**_given(options, "temperature", "top_p", "top_k", "seed"))
    files = split_files(options.control_vectors) if options.control_vectors else []
    vectors = tuple(map(parse_vector_file, files))
    engine = _loaded(
        options.model, options.bundle, bool(options.off), options.n_ctx, vectors, options.template_variables
    )
    how = replace(engine.steering, **changes)
    restriction: dict[str, Any] = {
        "choices": None if options.choices is None else parse_choices(options.choices),
        "grammar": None if options.grammar is None else read_grammar(Path(options.grammar)),
        "schema": cast("dict[str, Any] | None", prompt.schema),
    }
    constraint = engine.constraint(**restriction, task=options.task)
    asked = engine.asked(
        messages[-1]["content"],
        **_given(options, "task", "instruction"),
        choices=constraint.choices if constraint else (),
        steering=OFF if options.off else how,
    )
    for event in engine.stream(
        asked,
        task=asked.task,
        steering=asked.steering,
        sampling=sampling,
        prompt=engine.prompts.conversation(with_last_query(messages, asked.text), engine.target.n_ctx),
        **restriction,
        **_given(options, "max_tokens"),
    ):
        say(event.text)
        if unread.is_set():
            break
    record = Answer.of_event(engine, asked.steering, "", event, asked=asked).as_dict()
    del record["text"]  # llm keeps it
    return {"model": engine.target.name} | record


def _given(options: Atv.Options, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


@lru_cache(maxsize=1)
def _loaded(
    model: str | None,
    bundle: str | None,
    off: bool,
    n_ctx: int | None,
    vectors: tuple[tuple[Path, float], ...],
    variables: str | None,
) -> Engine:
    """Cached, since llm makes a model for each call, and a chat makes many calls."""
    from atv_local.answer import load
    from atv_local.data import parse_template_variables
    from atv_local.names import split_names

    bundles = None if bundle is None else split_names(bundle)
    values = None if variables is None else parse_template_variables([variables])
    return load(model, bundles, off=off, n_ctx=n_ctx, control_vectors=vectors, template_variables=values)


def _messages(turns: Sequence[llm.Message]) -> list[Message]:
    """A conversation as the chat template takes it; reasoning that another model wrote down is left out.

    Raises:
        UsageError: one that does not end in the user's words, has more in it than text, or a role that `Engine.chat`
            refuses.
    """
    from atv_local.answer import as_message

    messages: list[Message] = []
    for message in turns:
        for part in message.parts:
            if not isinstance(part, TextPart | ReasoningPart):
                raise UsageError(f"the model atv reads text only, and this conversation has a {part.to_dict()['type']}")
        if message.role == "user" and messages and messages[-1]["role"] == "user":
            messages.append({"role": "assistant", "content": ""})  # llm keeps no answer that was empty
        text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
        messages.append(as_message({"role": message.role, "content": text}))
    if not messages or messages[-1]["role"] != "user":
        raise UsageError("there is no query; give one")
    return messages
