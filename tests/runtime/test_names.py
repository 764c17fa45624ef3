"""Names of models and bundles: paths, aliases and what is refused; `ls`, `alias`, completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import constants
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_local.errors import AtvError, NotFoundError, UsageError
from atv_local.names import (
    absolute_name,
    add_alias,
    embedded_bundle,
    embedded_model,
    is_managed,
    read_aliases,
    resolve_bundle,
    resolve_model,
    resolve_name,
    set_default,
)

pytestmark = pytest.mark.usefixtures("user_folder")


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without aliases, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_nothing_is_the_embedded_default() -> None:
    assert resolve_model() == embedded_model()
    assert resolve_bundle() == embedded_bundle()


def test_what_is_embedded_has_names() -> None:
    assert resolve_model("default") == resolve_name("default") == embedded_model()
    for name in ("demo", "general"):
        assert resolve_bundle(name) == resolve_name(name) == embedded_bundle(name)
    for resolve, name in ((resolve_model, "demo"), (resolve_model, "general"), (resolve_bundle, "default")):
        with pytest.raises(NotFoundError, match="'default' is the embedded model, 'demo' and 'general' are its"):
            resolve(name)
    assert cli("pull", "demo").stdout.strip() == str(embedded_bundle())
    assert json.loads(cli("inspect", "demo", "-m", "default", "--json").stdout)["fits"] == "yes"


@pytest.mark.parametrize("name", ["demo", str(embedded_bundle()), ""])
def test_the_embedded_bundle_is_not_calibrated_in_its_place(name: str, home: Path) -> None:
    rows = home / "rows.jsonl"
    rows.write_text('{"input": "a", "output": "b"}\n')
    result = cli("calibrate", rows, *(["-g", name] if name else []))
    assert (result.exit_code, "-o" in result.stderr, name in result.stderr) == (2, True, True)
    assert is_managed(name or "demo")
    assert not is_managed(str(home))


def test_what_exists_is_a_path_whatever_it_is_called() -> None:
    for name in ("plain", "hf:user", "x.gguf"):
        Path(name).touch()
        assert resolve_model(name) == Path(name)
    add_alias("plain", "hf:user/repo")
    assert resolve_model("plain") == Path("plain")
    assert resolve_model(Path("hf:user/repo")) == Path("hf:user/repo")


@pytest.mark.parametrize("name", ["missing.gguf", "folder/missing", "./missing", "missing.ZIP", "/x/y:z"])
def test_what_looks_like_a_path_is_a_missing_path(name: str) -> None:
    with pytest.raises(AtvError, match=re.escape(name.removeprefix("./"))):
        atv_local.load(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("user/repo", "hf:user/repo"), ("user/Repo-GGUF:Q4_K_M", "hf:user/Repo-GGUF:Q4_K_M"),
     ("hf.co/user/repo:Q8_0", "hf:user/repo:Q8_0"), ("HF:user/repo", "hf:user/repo"),
     ("https://huggingface.co/user/repo", "hf:user/repo"),
     ("https://huggingface.co/user/repo/tree/main", "hf:user/repo"),
     ("huggingface.co/user/repo/blob/main/q/m-Q4_0.gguf", "hf:user/repo:m-Q4_0.gguf"),
     ("https://huggingface.co/user/repo/resolve/main/m.gguf?download=true", "hf:user/repo:m.gguf")],
)  # fmt: skip
def test_a_name_without_its_scheme_is_offered_with_it(name: str, meant: str) -> None:
    for resolve in (resolve_model, resolve_bundle):
        with pytest.raises(NotFoundError, match=rf"did you mean {re.escape(meant)}\?$"):
            resolve(name)
    Path("user").mkdir()
    (Path("user") / "repo").touch()
    assert resolve_model("user/repo") == Path("user/repo")


@pytest.mark.parametrize(
    "name", ["./user", "../user", "~/user", "/user/repo", "a/b/c", "user/m.gguf", "a\\b", "http://x/y"]
)
def test_what_can_only_be_a_path_is_offered_nothing(name: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        resolve_model(name)
    assert "did you mean" not in str(raised.value)


@pytest.mark.parametrize("name", ["missing", "a b", "x" * 400, "\0", "-"])
def test_what_is_nothing_is_said_in_one_sentence(name: str) -> None:
    with pytest.raises(NotFoundError, match="default") as raised:
        resolve_model(name)
    assert "atv-local" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:user", "hf:a/b/c", "hf:../etc", "hf:a/..", "hf:a/b:", "hf:a/b:x/y", "hf:a/b\n", "ollama:", "ollama:..",
     "ollama:../../x", "ollama:a/../b", "ollama:a:..", "ollama:a/b/c/d", "ollama:a:b:c", "ollama:/etc", "ollama:a\n"],
)  # fmt: skip
def test_names_that_would_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(NotFoundError, match=re.escape(repr(name))):
        resolve_model(name)
    with pytest.raises(NotFoundError, match=re.escape(repr(name))):
        absolute_name(name)


@pytest.mark.parametrize("name", ["hf:-a/b", "hf:a/b-", "hf:a/b--c", "hf:a/b.git", f"hf:a/{'b' * 97}"])
def test_names_that_no_repository_has_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(NotFoundError, match=re.escape(name)):
        resolve_model(name)


def test_an_alias_names_a_model_and_a_bundle_from_anywhere(
    tiny_gguf: Path, tiny_bundle: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_gguf.parent)
    assert cli("alias", "mine", tiny_gguf.name).exit_code == 0
    assert cli("alias", "kinds", tiny_bundle).exit_code == 0
    monkeypatch.chdir(home)
    result = cli("run", "-m", "mine", "-g", "kinds", "--json", "apple 1")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["text"] == "a"
    assert json.loads(cli("inspect", "mine", "--json").stdout)["path"] == str(tiny_gguf)
    assert json.loads(cli("inspect", "kinds", "-m", "mine", "--json").stdout)["fits"] == "yes"
    assert cli("alias").stdout.splitlines() == [f"kinds  {tiny_bundle}", f"mine  {tiny_gguf}"]
    assert cli("alias", "--remove", "mine").exit_code == 0
    assert cli("alias").stdout.splitlines() == [f"kinds  {tiny_bundle}"]
    missing = cli("alias", "--remove", "mine").stderr
    assert "there is no alias 'mine'" in missing
    assert "kinds" in missing


@pytest.mark.usefixtures("home")
def test_a_wrong_name_is_answered_with_some_of_those_there_are(tiny_gguf: Path) -> None:
    for number in range(20):
        assert cli("alias", f"n{number:02}", tiny_gguf).exit_code == 0
    with pytest.raises(NotFoundError, match=r"default, n00, .*, n06 and 13 more$"):
        resolve_model("nothing")


def test_every_verb_takes_names(tiny_gguf: Path, tiny_bundle: Path, tiny_rows: Path, home: Path) -> None:
    """Those that load through `load` are covered above."""
    add_alias("mine", str(tiny_gguf))
    add_alias("kinds", str(tiny_bundle))
    rows = home / "rows.jsonl"
    rows.write_text("".join(tiny_rows.read_text().splitlines(keepends=True)[:4]))
    pair = ["-m", "mine", "-g", "kinds"]
    for arguments in (
        ["batch", rows, home / "answers.jsonl", *pair],
        ["eval", rows, *pair, "--no-harm", "--timed", "0"],
        ["vector", "-g", "kinds", "apple", "-o", home / "v.gguf"],
        ["bench", *pair, "--quick", "--rounds", "2", "--only", "vector"],
        ["calibrate", rows, *pair, "--no-search-layers", "--strengths=1", "--rows=2", "--dry-run", "--budget=99"],
    ):
        result = cli(*arguments)
        assert result.exit_code == 0, (arguments, result.stderr)
    assert atv_local.load("mine", "kinds").generator is not None


def test_training_uses_the_default_and_export_takes_a_name(
    tiny_gguf: Path, tiny_rows: Path, tiny_backbone: Path, home: Path
) -> None:
    add_alias("mine", str(tiny_gguf))
    set_default("model", "mine")
    run = home / "run"
    result = cli("train", tiny_rows, "-o", run, "--backbone", tiny_backbone, "--epochs", "1")
    assert result.exit_code == 0, result.stderr
    result = cli("export", run, home / "bundle", "--precisions", "fp32", "-m", "mine")
    assert result.exit_code == 0, result.stderr
    assert "through llama.cpp" in result.stderr


@pytest.mark.parametrize(
    "name", ["a/b", "hf:x", "a b", "", ".x", "x.gguf", "x.ZIP", "x" * 65, "-x", "a\n", "default", "demo"]
)
def test_an_alias_that_could_be_something_else_is_refused(name: str, tiny_gguf: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        add_alias(name, str(tiny_gguf))
    assert read_aliases() == {}


def test_an_alias_is_of_a_file_or_a_store_and_never_of_an_alias(tiny_gguf: Path) -> None:
    add_alias("one", str(tiny_gguf))
    for target in ("one", "missing.gguf", ""):
        result = cli("alias", "two", target)
        assert (result.exit_code, result.stdout) == (2, "")
        assert repr(target or "two") in result.stderr
    assert absolute_name("hf:user/repo:Q4_K_M") == "hf:user/repo:Q4_K_M"
    assert absolute_name("ollama:user/name") == "ollama:user/name:latest"
    assert cli("alias", "two").exit_code == 2


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a/b": "/c"}',
        b"\xff",
        b"[" * 100_000,
        b" " * (2 << 20),
        b'{"a": ""}',
        b'{"a": "b"}',
        b'{"a": "b/c.gguf"}',
        b'{"a": "/\\u0000"}',
        b'{"a": "/\\ud800"}',
        b'{"x": "/y", "z": "x"}',
        b'{"x": {}}',
        b'{"x": {"model": "y"}}',
        b'{"x": {"model": "/y", "either": "/z"}}',
        b'{"x": {"model": "/y", "other": "/z"}}',
        b'{"x": {"model": ["/y"]}}',
        b'{"default": "/y"}',
    ],
)
def test_a_damaged_file_of_aliases_is_one_sentence(content: bytes, user_folder: Path) -> None:
    file = user_folder / "aliases.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    for arguments in (["alias"], ["alias", "--remove", "x"], ["run", "-m", "x", "hello"]):
        result = cli(*arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.output
        assert str(file) in result.stderr
    (listed,) = [entry for entry in json.loads(cli("ls", "--json").stdout) if entry["name"] == "(aliases)"]
    assert str(file) in listed["error"]
    with pytest.raises(NotFoundError):
        add_alias("x", "hf:a/b")
    assert file.read_bytes() == content


def test_two_processes_do_not_lose_each_others_aliases(user_folder: Path) -> None:
    add_alias("one", "hf:a/b")
    with FileLock(user_folder / "aliases.lock"):
        for arguments in (["two", "hf:a/b"], ["--remove", "one"]):
            result = cli("alias", *arguments)
            assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
            assert "another process" in result.stderr
    add_alias("two", "hf:a/b")
    assert set(read_aliases()) == {"one", "two"}


def test_aliases_are_kept_where_users_keep_settings(home: Path) -> None:
    code = "from atv_local.names.aliases import aliases_file; print(aliases_file())"
    environment = os.environ | {"XDG_CONFIG_HOME": str(home / "elsewhere")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert Path(result.stdout.strip()).parts[-2:] == ("atv-local", "aliases.json")
    if sys.platform == "linux":
        assert Path(result.stdout.strip()).is_relative_to(home / "elsewhere")


def test_ls_says_what_can_be_named(
    tiny_gguf: Path, tiny_bundle: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "none"))
    add_alias("mine", str(tiny_gguf))
    add_alias("kinds", str(tiny_bundle))
    (home / "gone.gguf").touch()
    add_alias("gone", str(home / "gone.gguf"))
    (home / "gone.gguf").unlink()
    add_alias("far", "hf:user/repo")
    found = {entry["name"]: entry for entry in json.loads(cli("ls", "--json").stdout)}
    assert {"default", "demo", "mine", "kinds", "gone", "far"} <= set(found)
    assert (found["mine"]["kind"], found["mine"]["size"]) == ("model", tiny_gguf.stat().st_size)
    assert (found["kinds"]["kind"], found["kinds"]["fits"]) == ("bundle", "tiny")
    assert "no file or folder" in found["gone"]["error"]
    assert "atv-local pull hf:user/repo" in found["far"]["error"]
    lines = cli("ls").stdout.splitlines()
    assert any(line.startswith("default ") and "Q4_1" in line for line in lines)
    assert any(line.startswith("gone") and "missing" in line for line in lines)


def test_the_shell_completes_aliases(user_folder: Path) -> None:
    add_alias("mistral", "hf:a/b")
    add_alias("mine", "hf:a/b")
    add_alias("other", "hf:a/b")
    add_alias("dog", model="hf:a/b")
    add_alias("done", model="hf:a/b", bundle="hf:a/c")

    def completed(line: str) -> list[str]:
        environment = {"_ATV_LOCAL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}
        return CliRunner().invoke(app, [], prog_name="atv-local", env=environment).stdout.split('"')[1::2]

    assert completed("atv-local run -m mi") == ["mine", "mistral"]
    assert completed("atv-local run -g o") == ["other"]
    assert completed("atv-local inspect mis") == ["mistral"]
    assert completed("atv-local run -m d") == ["default", "dog", "done"]
    assert completed("atv-local run -g d") == ["demo", "done"]
    assert completed("atv-local pull d") == ["default", "demo", "dog", "done"]
    assert completed("atv-local alias --remove d") == ["dog", "done"]
    assert "default" not in completed("atv-local run -m ")
    (user_folder / "aliases.json").write_text("damaged")
    assert completed("atv-local run -m mi") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell_can_be_shown(shell: str) -> None:
    environment = os.environ | {"_ATV_LOCAL_COMPLETE": f"source_{shell}"}
    code = "from atv_cli.main import app; app(prog_name='atv-local')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "_ATV_LOCAL_COMPLETE" in result.stdout
    assert f"complete_{shell}" in result.stdout


def test_help_imports_nothing_of_the_stores() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from atv_cli.main import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print([n for n in ('huggingface_hub', 'platformdirs', 'pydantic', 'numpy', 'packaging') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_path_imports_no_hub(tiny_gguf: Path) -> None:
    code = (
        "import sys; from atv_local.names import resolve_bundle, resolve_model; "
        "resolve_model(sys.argv[1]); resolve_model('default'); resolve_bundle('demo'); "
        "print([n for n in ('huggingface_hub', 'platformdirs', 'importlib.metadata') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tiny_gguf)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_bundles_with_commas_between_are_not_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    with pytest.raises(NotFoundError) as raised:
        resolve_bundle("one,two")
    assert "by itself" not in str(raised.value)
    (tmp_path / "two").mkdir()
    with pytest.raises(NotFoundError, match="by itself"):
        resolve_bundle("one,two")
