"""Models that Ollama has pulled, read where it stores them. Asks no server, copies nothing, trusts no file.

Layout (github.com/ollama/ollama, docs and server/internal): `manifests/HOST/USER/NAME/TAG` is JSON that lists layers
by digest; each is `blobs/sha256-HEX`, a file or a link to one. The layer of the media type below is a GGUF.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from atv_local.data import reading
from atv_local.errors import NotFoundError, first_problem
from atv_local.names import Kind, ListedName

_MODEL = "application/vnd.ollama.image.model"
_ADAPTER = "application/vnd.ollama.image.adapter"
_PROMPT = {
    "application/vnd.ollama.image.template": "template",
    "application/vnd.ollama.image.prompt": "template",
    "application/vnd.ollama.image.system": "system message",
    "application/vnd.ollama.image.messages": "first messages",
    "application/vnd.ollama.image.params": "params",
}
"""Layers that say how Ollama asks the model. Its templates are in a language of Go's."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,340}(?::\d{1,5})?")
_DEFAULTS = ("registry.ollama.ai", "library")
_MAX_JSON = 1 << 20


class _Layer(BaseModel):
    mediaType: str = ""  # noqa: N815  # as it is written
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: int


class _Manifest(BaseModel):
    layers: list[_Layer]
    config: _Layer | None = None


class _Config(BaseModel):
    file_type: str = ""


@dataclass(frozen=True)
class OllamaName:
    """`[[host/]user/]name[:tag]`, as Ollama takes it."""

    host: str
    user: str
    name: str
    tag: str = "latest"

    @classmethod
    def parse(cls, text: str) -> OllamaName:
        """NotFoundError for text that is not such a name, such as one with a `..` in it."""
        last, _, tag = text.rpartition("/")[2].partition(":")
        *before, _ = text.split("/")
        host, user = (*_DEFAULTS[: 2 - len(before)], *before) if len(before) <= 2 else ("", "")
        if not (_HOST.fullmatch(host) and all(map(_PART.fullmatch, (user, last, tag or "latest")))):
            raise NotFoundError(f"{f'ollama:{text}'!r} is not of the form ollama:name:tag or ollama:user/name:tag")
        return cls(host, user, last, tag or "latest")

    @property
    def text(self) -> str:
        """The shortest that `parse` takes, with the tag."""
        before = (self.host, self.user)
        shown = () if before == _DEFAULTS else before[1:] if self.host == _DEFAULTS[0] else before
        return f"{'/'.join((*shown, self.name))}:{self.tag}"

    def __str__(self) -> str:
        return f"ollama:{self.text}"


class OllamaStore:
    """The `NameStore` of the scheme `ollama`, in OLLAMA_MODELS or else in the folders of user and service."""

    def __init__(self) -> None:
        service = Path("/usr/share/ollama/.ollama/models")
        if given := os.environ.get("OLLAMA_MODELS"):
            self._folders = [Path(given)]
            return
        try:
            self._folders = [Path.home() / ".ollama" / "models", service]
        except RuntimeError:  # a user without a home
            self._folders = [service]

    def resolve(self, name: str, kind: Kind | None, *, offline: bool) -> Path:
        """The GGUF of a model; nothing is ever downloaded.

        Raises:
            NotFoundError: no such model here, one that is not a single GGUF, a bundle is wanted, or files that cannot
                be read or are not what Ollama writes.
        """
        del offline
        parsed = OllamaName.parse(name)
        if kind == "bundle":
            raise NotFoundError(f"{parsed} is a model, and Ollama has no bundles; name a bundle in another way")
        for folder in self._folders:
            if _exists(file := _place(folder, parsed)):
                manifest = _manifest(file)
                gguf = _gguf(folder, manifest, parsed)
                _warn_of_prompts(parsed, manifest)
                return gguf
        places = " or ".join(map(str, self._folders))
        raise NotFoundError(f"there is no {parsed} in {places}; get it with: ollama pull {parsed.text}")

    def full_name(self, name: str) -> str:
        """The name with its tag, `latest` if it names none."""
        return OllamaName.parse(name).text

    def names(self) -> Iterator[ListedName]:
        """Every model, also those that `resolve` refuses.

        Raises:
            NotFoundError: a folder that cannot be read, after the names in the others.
        """
        failure = None
        for folder in self._folders:
            try:
                yield from (ListedName(name.text, _quantisation(folder, name)) for name in _names(folder))
            except NotFoundError as error:
                failure = failure or error
        if failure:
            raise failure

    def is_available(self) -> bool:
        """Whether there is a folder of Ollama's."""
        return any(map(_exists, self._folders))


def _names(folder: Path) -> Iterator[OllamaName]:
    manifests = folder / "manifests"
    if not _exists(manifests):
        return
    with reading(manifests, NotFoundError):
        files = sorted(manifests.glob("*/*/*/*")) if any(manifests.iterdir()) else []
    for file in files:
        with suppress(NotFoundError):  # another program's file
            yield OllamaName.parse(":".join(file.relative_to(manifests).as_posix().rsplit("/", 1)))


def _quantisation(folder: Path, name: OllamaName) -> str:
    """What Ollama says a model is stored as, such as `Q4_K_M`; empty if it does not say."""
    with suppress(ValidationError, NotFoundError):
        if config := _manifest(_place(folder, name)).config:
            return _Config.model_validate_json(_bytes(_blob(folder, config))).file_type
    return ""


def _place(folder: Path, name: OllamaName) -> Path:
    return folder / "manifests" / name.host / name.user / name.name / name.tag


def _gguf(folder: Path, manifest: _Manifest, name: OllamaName) -> Path:
    models = [layer for layer in manifest.layers if layer.mediaType == _MODEL]
    if len(models) != 1:
        raise NotFoundError(f"{name} is not one GGUF but {len(models)} of them, which cannot be read here")
    if any(layer.mediaType == _ADAPTER for layer in manifest.layers):
        raise NotFoundError(
            f"{name} is a model with an adapter, which would be left out here; merge it into a GGUF first"
        )
    return _blob(folder, models[0])


def _warn_of_prompts(name: OllamaName, manifest: _Manifest) -> None:
    unused = dict.fromkeys(_PROMPT[layer.mediaType] for layer in manifest.layers if layer.mediaType in _PROMPT)
    if unused:
        warnings.warn(
            f"{name} has its own {' and '.join(unused)} in Ollama, not used here: prompts follow the chat template in "
            "the GGUF, and a system message and settings are those that are given",
            stacklevel=3,
        )


def _blob(folder: Path, layer: _Layer) -> Path:
    """The file of a layer. It may be a link, as where a model was made of a file that stays in its place."""
    blobs = folder / "blobs"
    file = blobs / layer.digest.replace(":", "-")
    if not file.exists() and (old := blobs / layer.digest).exists():  # as old versions of Ollama named them
        file = old
    where = f"{file} (a link to {file.resolve()})" if file.is_symlink() else str(file)
    try:
        size = file.stat().st_size
    except OSError as error:
        raise NotFoundError(f"cannot read {where}: {error.strerror or error}; get it again with ollama pull") from error
    if not file.is_file():
        raise NotFoundError(f"{where} is not a regular file")
    if size != layer.size:
        remedy = "make it again with ollama create" if file.is_symlink() else "get it again with ollama pull"
        raise NotFoundError(f"{where} has {size} bytes, not the {layer.size} of its manifest; {remedy}")
    return file


def _manifest(file: Path) -> _Manifest:
    try:
        return _Manifest.model_validate_json(_bytes(file))
    except ValidationError as error:
        raise NotFoundError(f"{file} is not a manifest of Ollama's: {first_problem(error)}") from error


def _bytes(file: Path) -> bytes:
    with reading(file, NotFoundError):
        if not file.is_file():
            raise NotFoundError(f"{file} is not a regular file")
        with file.open("rb") as opened:
            raw = opened.read(_MAX_JSON + 1)
    if len(raw) > _MAX_JSON:
        raise NotFoundError(f"{file} is larger than {_MAX_JSON} bytes, as no manifest of Ollama's is")
    return raw


def _exists(file: Path) -> bool:
    """NotFoundError if that cannot be known, as in the folder of a service that keeps it to itself."""
    with reading(file, NotFoundError):
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True
