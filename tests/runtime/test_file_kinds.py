"""What a file is, where a model, a bundle or a control vector was wanted."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from pathlib import Path

import gguf
import pytest

from atv_local.data import MODEL, file_kind, files_of, kind_of_bytes, without_part
from atv_local.errors import BundleError, ModelError, VectorError
from atv_local.generator.bundle import Bundle
from atv_local.target import check_gguf
from atv_local.vectors import read_control_vector

HEADER = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()


def header(path: Path, architecture: str = "llama", **values: str | int) -> bytes:
    """A GGUF without tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        name = key.replace("__", ".")
        writer.add_string(name, value) if isinstance(value, str) else writer.add_uint16(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (bytes(5000), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>", "web page"),
        (b"\xef\xbb\xbf\r\n <HTML lang='en'>", "web page"),
        (b'<?xml version="1.0"?><html xmlns="x">', "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
        (b'{"error": "Invalid credentials"}', "Invalid credentials"),
        (b"Entry not found", "Entry not found"),
        (struct.pack("<Q", len(HEADER)) + HEADER, "safetensors"),
        (pickle.dumps([1], protocol=2), "pickle"),
        (gzip.compress(b"GGUF", mtime=0), "gzip"),
        (b"PK\x03\x04" + bytes(30), "zip"),
        (b"tjgg\x01\0\0\0", "from before GGUF"),
        (b"\x99o\x9a" + b"\0\xff\xfe" * 30, "no format"),
    ],
)
def test_a_file_that_is_no_model_is_named_with_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    for error, read in ((ModelError, check_gguf), (VectorError, read_control_vector)):
        with pytest.raises(error, match=rf"m\.gguf.* it is .*{words}"):
            read(path)


@pytest.mark.parametrize(
    ("architecture", "values", "words"),
    [
        ("llama", {"general__type": "adapter"}, "LoRA adapter"),
        ("clip", {}, "projector"),
        ("clip", {"general__type": "mmproj"}, "projector"),
        ("qwen2", {"general__type": "imatrix"}, "importance matrix"),
        ("llama", {"adapter__type": "lora"}, "LoRA adapter"),
        ("llama", {"imatrix__chunk_count": 3}, "importance matrix"),
        ("llama", {"general__type": "Adapter"}, "LoRA adapter"),
        ("controlvector", {}, "`control_vectors`"),
        ("llama", {"split__no": 1, "split__count": 3}, "part 2 of 3 .*-00001-of-00003"),
    ],
)
def test_a_gguf_of_another_kind_is_no_model(tmp_path: Path, architecture: str, values: dict, words: str) -> None:
    header(tmp_path / "m.gguf", architecture, **values)
    with pytest.raises(ModelError, match=words):
        check_gguf(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    "values",
    [{}, {"general__type": "model"}, {"split__no": 0, "split__count": 3}, {"split__no": "x"},
     {"tokenizer__ggml__model": "llama", "general__type": "adapter"}],
)  # fmt: skip
def test_what_says_nothing_else_is_a_model(tmp_path: Path, values: dict) -> None:
    content = header(tmp_path / "m.gguf", **values)
    assert file_kind(tmp_path / "m.gguf") == kind_of_bytes(content[:100]) == MODEL


def test_the_files_of_a_split_model(tmp_path: Path) -> None:
    names = [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for name in names[:2]:
        (tmp_path / name).touch()
    first = tmp_path / names[0]
    assert files_of(first) == [first]  # whoever loads it says that one is missing
    (tmp_path / names[2]).touch()
    assert [file.name for file in files_of(first)] == names
    assert files_of(tmp_path / names[1]) == [tmp_path / names[1]]
    assert [without_part(name) for name in names] == ["m.gguf"] * 3


def test_of_a_folder_a_model_is_named(tmp_path: Path) -> None:
    header(tmp_path / "a.gguf", "clip")
    header(tmp_path / "b-00002-of-00002.gguf", "llama")
    header(tmp_path / "c.gguf", "llama")
    with pytest.raises(ModelError, match=r"such as c\.gguf"):
        check_gguf(tmp_path)


def test_folders_and_devices_are_no_models(tmp_path: Path, tiny_bundle: Path, tiny_gguf: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").touch()
    for path, words in (
        (tiny_bundle, "it is a bundle"),
        (tiny_gguf.parent, tiny_gguf.name),
        (tmp_path / "weights", "convert"),
        (tmp_path, "it is a folder$"),
        (Path("/dev/zero"), "device"),
    ):
        with pytest.raises(ModelError, match=words):
            check_gguf(path)


def test_a_model_is_no_bundle(tiny_gguf: Path) -> None:
    with pytest.raises(BundleError, match=r"it is a model; pass it in `model`"):
        Bundle(tiny_gguf)
