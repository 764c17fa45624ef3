"""GGUFs and bundles in repositories of the Hugging Face Hub that are in its cache on this machine.

What is in the cache is used without asking the hub, so what was downloaded once is there without a network.
huggingface_hub downloads (`hub_download`), and this module reads the folders that it writes: its own
`scan_cache_dir` takes most of a second to import, and fails for a whole cache in which one file cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from atv_local.data import FileKind, file_kind
from atv_local.errors import BundleError, NotFoundError
from atv_local.generator import MANIFEST, read_manifest
from atv_local.names.gguf_names import choices_of_parts, quantisation_of, stem_of
from atv_local.names.stores import Kind, ListedName

_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """A repository, and a quantisation if one is meant: `user/repo[:quant]`.

    Any part of a file's name, from one mark of punctuation to another, will do for the quantisation.
    """

    repo: str
    quant: str = ""

    @classmethod
    def parse(cls, text: str) -> HubName:
        """NotFoundError for text that is not such a name."""
        match = _NAME.fullmatch(text)
        if match is None or ".." in text:
            raise NotFoundError(
                f"{f'hf:{text}'!r} is not of the form hf:user/repo or hf:user/repo:PART, "
                "where PART is a quantisation or another part of a file's name"
            )
        return cls(match[1], match[2] or "")

    @property
    def text(self) -> str:
        """The name in the form that `parse` reads."""
        return f"{self.repo}:{self.quant}" if self.quant else self.repo

    def __str__(self) -> str:
        return f"hf:{self.text}"


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the hub."""
    return bool(constants.HF_HUB_OFFLINE)


def is_cached(path: Path) -> bool:
    """Whether a file or folder is in the cache, or is a link to what is."""
    cache = Path(constants.HF_HUB_CACHE)
    return path.absolute().is_relative_to(cache.absolute()) or path.resolve().is_relative_to(cache.resolve())


def find(name: HubName, kind: Kind | None = None) -> Path | None:
    """What a name stands for in the cache; None if it is not there, or not all of it."""
    for snapshot in _snapshots(name.repo):
        if kind != "model" and not name.quant and _is_whole_bundle(snapshot):
            return snapshot
        if kind != "bundle":
            files = (snapshot / parts[0] for parts in choices_of_parts(_ggufs(snapshot), name.quant))
            if file := next((file for file in files if not _other_gguf(file)), None):
                return file
    return None


def other_ggufs(name: HubName) -> dict[str, FileKind]:
    """The GGUFs in the cache that a name could mean, but that are no models."""
    return {
        parts[0]: kind
        for snapshot in _snapshots(name.repo)
        for parts in choices_of_parts(_ggufs(snapshot), name.quant)
        if (kind := _other_gguf(snapshot / parts[0]))
    }


def no_model(name: HubName, others: Mapping[str, FileKind]) -> NotFoundError:
    """The error for a name that only GGUFs of other kinds could be meant by."""
    return NotFoundError(f"{name} has no model: {'; '.join(f'{file} is {others[file].words}' for file in others)}")


def files_of_bundle(snapshot: Path) -> list[str]:
    """The files that the manifest in a folder names.

    Raises:
        BundleError: a manifest that cannot be read.
    """
    return list(read_manifest(snapshot)[0].files)


def cached_names(only: str = "") -> Iterator[ListedName]:
    """Every GGUF and bundle in the cache, or in that of one repository."""
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        if only and repo != only:
            continue
        try:
            HubName.parse(repo)
        except NotFoundError:
            continue
        if find(HubName(repo), "bundle"):
            yield ListedName(repo)
        yield from _models(repo)


def _models(repo: str) -> Iterator[ListedName]:
    """Each GGUF in the cache of a repository, by a name that `find` leads to it."""
    seen = set()
    for snapshot in _snapshots(repo):
        for file in _ggufs(snapshot):
            for quant in (quantisation_of(file), stem_of(file)):
                name = HubName(repo, quant)
                if quant and name not in seen and find(name, "model") == snapshot / file:
                    seen.add(name)
                    yield ListedName(name.text, quantisation_of(file))
                    break


def _other_gguf(file: Path) -> FileKind | None:
    """The kind of a GGUF that is not a model; None for a model, and for what cannot be read."""
    try:
        kind = file_kind(file)
    except OSError:
        return None
    return kind if kind.is_other_gguf else None


def _ggufs(snapshot: Path) -> list[str]:
    files = (file for file in snapshot.rglob("*.*") if file.suffix.lower() == ".gguf" and file.is_file())
    return sorted(file.relative_to(snapshot).as_posix() for file in files)


def _snapshots(repo: str) -> list[Path]:
    """The commits of a repository that are in the cache: what its main branch was last seen at, then the newest."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    try:
        main = (folder / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        main = ""
    snapshots = [snapshot for snapshot in (folder / "snapshots").glob("*") if snapshot.is_dir()]
    return sorted(snapshots, key=lambda snapshot: (snapshot.name != main, -snapshot.stat().st_mtime))


def _is_whole_bundle(snapshot: Path) -> bool:
    if not (snapshot / MANIFEST).is_file():
        return False
    try:
        return all((snapshot / name).is_file() for name in files_of_bundle(snapshot))
    except (BundleError, OSError):
        return False
