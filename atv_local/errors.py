"""Every error that a user can cause. A message is one sentence with the offending value and the way out.

Messages name Python parameters in backticks, such as `max_tokens` or `overwrite=True`. The command line replaces them
with its flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atv_local.text import one_line, shown

if TYPE_CHECKING:
    from pydantic import ValidationError

_MAX_MESSAGE = 2000


class AtvError(Exception):
    """Base of every error a user can cause. The CLI prints the message and exits with `exit_code`.

    As text it is one printable line, whatever names and values from files it contains.
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__()[:_MAX_MESSAGE])


class UsageError(AtvError, ValueError):
    """An invalid argument: an empty query, a layer range that the target does not have."""

    exit_code = 2


class NotFoundError(AtvError, FileNotFoundError):
    """A path or a name for which there is nothing on this machine."""


class PluginError(AtvError):
    """A plug-in of another package cannot be loaded, or fails with an error of its own."""


class ModelError(AtvError):
    """The GGUF cannot be loaded, or llama.cpp does not steer its architecture."""


class UnstableError(ModelError):
    """Logits that are not finite, as under a vector that is too strong."""


class GrammarError(ModelError):
    """An answer that cannot go on under its grammar or schema, or a grammar that takes too much work to follow."""


class BundleError(AtvError):
    """The bundle is damaged, of a later format, or made for another target."""


class MismatchError(BundleError):
    """The generator bundle was made for another target."""


class VectorError(AtvError, ValueError):
    """A task vector with the wrong shape or with values that are not finite."""


class PromptError(AtvError):
    """The prompt does not fit the context."""


class DataError(AtvError, ValueError):
    """A file or row of data that cannot be used, named by file and line."""


class TrainingError(AtvError):
    """Training that cannot continue, such as a loss that is not finite."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 300 characters; its class where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def first_problem(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """The first problem that pydantic found, as `field: message`.

    Args:
        names: what to call top-level fields, where the user knows them by other names.
    """
    problem = error.errors(include_url=False)[0]
    first, *inner = problem["loc"] or ("",)
    field = ".".join(map(str, [(names or {}).get(str(first), first), *inner]))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"].endswith("_parsing"):  # the rest repeats it in other words
        message = message.partition(",")[0]
    value = problem["input"]
    if message.startswith("Input should be ") and isinstance(value, str | int | float):
        message += f", not {shown(value)}"
    return f"{field}: {message}" if field else message
