"""Options as llama.cpp's programs call them, for commands that are known from there. They are not in the help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from atv_local.errors import UsageError


@dataclass(frozen=True)
class LlamaOption:
    """Another way to give a parameter.

    Attributes:
        flags: its names there.
        kind: the type of its value.
        parameter: the parameter of ours.
        convert: from its value to that of the parameter.
    """

    flags: tuple[str, ...]
    kind: Any
    parameter: str
    convert: Callable[[Any], Any] = lambda value: value

    @property
    def name(self) -> str:
        """A Python name, of its last flag."""
        return "llama_" + self.flags[-1].lstrip("-").replace("-", "_")

    def declare(self) -> inspect.Parameter:
        """The option as typer reads it."""
        option = typer.Option(*self.flags, hidden=True, help="Another name for an option, as in llama.cpp.")
        annotation = Annotated[self.kind | None, option]  # type: ignore[name-defined]  # it is made at run time
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


LLAMA_OPTIONS = (
    LlamaOption(("-hf", "-hfr", "--hf-repo"), str, "model", lambda name: f"hf:{name.removeprefix('hf:')}"),
    LlamaOption(("-p", "--prompt"), str, "query", lambda text: [text]),
    LlamaOption(("-sys", "--system-prompt"), str, "system"),
    LlamaOption(("--predict", "--n-predict"), int, "max_tokens"),
    LlamaOption(
        ("--control-vector-layer-range",), tuple[int, int], "layers", lambda layers: f"{layers[0]}-{layers[1]}"
    ),
    LlamaOption(("-jf", "--json-schema-file"), Path, "schema"),
    LlamaOption(("--grammar-file",), Path, "grammar"),
)


def options_for(parameters: Iterable[str]) -> list[LlamaOption]:
    """Those for a command with these parameters."""
    known = set(parameters)
    return [option for option in LLAMA_OPTIONS if option.parameter in known]


def take_llama_options(values: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Move what was given by the names of llama.cpp to the parameters of ours.

    Raises:
        UsageError: both were given.
    """
    for option in options_for(defaults):
        value = values.pop(option.name)
        if value is None:
            continue
        if values[option.parameter] != defaults[option.parameter]:
            raise UsageError(f"{option.flags[-1]} is another name for `{option.parameter}`; give one of them")
        values[option.parameter] = option.convert(value)
