"""What kind of file a path leads to, by its first bytes: many are called models that are something else."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from atv_local.data.gguf_header import MAGIC, GgufHeader
from atv_local.data.gguf_parts import begins_gguf
from atv_local.text import shown

HEAD_BYTES = 1 << 16
"""The part of a file that is looked at. Writers of GGUFs put what says their kind first."""
_VOCABULARY = "tokenizer."
_CONVERT = "; convert the model to GGUF with convert_hf_to_gguf.py of llama.cpp"


@dataclass(frozen=True)
class FileKind:
    """A kind of file in words that follow "it is", such as "a LoRA adapter", with what to do instead after a `;`.

    Attributes:
        words: the kind.
        is_gguf: whether the file is a GGUF.
    """

    words: str
    is_gguf: bool = False

    @property
    def is_other_gguf(self) -> bool:
        """Whether the file is a GGUF, but not of a model."""
        return self.is_gguf and self != MODEL


MODEL = FileKind("a model; pass it in `model`", is_gguf=True)
"""A GGUF of weights, or the first file of one in several parts."""
CONTROL_VECTOR = FileKind("a control vector; pass it in `control_vectors`", is_gguf=True)
ZIP = FileKind("a zip archive, as bundles and PyTorch checkpoints are")
_TYPES = {
    "adapter": "a LoRA adapter; merge it into its model with llama-export-lora of llama.cpp",
    "mmproj": "a projector for images or sound, which belongs to a model; name the model's own file",
    "imatrix": "an importance matrix, which quantising uses; name the model's own file",
}
"""`general.type` of GGUFs that are no models."""
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer to the file; get the file itself with git lfs pull",
    b"PK\x03\x04": ZIP.words,
    b"\x80\x02": "a Python pickle, as PyTorch checkpoints are" + _CONVERT,
    b"\x1f\x8b": "compressed with gzip; decompress it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it",
    b"\xfd7zXZ": "compressed with xz; decompress it",
    b"BZh": "compressed with bzip2; decompress it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"lmgg": "in GGML's format from before GGUF; get or convert the model again",
    b"tjgg": "in GGML's format from before GGUF; get or convert the model again",
}


def file_kind(path: Path) -> FileKind:
    """The kind of a file or folder.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return FileKind(_of_folder(path))
    if path.exists() and not path.is_file():  # opening a pipe would wait for who writes to it
        return FileKind("a device or pipe")
    with path.open("rb") as file:
        return kind_of_bytes(file.read(HEAD_BYTES))


def kind_of_bytes(head: bytes) -> FileKind:
    """The kind of a file that begins with these bytes; of a GGUF that does not say, MODEL."""
    if head.startswith(MAGIC):
        return _of_gguf(_values(head))
    for beginning, words in _BEGINNINGS.items():
        if head.startswith(beginning):
            return FileKind(words)
    return FileKind(_of_other(head))


def _of_folder(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir())
    if "atv.json" in names:
        return "a bundle; pass it in `bundle`"
    ggufs = [name for name in names if begins_gguf(name)]
    if models := sorted(ggufs, key=lambda name: not _is_model(path / name)):
        return f"a folder; name a file in it, such as {models[0]}"
    if any(name.endswith((".safetensors", ".bin")) for name in names):
        return "a folder of weights in another format" + _CONVERT
    return "a folder"


def _is_model(file: Path) -> bool:
    try:
        return file.is_file() and file_kind(file) == MODEL
    except OSError:
        return False


def _values(head: bytes) -> dict[str, Any]:
    """Values of a GGUF as far as they are in `head`, up to its vocabulary, which only models have."""
    values: dict[str, Any] = {}
    with suppress(ValueError):
        values.update(takewhile(lambda entry: not entry[0].startswith(_VOCABULARY), GgufHeader(head).values()))
    return values


def _of_gguf(values: dict[str, Any]) -> FileKind:
    kind: str | None = str(values.get("general.type")).lower()
    architecture = values.get("general.architecture")
    if architecture == "controlvector":
        return CONTROL_VECTOR
    if architecture == "clip":  # written before files had a type
        kind = "mmproj"
    if kind not in _TYPES:  # files of old programs and of some others do not say it
        kind = next((named for named in _TYPES if any(key.startswith(f"{named}.") for key in values)), None)
    if kind is not None:
        return FileKind(_TYPES[kind], is_gguf=True)
    number, count = values.get("split.no"), values.get("split.count")
    if isinstance(number, int) and isinstance(count, int) and number > 0:
        first = f"-00001-of-{count:05d}.gguf"
        return FileKind(f"part {number + 1} of {count} of a model; name the first, which ends in {first}", is_gguf=True)
    return MODEL


def _of_other(head: bytes) -> str:
    if not head.strip(b"\0"):
        return f"{'filled with zeros' if head else 'empty'}, as after a download that failed; get it again"
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 1 << 27:
        return "in the format of safetensors" + _CONVERT
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype )?html|<[^>]*>\s*<html", text, re.IGNORECASE):
        return "a web page (HTML), saved in place of the file; download the file itself"
    if b"\0" not in head and len(text.encode()) > len(head) - 8:
        return f"a text that begins with {shown(text[:200])}"
    return "in no format that is known here; it does not begin with GGUF"
