"""Checkpoints of strangers, ours and the authors': refused in one sentence, nothing run, nothing large allocated."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.errors import AtvError
from atv_train.frozen_target.weights import load_target
from atv_train.run_folder import checkpoint
from atv_train.vector_sources import load_backbone, load_tokenizer


def rewrite(path: Path, change: dict[str, Any]) -> None:
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    new = json.dumps(json.loads(data[8 : 8 + size]) | change).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + size :])


def edit(path: Path, *keys: str, value: object) -> None:
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))


def nan(path: Path) -> None:
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    path.write_bytes(data[:start] + b"\xff" * (len(data) - start))


CASES = {
    "weights a pickle": lambda f: (f / checkpoint.WEIGHTS).write_bytes(b"\x80\x04cos\nsystem\n(S'touch ran'\ntR."),
    "weights cut": lambda f: (f / checkpoint.WEIGHTS).write_bytes((f / checkpoint.WEIGHTS).read_bytes()[:-100]),
    "weights with a header of exabytes": lambda f: (f / checkpoint.WEIGHTS).write_bytes(b"\xff" * 8 + b"{}"),
    "weights with a tensor of exabytes": lambda f: rewrite(
        f / checkpoint.WEIGHTS,
        {"expansion.weight": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 1 << 62]}},
    ),
    "a target of many layers": lambda f: edit(f / checkpoint.CONFIG, "target", "n_layer", value=4096),
    "a target of great width": lambda f: edit(f / checkpoint.CONFIG, "target", "n_embd", value=1 << 20),
    "a huge bottleneck": lambda f: edit(f / checkpoint.CONFIG, "generator", "rank", value=1 << 20),
    "a backbone of great width": lambda f: edit(f / "backbone" / "config.json", "hidden_size", value=1 << 20),
    "a backbone of many layers": lambda f: edit(f / "backbone" / "config.json", "num_hidden_layers", value=100_000),
    "a backbone of many groups": lambda f: edit(f / "backbone" / "config.json", "num_groups", value=1 << 40),
    "a backbone within a backbone": lambda f: edit(
        f / "backbone" / "config.json", "text_config", value={"num_hidden_layers": 1 << 40}
    ),
    "a backbone with a huge mask": lambda f: (f / "backbone" / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "n_positions": 1 << 20, "n_layer": 2, "n_embd": 64})
    ),
    "more tokens than the backbone reads": lambda f: edit(f / checkpoint.CONFIG, "generator", "max_tokens", value=4096),
    "weights of NaN": lambda f: nan(f / checkpoint.WEIGHTS),
    "a backbone of many words": lambda f: edit(f / "backbone" / "config.json", "vocab_size", value=1 << 40),
    "a backbone of its own code": lambda f: edit(
        f / "backbone" / "config.json", "auto_map", value={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    ),
    "a backbone of no kind": lambda f: edit(f / "backbone" / "config.json", "model_type", value="evil"),
    "a tokenizer of nothing": lambda f: (f / "backbone" / "tokenizer.json").write_text("null"),
    "a query template without its query": lambda f: edit(
        f / checkpoint.CONFIG, "generator", "query_template", value="x"
    ),
}


@pytest.mark.parametrize("name", [case for case in CASES if case != "a backbone of its own code"])
def test_it_is_one_sentence(trained_checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(trained_checkpoint / "checkpoint", tmp_path / "copy")
    CASES[name](folder)
    result = CliRunner().invoke(app, ["export", str(folder), str(tmp_path / "out")])
    assert (result.exit_code, result.stdout) == (1, ""), (result.stdout, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_code_beside_a_backbone_is_not_run(trained_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_checkpoint / "checkpoint", tmp_path / "copy")
    CASES["a backbone of its own code"](folder)
    (folder / "backbone" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    CliRunner().invoke(app, ["export", str(folder), str(tmp_path / "out")])
    assert not (tmp_path / "ran").exists()


def remote_detector(folder: Path, marker: Path) -> None:
    """A backbone's config.json whose model class runs the code of a folder, whatever the caller trusts."""
    (folder / "evil").mkdir()
    (folder / "evil" / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}})
    )
    (folder / "evil" / "evil.py").write_text(
        f"open({str(marker)!r}, 'w')\nfrom transformers import PretrainedConfig\n"
        "class Evil(PretrainedConfig):\n    model_type = 'evil'\n"
    )
    detector = {"model_type": "evil", "_name_or_path": str(folder / "evil")}
    glue = {"model_type": "lightglue", "trust_remote_code": True, "keypoint_detector_config": detector}
    (folder / "config.json").write_text(json.dumps(glue))


def test_a_config_that_trusts_itself_is_refused(trained_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_checkpoint / "checkpoint", tmp_path / "copy")
    remote_detector(folder / "backbone", tmp_path / "ran")
    with pytest.raises(AtvError, match="trust_remote_code"):
        load_backbone(str(folder / "backbone"))
    with pytest.raises(AtvError, match="trust_remote_code"):
        load_tokenizer(folder / "backbone")
    with pytest.raises(AtvError):
        checkpoint.load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


def test_templates_of_a_backbone_are_not_written(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    templates = [{"name": "../../evil", "template": "x"}, {"name": "default", "template": "y"}]
    edit(folder / "tokenizer_config.json", "chat_template", value=templates)
    load_tokenizer(folder).save_pretrained(tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("*.jinja"))


def test_an_adapter_beside_a_gguf_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    file = shutil.copy(tiny_gguf, tmp_path / "tiny.gguf")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "evil"}')
    with pytest.raises(AtvError, match="adapter_config"):
        load_target(file, torch.float32, torch.device("cpu"))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_damage_breaks_the_reader(
    trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "copy"
    shutil.copytree(trained_checkpoint / "checkpoint", folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    path = folder / data.draw(st.sampled_from(names))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 2000)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        checkpoint.load_checkpoint(folder)
    except AtvError as error:
        message = str(error)
    else:
        message = ""
    assert message.isprintable()
