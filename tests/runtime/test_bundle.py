"""Bundles from strangers: each way to be wrong is one clear sentence, said before native code reads a byte."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from atv_local.errors import BundleError, NotFoundError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator

Manifest = dict[str, Any]


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def edit(bundle: Path, change: Callable[[Manifest], object]) -> None:
    manifest = json.loads((bundle / "atv.json").read_text())
    change(manifest)
    (bundle / "atv.json").write_text(json.dumps(manifest))


def replace_file(bundle: Path, name: str, data: bytes) -> None:
    """Put other bytes in and make the manifest agree, as a hostile author would."""
    (bundle / name).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(bundle, lambda manifest: manifest["files"].update({name: entry}))


def test_a_bundle_opens_as_a_folder_and_as_a_zip(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in tiny_bundle.rglob("*.*"):
            archive.write(file, file.relative_to(tiny_bundle))
    folder, zipped = Bundle(tiny_bundle), Bundle(path)
    assert folder.id == zipped.id
    assert np.array_equal(Generator(folder)("apple").array, Generator(zipped)("apple").array)


def zip_of_folders(path: Path, bundle: Path, *folders: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for folder in folders:
            for file in bundle.rglob("*.*"):
                archive.write(file, folder / file.relative_to(bundle))
        archive.writestr("__MACOSX/._atv.json", b"x")
    return path


@pytest.mark.parametrize("folder", ["kinds", "runs/lr=0.002/kinds"])
def test_a_zip_of_the_folder_itself_is_read(tiny_bundle: Path, tmp_path: Path, folder: str) -> None:
    path = zip_of_folders(tmp_path / "b.zip", tiny_bundle, folder)
    assert np.array_equal(Generator(Bundle(path))("apple").array, Generator(Bundle(tiny_bundle))("apple").array)


def test_a_zip_with_the_separators_of_windows(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in tiny_bundle.rglob("*"):
            if file.is_file():
                archive.writestr("tiny\\" + "\\".join(file.relative_to(tiny_bundle).parts), file.read_bytes())
    assert Bundle(path).id == Bundle(tiny_bundle).id


def test_a_zip_of_several_bundles_is_not_guessed_at(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="one/, two/"):
        Bundle(zip_of_folders(tmp_path / "b.zip", tiny_bundle, "one", "two"))


def test_a_folder_around_bundles_names_them(copy: Path) -> None:
    with pytest.raises(BundleError, match=r"no atv\.json; name a folder in it: bundle"):
        Bundle(copy.parent)


def test_a_run_of_training_is_to_be_exported(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(BundleError, match="atv-local export"):
        Bundle(tmp_path)


def test_the_id_is_that_of_the_content(copy: Path) -> None:
    before = Bundle(copy).id
    edit(copy, lambda manifest: manifest["provenance"].update(seed=1))
    assert Bundle(copy).id != before


@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/model_int8.onnx", "onnx/model.onnx", "README.md"])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow"])
def test_a_damaged_file_is_named(copy: Path, name: str, damage: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes({"flip": data, "cut": data[:-1], "grow": data + b"x"}[damage])
    with pytest.raises(BundleError, match=f"damaged: {name}"):
        Bundle(copy)


@pytest.mark.parametrize("name", ["atv.json", "tokenizer.json", "onnx/model.onnx"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle(copy)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        Bundle(tmp_path / "absent")


def test_a_file_that_is_no_bundle(tiny_gguf: Path) -> None:
    with pytest.raises(BundleError, match=re.escape(str(tiny_gguf))):
        Bundle(tiny_gguf)


def test_a_manifest_from_the_future(copy: Path) -> None:
    edit(copy, lambda manifest: manifest.update(format_version=5))
    with pytest.raises(BundleError, match="1, 2, 3 or 4, not 5"):
        Bundle(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("target"),
        lambda m: m["target"].update(n_layer=1),
        lambda m: m["target"].update(n_embd=1 << 40),
        lambda m: m["target"].update(vocabulary_sha256="short"),
        lambda m: m["generator"].update(query_template="no place for it"),
        lambda m: m["injection"].update(positions="everywhere"),
        lambda m: m["injection"].update(layers=[3, 2]),
        lambda m: m["injection"].update(prompt_vector=True, positions="all"),  # which version 1 does not have
        lambda m: (m.update(format_version=2), m["injection"].update(prompt_vector=True, positions="decode")),
        lambda m: m["injection"].update(layers=[1, 4]),
        lambda m: m.pop("format_version"),
        lambda m: m["files"]["README.md"].update(size=1 << 60),
        lambda m: m["files"].update({f"{n}.txt": m["files"]["README.md"] for n in range(200)}),
        lambda m: m["files"].pop("tokenizer.json"),
        lambda m: [m["files"].pop(name) for name in ("onnx/model.onnx", "onnx/model_int8.onnx")],
    ],
)
def test_a_manifest_that_does_not_hold_together(copy: Path, change: Callable[[Manifest], object]) -> None:
    edit(copy, change)
    with pytest.raises(BundleError) as caught:
        Bundle(copy)
    assert "injection" not in str(caught.value)  # users know layers and positions


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": 1}', b" " * (1 << 20) + b"{}"])
def test_a_manifest_that_is_none(copy: Path, raw: bytes) -> None:
    (copy / "atv.json").write_bytes(raw)
    with pytest.raises(BundleError, match="manifest"):
        Bundle(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "onnx/../../secret", "..\\secret", "C:secret", "a\0b"])
def test_no_path_leads_out_of_the_folder(copy: Path, name: str) -> None:
    (copy.parent / "secret").write_text("x")
    entry = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    edit(copy, lambda manifest: manifest["files"].update({name: entry}))
    with pytest.raises(BundleError, match=re.escape(repr(name))):
        Bundle(copy)


def test_no_link_leads_out_of_the_folder(copy: Path) -> None:
    outside = copy.parent / "tokenizer.json"
    shutil.move(copy / "tokenizer.json", outside)
    (copy / "tokenizer.json").symlink_to(outside)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Bundle(copy)


def test_a_graph_of_another_shape_is_refused(copy: Path) -> None:
    edit(copy, lambda manifest: manifest["target"].update(n_layer=5))
    with pytest.raises(BundleError, match=r"not float32 \[1, 4, 64\]"):
        Generator(Bundle(copy))


def test_a_graph_that_is_no_onnx_is_refused(copy: Path) -> None:
    replace_file(copy, "onnx/model_int8.onnx", b"not a graph")
    with pytest.raises(BundleError, match=re.escape(str(copy))):
        Generator(Bundle(copy))


@pytest.mark.parametrize("location", ["../secret.bin", "secret.bin"])
def test_a_graph_cannot_read_other_files(copy: Path, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    monkeypatch.chdir(copy)
    for file in (copy.parent / "secret.bin", copy / "secret.bin"):
        file.write_bytes(b"\0" * (3 * 64 * 4))
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1, 3, 64], data_location=1)
    tensor.external_data.add(key="location", value=location)
    axes = ["batch", "sequence"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["weights"], ["task_vector"])],
        "hostile",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("task_vector", TensorProto.FLOAT, [1, 3, 64])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    replace_file(copy, "onnx/model_int8.onnx", onnx.ModelProto.SerializeToString(model))
    with pytest.raises(BundleError, match=re.escape(str(copy))):
        Generator(Bundle(copy))


def bad_zip(path: Path, bundle: Path, compression: int, damage: Callable[[bytearray], None]) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in bundle.rglob("*.*"):
            archive.write(file, file.relative_to(bundle))
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    return path


def scramble(data: bytearray) -> None:
    start = data.index(b"atv.json") + 40
    data[start : start + 200] = bytes(200)


def encrypt(data: bytearray) -> None:
    """Set the flag of encryption in every header."""
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)


@pytest.mark.parametrize(
    ("compression", "damage"),
    [
        (zipfile.ZIP_DEFLATED, scramble),
        (zipfile.ZIP_LZMA, scramble),
        (zipfile.ZIP_BZIP2, scramble),
        (zipfile.ZIP_DEFLATED, encrypt),
        (zipfile.ZIP_STORED, lambda data: data.__delitem__(slice(-30, None))),
    ],
)
def test_a_damaged_zip_is_one_clear_error(
    tiny_bundle: Path, tmp_path: Path, compression: int, damage: Callable[[bytearray], None]
) -> None:
    with pytest.raises(BundleError, match=r"bundle\.zip"):
        Bundle(bad_zip(tmp_path / "bundle.zip", tiny_bundle, compression, damage))


def test_a_tokenizer_for_another_graph_is_refused(copy: Path) -> None:
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {name: index + 10_000 for name, index in vocabulary.items() if name.isalpha()}
    replace_file(copy, "tokenizer.json", json.dumps(tokenizer).encode())
    with pytest.raises(BundleError, match=re.escape(str(copy))):
        Generator(Bundle(copy))


def test_a_tokenizer_too_large_to_load_is_refused(copy: Path) -> None:
    edit(copy, lambda manifest: manifest["files"]["tokenizer.json"].update(size=(64 << 20) + 1))
    with pytest.raises(BundleError, match=str((64 << 20) + 1)):
        Bundle(copy)


def test_a_tokenizer_that_is_none_is_refused(copy: Path) -> None:
    replace_file(copy, "tokenizer.json", b"{}")
    with pytest.raises(BundleError, match=re.escape(str(copy))):
        Generator(Bundle(copy))
