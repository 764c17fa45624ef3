"""GGUFs and bundles in repositories of the Hugging Face Hub: found in its cache, or fetched into it.

huggingface_hub does the fetching. What is in the cache is used without asking the hub, so what was fetched once is
there without a network. Knows nothing of what the files hold, but that a bundle's manifest lists its files.
"""

from __future__ import annotations

import errno
import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # imported there, not listed

from atv_local.errors import AtvError, BundleError, NameNotFoundError
from atv_local.generator import MANIFEST, read_manifest

Kind = Literal["model", "bundle"]

PREFERRED = ("Q4_K_M", "Q4_0", "Q4_1", "Q5_K_M", "Q8_0")
"""Quantisations to take if none is named and there are several, best first; then the first file by name."""

_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?", re.ASCII)
_QUANTISATION = re.compile(r"(?<![a-z0-9])((?:ud-)?(?:i?q\d\w*|tq\d_\d|bf16|f16|f32|mxfp4\w*))(?!\w)", re.IGNORECASE)
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.DOTALL)
_MAX_PARTS = 1000
_NO_MODELS = ("mmproj", "imatrix")  # GGUFs of other things
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_CARD = "README.md"


@dataclass(frozen=True)
class Name:
    """A repository, and a quantisation if one is meant: `user/repo[:quant]`.

    Any part of a file's name, from one mark of punctuation to another, will do for the quantisation.
    """

    repo: str
    quant: str = ""

    @classmethod
    def parse(cls, text: str) -> Name:
        """NameNotFoundError for what is no such name."""
        match = _NAME.fullmatch(text)
        if match is None or ".." in text:
            raise NameNotFoundError(f"{f'hf:{text}'!r} is not of the form hf:user/repo or hf:user/repo:quantisation")
        try:
            validate_repo_id(match[1])
        except HFValidationError as error:
            raise NameNotFoundError(f"{f'hf:{text}'!r} names no repository that the hub can have: {error}") from error
        return cls(match[1], match[2] or "")

    def __str__(self) -> str:
        return f"hf:{self.repo}:{self.quant}" if self.quant else f"hf:{self.repo}"


def path(name: Name, kind: Kind | None = None, *, offline: bool = False) -> Path:
    """The first file of a GGUF, or a bundle's folder: from the cache, or else fetched.

    Args:
        kind: None takes the bundle, if the repository is one and no quantisation is named.
        offline: fetch nothing; so does HF_HUB_OFFLINE.

    Raises:
        NameNotFoundError: not in the cache and offline, or what `fetch` raises.
    """
    return find(name, kind) or fetch(name, kind, offline=offline)


def find(name: Name, kind: Kind | None = None) -> Path | None:
    """The same from the cache alone; None if it is not there, or not all of it."""
    for snapshot in _snapshots(name.repo):
        if kind != "model" and not name.quant and _is_whole_bundle(snapshot):
            return snapshot
        if kind != "bundle" and (parts := choose(ggufs(snapshot), name.quant)):
            return snapshot / parts[0]
    return None


def fetch(name: Name, kind: Kind | None = None, *, offline: bool = False) -> Path:
    """The same as it is on the hub now; only files that are not in the cache are downloaded, with bars on stderr.

    Raises:
        NameNotFoundError: no such repository, nothing of that kind or quantisation in it, or no way to the hub.
        BundleError: a bundle whose manifest cannot be read.
    """
    if offline or is_offline():
        raise NameNotFoundError(
            f"{name} is not in the cache of {constants.HF_HUB_CACHE}, and nothing is downloaded offline; "
            f"where there is a network, get it with: atv-local pull {name}"
        )
    with _asking(name):
        files = huggingface_hub.HfApi().list_repo_files(name.repo)
    if kind != "model" and not name.quant and MANIFEST in files:
        snapshot = _download(name, [MANIFEST])
        listed = _files_of_bundle(snapshot)
        wanted = [MANIFEST, *listed, *({_CARD} & set(files))]
        snapshot = _download(name, wanted, revision=snapshot.name)
        return _whole(name, snapshot, [MANIFEST, *listed], snapshot)
    if kind == "bundle":
        raise NameNotFoundError(f"{name} is no bundle: it has no {MANIFEST}")
    parts = choose(files, name.quant)
    if not parts:
        raise NameNotFoundError(_nothing(name, files))
    snapshot = _download(name, parts)
    return _whole(name, snapshot, parts, snapshot / parts[0])


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the hub."""
    return bool(constants.HF_HUB_OFFLINE)


def holds(path: Path) -> bool:
    """Whether a file or folder lies in the cache, or is a link to what does."""
    cache = Path(constants.HF_HUB_CACHE)
    return path.absolute().is_relative_to(cache.absolute()) or path.resolve().is_relative_to(cache.resolve())


def choose(names: Iterable[str], quant: str = "") -> list[str]:
    """The files of one GGUF, its first part first; none if there is no such quantisation, or not all of its parts."""
    there = set(names)
    firsts = sorted(filter(_begins_a_model, there))
    whole = [list(_parts(first)) for first in firsts if all(part in there for part in _parts(first))]
    for wanted in [quant] if quant else PREFERRED:
        pattern = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?!\w)", re.IGNORECASE)
        if found := next((parts for parts in whole if pattern.search(parts[0])), None):
            return found
    return whole[0] if whole and not quant else []


def parts_of(name: str) -> list[str]:
    """All files of the GGUF that begins with this one; one that is not cut up is its only part."""
    return list(_parts(name))


def quantisation(name: str) -> str:
    """What a GGUF's file name says it is stored as, such as `Q4_K_M`; empty if it does not say."""
    found = _QUANTISATION.findall(Path(name).name)
    return found[-1].upper() if found else ""


def ggufs(snapshot: Path) -> list[str]:
    """The GGUFs in a folder of the cache, by POSIX path."""
    return sorted(file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*.gguf") if file.is_file())


def cached() -> Iterator[tuple[Name, Kind, Path]]:
    """Every GGUF and bundle in the cache, by a name that `find` leads to it."""
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        try:
            Name.parse(repo)
        except NameNotFoundError:
            continue
        if bundle := find(Name(repo), "bundle"):
            yield Name(repo), "bundle", bundle
        seen = set()
        for snapshot in _snapshots(repo):
            for file in ggufs(snapshot):
                stem = _SHARD.sub(r"\1", file).removesuffix(".gguf").rpartition("/")[2]
                for name in (Name(repo, quantisation(file)), Name(repo, stem)):
                    if name.quant and name not in seen and find(name, "model") == snapshot / file:
                        seen.add(name)
                        yield name, "model", snapshot / file
                        break


def _parts(name: str) -> Iterator[str]:
    match = _SHARD.fullmatch(name)
    if match is None or not _can_be_first(match):
        yield name
    else:
        for number in range(1, int(match[3]) + 1):
            yield f"{match[1]}-{number:05d}-of-{match[3]}{match[4]}"


def _can_be_first(part: re.Match[str]) -> bool:
    """Whether a part is the first of as many as a model may have: the name is anybody's, and so is the number."""
    return 1 == int(part[2]) <= int(part[3]) <= _MAX_PARTS


def _begins_a_model(name: str) -> bool:
    match = _SHARD.fullmatch(name)
    file = name.rpartition("/")[2].lower()
    return file.endswith(".gguf") and not file.startswith(_NO_MODELS) and (match is None or _can_be_first(match))


def _nothing(name: Name, files: Sequence[str]) -> str:
    found = sorted({quantisation(file) or file for file in files if _begins_a_model(file)})
    if not found:
        return f"{name} has no GGUF; name a repository with files that end in .gguf"
    return f"{name} has no whole GGUF of that quantisation; it has {', '.join(found[:40])}"


def _snapshots(repo: str) -> list[Path]:
    """The commits of a repository that are in the cache: what its main branch was last seen at, then the newest."""
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    try:
        main = (folder / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        main = ""
    found = [snapshot for snapshot in (folder / "snapshots").glob("*") if snapshot.is_dir()]
    return sorted(found, key=lambda snapshot: (snapshot.name != main, -snapshot.stat().st_mtime))


def _is_whole_bundle(snapshot: Path) -> bool:
    if not (snapshot / MANIFEST).is_file():
        return False
    try:
        return all((snapshot / name).is_file() for name in _files_of_bundle(snapshot))
    except (BundleError, OSError):
        return False


def _files_of_bundle(snapshot: Path) -> list[str]:
    return list(read_manifest(snapshot)[0].files)


def _download(name: Name, files: Sequence[str], revision: str | None = None) -> Path:
    """The folder of one commit, by default the main branch's, with at least these files."""
    patterns = [glob.escape(file) for file in files]
    with _asking(name):
        return Path(huggingface_hub.snapshot_download(name.repo, revision=revision, allow_patterns=patterns))


def _whole(name: Name, snapshot: Path, files: Sequence[str], found: Path) -> Path:
    """`found`, if all these files are there: the library passes over those that the repository lacks."""
    for file in files:
        if not (snapshot / file).is_file():
            raise NameNotFoundError(
                f"{name} is not whole: the repository has no {file}, or it has just changed; try again"
            )
    return found


@contextmanager
def _asking(name: Name) -> Iterator[None]:
    try:
        yield
    except AtvError:
        raise
    except RepositoryNotFoundError as error:  # as private and gated ones look to a stranger
        raise NameNotFoundError(
            f"there is no repository {name.repo} at {constants.ENDPOINT}, or it wants you to log in: hf auth login"
        ) from error
    except HfHubHTTPError as error:
        raise NameNotFoundError(
            f"cannot get {name} from {constants.ENDPOINT}: {(str(error).strip() or repr(error)).splitlines()[0]}"
        ) from error
    except Exception as error:  # of requests or httpx, by the library's version, and pages long
        if isinstance(error, OSError) and (error.errno in _NO_ROOM or (error.errno and error.filename)):
            raise NameNotFoundError(
                f"cannot keep {name} in {constants.HF_HUB_CACHE}: {error.strerror}; "
                "make room there, or let HF_HUB_CACHE name another folder"
            ) from error
        why = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'no connection?'}"
        raise NameNotFoundError(
            f"cannot get {name} from {constants.ENDPOINT} ({why}); "
            f"where there is a network, get it with: atv-local pull {name}"
        ) from error
