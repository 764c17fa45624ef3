"""Functions of many options whose arguments are checked when they are called, by the types in their signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from atv_local.errors import AtvError, UsageError
from atv_local.text import shown

_P = ParamSpec("_P")
_R = TypeVar("_R")
_ANY_TYPE = ConfigDict(arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Expected:
    """What a type of an argument is in words, for the message about any other value."""

    text: str


def checked_arguments(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, with every argument checked and converted by pydantic.

    It raises UsageError for the first argument that does not fit, with its name, its value and what is expected. `help`
    shows plain types in place of the names that the signature has for them.
    """
    signature = inspect.signature(function)
    given = list(signature.parameters)

    @cache
    def types() -> dict[str, tuple[TypeAdapter[Any], str]]:
        hints = get_type_hints(function, include_extras=True)
        return {name: (TypeAdapter(hints[name], config=_ANY_TYPE), _expected(hints[name])) for name in given}

    @wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            arguments = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{function.__name__}() {error}") from None
        for name, value in arguments.arguments.items():
            arguments.arguments[name] = _checked(name, value, *types()[name])
        return function(*arguments.args, **arguments.kwargs)

    checked.__signature__ = _plain_signature(function, signature)  # type: ignore[attr-defined]  # read by inspect
    return checked


def _plain_signature(function: Callable[..., Any], signature: inspect.Signature) -> inspect.Signature:
    hints = {name: _ShortType(_short(hint)) for name, hint in get_type_hints(function).items()}
    parameters = []
    for name, parameter in signature.parameters.items():
        default = parameter.default
        if isinstance(default, Enum):
            default = default.value
        elif isinstance(default, Mapping):
            default = dict(default)
        parameters.append(parameter.replace(annotation=hints[name], default=default))
    return signature.replace(parameters=parameters, return_annotation=hints["return"])


class _ShortType(str):
    """An annotation that `help` shows without quotes."""

    __repr__ = str.__str__


def _short(hint: Any) -> str:
    """A type without the modules that its parts are in."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " | ".join(map(_short, parts))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_short, parts))}]"
    return "None" if hint is NoneType else str(hint.__name__)


def _checked(name: str, value: Any, adapter: TypeAdapter[Any], expected: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if isinstance(reason := problem.get("ctx", {}).get("error"), AtvError):
                raise reason from None
        raise UsageError(f"`{name}` {shown(value)} is not {expected}") from None


def _expected(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((part.text for part in parts if isinstance(part, Expected)), None) or _expected(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_expected(part) for part in parts if part is not NoneType))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    return f"of type {getattr(hint, '__name__', hint)}"


def _plain(value: Any) -> Any:
    """A NumPy scalar or array as Python's own numbers."""
    import numpy as np

    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _possible_path(value: Any) -> Any:
    if isinstance(value, str | Path) and str(value) and "\0" not in str(value):
        return value
    raise ValueError


plain = BeforeValidator(_plain)
Switch = Annotated[bool, Strict(), plain, Expected("True or False")]
WholeNumber = Annotated[int, Strict(), plain, Expected("a whole number")]
CountOrZero = Annotated[int, Strict(), Field(ge=0), plain, Expected("a whole number of 0 or more")]
Count = Annotated[int, Strict(), Field(ge=1), plain, Expected("a whole number of 1 or more")]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False), plain, Expected("a finite number")]
NumberOrZero = Annotated[
    float, Strict(), Field(ge=0, allow_inf_nan=False), plain, Expected("a finite number of 0 or more")
]
PathOrName = Annotated[str | Path, BeforeValidator(_possible_path), Expected("a path or a name")]
PathsOrNames = Annotated[
    PathOrName | Annotated[Sequence[PathOrName], Field(min_length=1)], Expected("a path or a name, or a list of them")
]
FilePath = Annotated[str | Path, BeforeValidator(_possible_path), Expected("a path")]
DataPaths = Annotated[
    FilePath | Annotated[Sequence[FilePath], Field(min_length=1)], Expected("a path, or a list of one or more paths")
]
FilePaths = Annotated[FilePath | Sequence[FilePath], Expected("a path or a list of paths")]
ColumnNames = Annotated[
    Mapping[str, str], Expected('a mapping of parts of a row to names, such as {"input": "question"}')
]
