"""Downloads files of a Hugging Face repository into its cache, only those that are needed and new."""

from __future__ import annotations

import errno
import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from atv_local.data import HEAD_BYTES, FileKind, begins_gguf, kind_of_bytes
from atv_local.errors import AtvError, NotFoundError, first_line
from atv_local.generator import MANIFEST
from atv_local.names.gguf_names import choices_of_parts, quantisation_of
from atv_local.names.hub import HubName, files_of_bundle, no_model
from atv_local.names.stores import Kind

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_CARD = "README.md"
_MAX_LISTED = 40


def download(name: HubName, kind: Kind | None = None) -> Path:
    """The first file of a GGUF, or a bundle's folder, as it is on the hub now; with progress bars on stderr.

    Raises:
        NotFoundError: no such repository, nothing of that kind or quantisation in it, or no way to the hub.
        BundleError: a bundle whose manifest cannot be read.
    """
    if constants.HF_HUB_CACHE.startswith("~"):  # huggingface_hub would make a folder of that name
        raise NotFoundError(f"{name} cannot be saved: this user has no home folder; set HOME or HF_HOME to a folder")
    with _hub_errors(name):
        files = huggingface_hub.HfApi().list_repo_files(name.repo)
    if kind != "model" and not name.quant and MANIFEST in files:
        snapshot = _download(name, [MANIFEST])
        listed = files_of_bundle(snapshot)
        snapshot = _download(name, [MANIFEST, *listed, *({_CARD} & set(files))], revision=snapshot.name)
        _check_whole(name, snapshot, [MANIFEST, *listed])
        return snapshot
    if kind == "bundle":
        raise NotFoundError(f"{name} is not a bundle: it has no {MANIFEST}")
    parts = _choose_parts(name, files)
    snapshot = _download(name, parts)
    _check_whole(name, snapshot, parts)
    return snapshot / parts[0]


def _choose_parts(name: HubName, files: Sequence[str]) -> list[str]:
    """The files of the best choice that is a model, by what its beginning on the hub says."""
    others: dict[str, FileKind] = {}
    for parts in choices_of_parts(files, name.quant):
        with _hub_errors(name):
            hub = huggingface_hub.HfFileSystem(block_size=HEAD_BYTES, skip_instance_cache=True)  # which would be old
            head = hub.cat_file(f"{name.repo}/{parts[0]}", end=HEAD_BYTES)
        kind = kind_of_bytes(head)
        if not kind.is_other_gguf:
            return parts
        others[parts[0]] = kind
    if others:
        raise no_model(name, others)
    raise NotFoundError(_not_there(name, files))


def _download(name: HubName, files: Sequence[str], revision: str | None = None) -> Path:
    """The folder of one commit, by default the main branch's, with at least these files."""
    patterns = [glob.escape(file) for file in files]
    with _hub_errors(name):
        return Path(huggingface_hub.snapshot_download(name.repo, revision=revision, allow_patterns=patterns))


def _check_whole(name: HubName, snapshot: Path, files: Sequence[str]) -> None:
    """Raise NotFoundError unless all files are there: huggingface_hub ignores those that the repository lacks."""
    for file in files:
        if not (snapshot / file).is_file():
            raise NotFoundError(f"{name} is not whole: the repository has no {file}, or it has just changed; try again")


def _not_there(name: HubName, files: Sequence[str]) -> str:
    models = sorted({quantisation_of(file) or file for file in files if begins_gguf(file)})
    if not models:
        return f"{name} has no GGUF; name a repository with files that end in .gguf"
    return f"{name} has no whole GGUF of that quantisation; it has {', '.join(models[:_MAX_LISTED])}"


@contextmanager
def _hub_errors(name: HubName) -> Iterator[None]:
    try:
        yield
    except AtvError:
        raise
    except HFValidationError as error:
        raise NotFoundError(f"{str(name)!r} names no repository that the hub can have: {error}") from error
    except RepositoryNotFoundError as error:  # also raised for private and gated ones
        raise NotFoundError(
            f"there is no repository {name.repo} at {constants.ENDPOINT}, or you must log in to see it: hf auth login"
        ) from error
    except HfHubHTTPError as error:
        raise NotFoundError(f"cannot get {name} from {constants.ENDPOINT}: {first_line(error)}") from error
    except Exception as error:  # of requests or httpx, by huggingface_hub's version, and pages long
        if isinstance(error, OSError) and (error.errno in _NO_ROOM or (error.errno and error.filename)):
            raise NotFoundError(
                f"cannot write {name} to {constants.HF_HUB_CACHE}: {error.strerror}; "
                "make room there, or let HF_HUB_CACHE name another folder"
            ) from error
        why = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'no connection?'}"
        raise NotFoundError(
            f"cannot get {name} from {constants.ENDPOINT} ({why}); "
            f"where there is a network, get it with `atv_local.names.pull_name('{name}')`"
        ) from error
