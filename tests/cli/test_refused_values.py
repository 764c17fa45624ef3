"""Values that would be taken for another one, or go on forever, are refused in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atv_cli import app


def cli(*words: object, **variables: str) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env=variables)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "-m", "", "hi"], "--model"),
        (["run", "-g", "", "hi"], "--bundle"),
        (["run", "-ngl", 1 << 32, "hi"], "4294967296"),
        (["run", "-ngl", -2, "hi"], "-2"),
        (["inspect", "demo", "-m", ""], "--model"),
    ],
)
def test_a_value_that_would_pass_for_another(tiny_gguf: Path, words: list[object], named: str) -> None:
    result = cli(*words, ATV_MODEL=str(tiny_gguf))
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert named in result.stderr


def test_an_empty_key_is_not_the_same_as_none(tiny_gguf: Path) -> None:
    result = cli("serve", "-m", tiny_gguf, "--off", ATV_API_KEY="")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "ATV_API_KEY" in result.stderr


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
@pytest.mark.parametrize("words", [["batch", "/dev/zero", "out.jsonl"], ["eval", "/dev/zero"]])
def test_a_file_without_an_end(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*words, "-m", tiny_gguf, *(["--off"] if words[0] == "batch" else []))
    assert result.exit_code == 1
    assert "/dev/zero:1: no line break" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_ctrl_c_while_the_program_is_imported() -> None:
    code = "import os, signal, sys\nfrom atv_cli.__main__ import main\n"
    code += "class Late:\n def find_spec(self, *_): os.kill(os.getpid(), signal.SIGINT)\n"
    code += "sys.meta_path.insert(0, Late()); main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert (result.returncode, result.stderr) == (130, "")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
@pytest.mark.parametrize(
    "words", [["run", "-m", "/dev/zero", "hi"], ["run", "-g", "/dev/zero", "hi"], ["inspect", "/dev/zero"]]
)
def test_a_model_or_bundle_that_is_a_device(tiny_gguf: Path, words: list[str]) -> None:
    result = cli(*words, ATV_MODEL=str(tiny_gguf))
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "/dev/zero" in result.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files")
@pytest.mark.parametrize("option", ["-m", "-g"])
def test_a_model_or_bundle_that_is_a_pipe_is_not_waited_for(tiny_gguf: Path, tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = cli("run", option, tmp_path / "pipe", "hi", ATV_MODEL=str(tiny_gguf))
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


NO_HOME = """
import os, pwd
os.environ.pop("HOME", None)
os.environ.pop("XDG_CONFIG_HOME", None)
def unknown(_): raise KeyError("uid not found")
pwd.getpwuid = unknown
"""
RUN = "\nfrom atv_cli.__main__ import main\nmain()"


def in_process(code: str, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process that begins with `code`."""
    command = [sys.executable, "-c", code + RUN, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.skipif(os.name != "posix", reason="homes are found in another way")
@pytest.mark.parametrize("words", [["ls"], ["run", "hi"], ["config", "model", "default"], ["pull", "hf:a/b"]])
def test_a_user_without_a_home(tmp_path: Path, words: list[str]) -> None:
    result = in_process(
        NO_HOME + "os.environ.pop('HF_HOME', None); os.environ.pop('HF_HUB_OFFLINE', None)", tmp_path, *words
    )
    assert result.returncode in (1, 2)
    assert "HOME" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []  # no folder called ~


@pytest.mark.skipif(os.name != "posix", reason="homes are found in another way")
def test_a_user_without_a_home_can_name_all_files(tmp_path: Path, tiny_gguf: Path, tiny_bundle: Path) -> None:
    result = in_process(NO_HOME, tmp_path, "run", "-m", tiny_gguf, "-g", tiny_bundle, "dog 1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "b\n", "")


def test_ctrl_c_while_a_library_is_imported(tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    code = "import sys\nclass Late:\n def find_spec(self, name, *_):\n"
    code += "  if name == 'onnxruntime': raise ImportError('initialization failed') from KeyboardInterrupt()\n"
    code += "sys.meta_path.insert(0, Late())"
    result = in_process(code, tmp_path, "run", "-m", tiny_gguf, "-g", tiny_bundle, "dog 1")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["eval", ""], "DATA"),
        (["eval", "-o", "", "x.jsonl"], "--output"),
        (["batch", "x.jsonl", ""], "OUTPUT"),
        (["vector", "-o", "", "hi"], "--output"),
        (["run", "-f", ""], "--file"),
        (["train", "-o", "", "x.jsonl"], "--output"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(words: list[str], named: str) -> None:
    result = cli(*words)
    assert result.exit_code == 2
    assert named in result.stderr.splitlines()[-1]
    assert "empty" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["batch", "rows.jsonl", "-"], "OUTPUT"),
        (["vector", "-o", "-", "hi"], "--output"),
        (["eval", "-o-", "rows.jsonl"], "--output"),
        (["calibrate", "--output=-", "rows.jsonl"], "--output"),
        (["train", "-o", "-", "rows.jsonl"], "--output"),
        (["export", "run", "-"], "BUNDLE"),
        (["inspect", "demo", "-q", "hi", "--picture", "-"], "--picture"),
    ],
)
def test_a_dash_is_not_a_file_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    result = cli(*words)
    assert result.exit_code == 2
    assert named in result.stderr.splitlines()[-1]
    assert "stdout" in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["eval", "rows.jsonl", "--shots", "16"], ["--shots ", "--shots-from"]),
        (["inspect", "demo", "--overwrite"], ["--overwrite", "--picture"]),
        (["run", "--json", "--stream", "hi"], ["--json", "--stream"]),
    ],
)
def test_an_option_without_effect(words: list[str], named: list[str]) -> None:
    result = cli(*words)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    for name in named:
        assert name in result.stderr


def test_a_layer_that_the_model_does_not_have(tiny_gguf: Path, tiny_bundle: Path) -> None:
    result = cli("run", "-m", tiny_gguf, "-g", tiny_bundle, "--layers", "4", "hi")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "--layers 4:" in result.stderr
    assert "1 to 3" in result.stderr
