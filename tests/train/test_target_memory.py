"""The target's weights take the memory of one copy, and are refused if that is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from atv_local.errors import ModelError
from atv_train.frozen_target.weights import load_target
from benchmarks.random_gguf import parse, write
from tests.tiny import write_gguf

CPU = torch.device("cpu")
LOAD = r"""
import re, sys, torch
from pathlib import Path
from atv_train.frozen_target.weights import load_target

def peak():  # not ru_maxrss, which begins with what the parent held
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

load_target(Path(sys.argv[1]), torch.bfloat16, torch.device("cpu"))  # imports what loading needs
before = peak()
model = load_target(Path(sys.argv[2]), torch.bfloat16, torch.device("cpu"))
print((peak() - before) / sum(weight.nbytes for weight in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_little_more_than_the_weights(tiny_gguf: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep.gguf"
    write(deep, parse("64x64x4x2x8192"))
    command = [sys.executable, "-c", LOAD, str(tiny_gguf), str(deep)]
    copies = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.5 < copies < 2.7  # with the file's pages; all in float32 at first makes it 3.2


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen3moe"])
def test_the_weights_are_those_that_are_converted_at_the_end(tmp_path: Path, architecture: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", architecture=architecture)
    exact = load_target(path, torch.float32, CPU).state_dict()
    rounded = load_target(path, torch.bfloat16, CPU).state_dict()
    assert all(torch.equal(rounded[name], exact[name].to(torch.bfloat16)) for name in exact)


@pytest.mark.parametrize(("dtype", "way_out"), [(torch.float32, "in bfloat16, which takes half"), (torch.bfloat16, "")])
def test_weights_that_do_not_fit_are_refused(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, way_out: str
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1 << 10))
    with pytest.raises(ModelError, match=f"million weights of {tiny_gguf} take 0.0 GB in .*, and 0.0 GB") as caught:
        load_target(tiny_gguf, dtype, CPU)
    assert str(caught.value).endswith(way_out)
