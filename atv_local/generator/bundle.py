"""The generator on disk: manifest, file checks, and whether it was made for a target. Runs no code of the bundle.

Layout and rules: docs/reference/bundle-format.md. A bundle is a folder or a zip of it; both are read as bytes that have
been checked against the manifest, so nothing native sees an unchecked file.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from atv_local.data import ZIP, as_path, file_kind
from atv_local.errors import BundleError, MismatchError, NotFoundError, first_problem
from atv_local.generator.manifest import Manifest
from atv_local.generator.providers import Precision
from atv_local.text import some_of
from atv_local.vectors import TargetSpec

MANIFEST = "atv.json"
TOKENIZER = "tokenizer.json"
GRAPHS: dict[Precision, str] = {
    "int8": "onnx/model_int8.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "fp32": "onnx/model.onnx",
}
"""Where a bundle has the graph of each precision."""

_PIECE = 1 << 20
_MAX_MANIFEST = _PIECE
_MAX_TOKENIZER = 64 << 20  # what the manifest allows any file is meant for graphs
_MAX_RATIO = 100  # of a zip's member to its compressed bytes; weights and JSON stay far below


class Bundle:
    """An opened bundle whose every file matches its manifest.

    Args:
        path: a folder, or a zip of one.
        manifest: the manifest of a bundle that does not have its manifest file yet.

    Raises:
        NotFoundError: the path does not exist.
        BundleError: damaged, from a later version of the format, or with a path outside its folder.
    """

    def __init__(self, path: str | Path, *, manifest: bytes | None = None) -> None:
        self.path = path = as_path("bundle", path, exists=manifest is None)
        self.written = manifest is None
        """Whether its manifest file is there, so that another process can open it."""
        raw = _manifest_bytes(path) if manifest is None else manifest
        self.manifest = _parse(raw, path)
        self.manifest_bytes = raw
        """The manifest as it is written, with what this version does not know."""
        self.id = hashlib.sha256(raw).hexdigest()[:12]
        """Names this very bundle: the first 12 hexadecimal digits of its manifest's SHA-256."""
        files = self.manifest.files
        self.graphs = {precision: name for precision, name in GRAPHS.items() if name in files}
        """The graphs it has, by precision."""
        if not self.graphs or TOKENIZER not in files:
            raise BundleError(f"the bundle {path} lists no {TOKENIZER if self.graphs else 'graph'}; export it again")
        for name in files:
            self._checked(name, keep=False)

    def __repr__(self) -> str:
        return f"Bundle({self.path.name!r}, id {self.id}, for {self.manifest.target.name!r})"

    @property
    def trained_layers(self) -> tuple[int, int] | None:
        """First and last layer the generator was trained for, None for all; a calibration may choose fewer."""
        return self.manifest.injection.layers

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, checked as they are read."""
        return self._checked(name, keep=True)

    def check_target(self, found: TargetSpec) -> None:
        """Raise MismatchError, with both values in it, unless the bundle was made for a target like this one."""
        if mismatch := self.manifest.target.mismatch(found):
            raise MismatchError(
                f"the bundle {self.path} was {mismatch}; name one for this model with `bundle=...`, or pass `off=True`"
            )

    def _checked(self, name: str, *, keep: bool) -> bytes:
        """Read a file in pieces and check it; without `keep` memory stays at one piece."""
        entry = self.manifest.files[name]
        if name == TOKENIZER and entry.size > _MAX_TOKENIZER:
            raise BundleError(f"the bundle {self.path} has a {name} of {entry.size} bytes, more than can be loaded")
        digest, size, pieces = hashlib.sha256(), 0, []
        for piece in _pieces(self.path, name):
            size += len(piece)
            if size > entry.size:
                break
            digest.update(piece)
            if keep:
                pieces.append(piece)
        if size != entry.size or digest.hexdigest() != entry.sha256:
            raise BundleError(f"the bundle {self.path} is damaged: {name} is not the file its manifest describes")
        return b"".join(pieces)


def read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """The manifest of a bundle and its bytes; other files are not read.

    Raises:
        BundleError: no bundle, or a manifest that is not valid.
        NotFoundError: the path does not exist.
    """
    raw = _manifest_bytes(path)
    return _parse(raw, path), raw


def _manifest_bytes(path: Path) -> bytes:
    return b"".join(islice(_pieces(path, MANIFEST), 2))


def _pieces(path: Path, name: str) -> Iterator[bytes]:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name or "\0" in name:
        raise BundleError(f"the bundle {path} names a file outside its folder: {name!r}")
    try:
        if path.is_dir():
            with _inside(path, name).open("rb") as file:
                yield from iter(lambda: file.read(_PIECE), b"")
        else:
            if path.exists() and not path.is_file():  # a device or pipe could be read forever
                raise BundleError(f"{path} is not a bundle: neither a folder nor a regular file")
            with zipfile.ZipFile(path) as archive:
                entries = {entry.filename.replace("\\", "/"): entry for entry in archive.infolist()}  # as on Windows
                info = entries[_folder_of(entries, path) + name]
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others cannot be bounded
                    raise BundleError(f"the bundle {path} is refused: {name} is neither stored nor deflated")
                if info.file_size > _PIECE and info.file_size > _MAX_RATIO * info.compress_size:
                    raise BundleError(f"the bundle {path} is refused: {name} is compressed beyond reason")
                with archive.open(info) as member:
                    yield from iter(lambda: member.read(_PIECE), b"")
    except KeyError as error:
        raise BundleError(f"the bundle {path} has no {name}") from error
    except zipfile.BadZipFile as error:
        kind = file_kind(path)
        words = "a damaged zip archive" if kind == ZIP else kind.words
        raise BundleError(f"{path} is not a bundle (a folder or zip with {MANIFEST}): it is {words}") from error
    except OSError as error:
        if name == MANIFEST and isinstance(error, FileNotFoundError) and path.is_dir():
            raise BundleError(f"the bundle {path} has no {MANIFEST}{_other_folder(path)}") from error
        error_class = BundleError if os.path.lexists(path) else NotFoundError
        raise error_class(f"cannot read {name} of the bundle {path}: {error.strerror or error}") from error
    except BundleError:
        raise
    except Exception as error:  # what a damaged member raises depends on its compression
        raise BundleError(f"the bundle {path} is damaged: {name}: {error}") from error


def _other_folder(path: Path) -> str:
    """What else to do with a folder that is not a bundle."""
    if folders := sorted(file.parent.name for file in path.glob(f"*/{MANIFEST}")):
        return f"; name a folder in it: {some_of(folders)}"
    if (path / "config.json").is_file() or (path / "run.json").is_file():
        return "; if it is a checkpoint or a run of training, export it first, with atv-local export"
    return ""


def _folder_of(names: Collection[str], path: Path) -> str:
    """Where in an archive the bundle is: at its root, or in the one folder that has a manifest, with a `/` at the end.

    Archives of a folder, rather than of its content, are as common.
    """
    if MANIFEST in names:
        return ""
    folders = sorted({name.removesuffix(MANIFEST) for name in names if name.endswith(f"/{MANIFEST}")})
    if len(folders) > 1:
        raise BundleError(f"{path} has several bundles, in {some_of(folders)}; unpack it and name one")
    return folders[0] if folders else ""


def _inside(path: Path, name: str) -> Path:
    file = (path / name).resolve()
    if not any(file.is_relative_to(place.resolve()) for place in (path, *_blobs(path))):
        raise BundleError(f"the bundle {path} has a link out of its folder: {name!r}")
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):
        raise BundleError(f"the bundle {path} has a {name} that is not a regular file")
    return file


def _blobs(path: Path) -> list[Path]:
    """Where a bundle in Hugging Face's cache has its files: `snapshots/COMMIT` is a folder of links to `blobs`."""
    snapshots = path.absolute().parent
    repo, blobs = snapshots.parent, snapshots.parent / "blobs"
    if snapshots.name != "snapshots" or blobs.is_symlink():
        return []
    from huggingface_hub import constants

    return [blobs] if repo.parent.resolve() == Path(constants.HF_HUB_CACHE).resolve() else []


def _parse(raw: bytes, path: Path) -> Manifest:
    if len(raw) > _MAX_MANIFEST:
        raise BundleError(f"the manifest of {path} is larger than {_MAX_MANIFEST} bytes")
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        problem = first_problem(error).removeprefix("injection.")  # users know its fields as options
        if problem.startswith("format_version:"):
            problem += "; upgrade atv-local or export the bundle again"
        raise BundleError(f"the manifest of {path} is not valid: {problem}") from error
