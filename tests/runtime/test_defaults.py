"""Which model and bundle are used: named, from the environment, from the configuration file, embedded; and pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copy, copytree

import pytest
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_local.errors import MismatchError, NotFoundError, UsageError
from atv_local.names import (
    Choice,
    add_alias,
    choose_bundle,
    choose_model,
    embedded_bundle,
    embedded_model,
    read_aliases,
    resolve_bundle,
    resolve_model,
    resolve_name,
    set_default,
)
from tests.tiny import write_gguf


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder, which exists; the current one is another."""
    user_folder.mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return user_folder


def write_config(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def named(model: str | None = None, bundle: str | None = None) -> tuple[str, str]:
    return str(choose_model(model).name), str(choose_bundle(bundle, model).name)


# Precedence


def test_a_name_goes_before_the_environment_before_the_file_before_the_embedded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named() == ("default", "demo")
    file = write_config(folder, 'model = "hf:c/m"\nbundle = "hf:c/b"\n')
    assert named() == ("hf:c/m", "hf:c/b")
    assert choose_model().source == choose_bundle().source == str(file)
    monkeypatch.setenv("ATV_MODEL", "hf:e/m")
    monkeypatch.setenv("ATV_BUNDLE", "hf:e/b")
    assert named() == ("hf:e/m", "hf:e/b")
    assert (choose_model().source, choose_bundle().source) == ("ATV_MODEL", "ATV_BUNDLE")
    assert named("hf:n/m", "hf:n/b") == ("hf:n/m", "hf:n/b")
    assert named("hf:n/m") == ("hf:n/m", "hf:e/b")
    assert named("default", "demo") == ("default", "demo")
    assert choose_model("default").source == ""


def test_one_of_the_two_can_be_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(folder, 'bundle = "hf:c/b"\n')
    monkeypatch.setenv("ATV_MODEL", "hf:e/m")
    assert named() == ("hf:e/m", "hf:c/b")


def test_an_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATV_MODEL", "")
    monkeypatch.setenv("ATV_BUNDLE", "")
    assert (resolve_model(), resolve_bundle()) == (embedded_model(), embedded_bundle())


def test_paths_are_relative_to_where_they_are_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(folder, 'model = "models/m.gguf"\nbundle = "~/b/"\n')
    monkeypatch.setattr(Path, "expanduser", lambda path: Path(str(path).replace("~", str(folder))))
    (folder / "b").mkdir()
    copy(embedded_bundle() / "atv.json", folder / "b")
    for place in (folder, Path()):
        (place / "models").mkdir()
        (place / "models" / "m.gguf").write_bytes(b"GGUF")
    assert (resolve_model(), resolve_bundle()) == (folder / "models" / "m.gguf", folder / "b")
    monkeypatch.setenv("ATV_MODEL", "models/m.gguf")
    assert resolve_model() == Path("models/m.gguf")


def test_a_folder_here_does_not_take_the_place_of_a_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("demo", "default", "mine"):
        Path(name).mkdir()
    copy(embedded_bundle() / "atv.json", "demo")
    assert (resolve_model(), resolve_bundle()) == (embedded_model(), embedded_bundle())
    write_config(folder, 'bundle = "demo"\n')
    assert resolve_bundle() == embedded_bundle()
    assert resolve_bundle("demo") == Path("demo")
    monkeypatch.setenv("ATV_BUNDLE", "demo")
    assert resolve_bundle() == Path("demo")


def test_the_file_is_read_only_where_nothing_is_named(folder: Path) -> None:
    write_config(folder, "damaged")
    for name in ("a.gguf", "b.zip"):
        (folder / name).touch()
    assert resolve_model(str(folder / "a.gguf")) == folder / "a.gguf"
    assert resolve_bundle(str(folder / "b.zip")) == folder / "b.zip"
    with pytest.raises(UsageError, match=r"config\.toml"):
        resolve_model()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model", "not TOML"),
        ("model = 1", "model = 1"),
        ('model = ""', "model = ''"),
        ('modle = "x"', "'modle'"),
        ('[model]\nname = "x"', "{'name': 'x'}"),
        ('model = "a\\u0000"', "not the name"),
        ("a = " + "[" * 5000, "config.toml"),
        ("#" * (2 << 20), "larger than"),
    ],
)
def test_a_file_that_is_not_valid_is_one_sentence(folder: Path, text: str, words: str) -> None:
    file = write_config(folder, text)
    for arguments in (["run", "hello"], ["config"], ["config", "model", "default"]):
        result = cli(*arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
        assert str(file) in result.stderr
        assert words in result.stderr
    assert file.read_text() == text
    listed = {entry["name"]: entry for entry in json.loads(cli("ls", "--json").stdout)}
    assert str(file) in listed["(config)"]["error"]
    assert listed["default"]["path"] == str(embedded_model())


def test_a_file_that_is_not_text_is_one_sentence(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b'model = "\xff"')
    assert "not UTF-8" in cli("config").stderr


# Setting them


def test_defaults_are_set_shown_and_removed(folder: Path, tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "here" / 'm "1" ü.gguf')
    assert cli("config", "model", model.name).exit_code == 0
    assert cli("config", "bundle", "hf:user/repo").exit_code == 0
    assert named() == (str(model), "hf:user/repo")
    assert cli("config", "model").stdout.strip() == str(model)
    lines = cli("config").stdout.splitlines()
    assert str(model) in lines[0]
    assert str(folder / "config.toml") in lines[0]
    assert str(folder / "config.toml") in lines[2]
    assert cli("config", "bundle", "--unset").exit_code == 0
    assert cli("config", "bundle").stdout.strip() == "demo"
    assert "embedded" in cli("config").stdout.splitlines()[1]
    assert cli("config", "model", "--unset").exit_code == 0
    assert named() == ("default", "demo")


def test_comments_stay_when_a_default_is_set(folder: Path) -> None:
    file = write_config(folder, '# mine\nmodel = "hf:a/b"  # old\n# end')
    set_default("bundle", "demo")
    assert file.read_text() == '# mine\nmodel = "hf:a/b"  # old\n# end\nbundle = "demo"\n'
    set_default("model", None)
    assert file.read_text() == '# mine\n# end\nbundle = "demo"\n'


def test_a_file_written_in_another_way_is_left_alone(folder: Path) -> None:
    file = write_config(folder, text := '"model" = "hf:a/b"\n')
    assert choose_model().name == "hf:a/b"
    with pytest.raises(UsageError, match=r"config\.toml"):
        set_default("model", "hf:c/d")
    assert file.read_text() == text


def test_an_alias_can_be_a_default_and_nothing_unknown_can() -> None:
    add_alias("mine", "hf:user/repo")
    assert cli("config", "model", "mine").exit_code == 0
    assert choose_model().name == "mine"
    for name in ("nothing", "missing.gguf", "nowhere:x"):
        result = cli("config", "model", name)
        assert result.exit_code in (1, 2)
        assert name.partition(":")[0] in result.stderr
    add_alias("steer", bundle="demo")
    for arguments in (["model", "demo"], ["bundle", "default"], ["model", "steer"]):
        assert cli("config", *arguments).exit_code == 1
    assert cli("config", "bundle", "steer").exit_code == 0
    assert (choose_model().name, choose_bundle().name) == ("mine", "steer")


def test_uses_of_config_that_say_nothing_are_refused() -> None:
    for arguments in (["--unset"], ["model", "default", "--unset"], ["n_ctx"]):
        assert cli("config", *arguments).exit_code == 2


def test_two_processes_do_not_lose_each_others_defaults(folder: Path) -> None:
    from filelock import FileLock

    with FileLock(folder / "config.lock"):
        assert "another process" in cli("config", "model", "default").stderr


# Pairs


def test_an_alias_for_a_pair_names_both_where_it_names_the_model() -> None:
    add_alias("mine", model="hf:user/model:Q4_K_M", bundle="hf:user/bundle")
    add_alias("other", model="hf:user/model", bundle="hf:user/other")
    assert named("mine") == ("mine", "mine")
    assert named("mine", "demo") == ("mine", "demo")
    assert named("mine", "other") == ("mine", "other")
    assert named(None, "mine") == ("default", "mine")
    assert named("default", "mine") == ("default", "mine")


def test_the_bundle_of_a_pair_comes_with_its_model_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_alias("pair", model="hf:p/m", bundle="hf:p/b")
    write_config(folder, 'bundle = "hf:c/b"\n')
    monkeypatch.setenv("ATV_MODEL", "pair")
    assert named() == ("pair", "pair")
    assert choose_bundle().source == "ATV_MODEL"
    assert named("hf:n/m") == ("hf:n/m", "hf:c/b")
    monkeypatch.setenv("ATV_BUNDLE", "hf:e/b")
    assert named() == ("pair", "hf:e/b")
    assert named("pair") == ("pair", "pair")
    monkeypatch.delenv("ATV_MODEL")
    write_config(folder, 'model = "pair"\nbundle = "hf:c/b"\n')
    assert named() == ("pair", "hf:e/b")
    monkeypatch.delenv("ATV_BUNDLE")
    assert named() == ("pair", "hf:c/b")
    write_config(folder, 'model = "pair"\n')
    assert named() == ("pair", "pair")


def test_each_half_is_found_and_a_missing_half_is_said(tmp_path: Path) -> None:
    model, bundle = write_gguf(tmp_path / "m.gguf"), embedded_bundle()
    add_alias("both", model=str(model), bundle="demo")
    add_alias("target", model=str(model))
    add_alias("steer", bundle=str(bundle))
    assert (resolve_model("both"), resolve_bundle("both"), resolve_name("both")) == (model, bundle, bundle)
    assert resolve_bundle(model="both") == bundle
    assert (resolve_model("target"), resolve_bundle("steer")) == (model, bundle)
    assert choose_bundle(None, "target") == Choice("bundle", "demo", "embedded", here=False)
    for resolve, name, words in ((resolve_bundle, "target", "-m"), (resolve_model, "steer", "-g")):
        with pytest.raises(NotFoundError, match=f"{name}.*{words}"):
            resolve(name)
    assert cli("pull", "both").stdout.splitlines() == [str(model), str(bundle)]
    listed = [(entry["name"], entry["kind"]) for entry in json.loads(cli("ls", "--json").stdout)]
    assert {("both", "model"), ("both", "bundle"), ("target", "model"), ("steer", "bundle")} <= set(listed)


def test_pairs_are_made_replaced_and_listed(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "here" / "m.gguf")
    result = cli("alias", "mine", "-m", "m.gguf", "-g", "demo")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert cli("alias").stdout == f"mine  -m {model} -g demo\n"
    result = cli("alias", "mine", "-g", "hf:user/repo")
    assert (result.exit_code, f"-m {model} -g demo" in result.stderr) == (0, True)
    assert cli("alias").stdout == "mine  -g hf:user/repo\n"
    assert not read_aliases()["mine"].model
    for arguments in (["mine", "m.gguf", "-m", "m.gguf"], ["-m", "m.gguf"], ["mine"], ["mine", "-m", "missing"]):
        assert cli("alias", *arguments).exit_code == 2
    assert cli("alias", "mine", "-m", "demo").exit_code == 1
    assert cli("alias").stdout == "mine  -g hf:user/repo\n"


def test_verbs_use_a_pair(tiny_gguf: Path, tiny_bundle: Path, tiny_rows: Path, tmp_path: Path) -> None:
    add_alias("mine", model=str(tiny_gguf), bundle=str(tiny_bundle))
    result = cli("run", "-m", "mine", "--json", "apple 1")
    assert json.loads(result.stdout)["text"] == "a", result.stderr
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(tiny_rows.read_text().splitlines(keepends=True)[:4]))
    for arguments in (
        ["batch", rows, tmp_path / "answers.jsonl"],
        ["eval", rows, "--no-harm", "--timed", "0"],
        ["bench", "--quick", "--rounds", "2", "--only", "generator"],
    ):
        result = cli(*arguments, "-m", "mine")
        assert result.exit_code == 0, (arguments, result.stderr)
    answers = [json.loads(line)["text"] for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert answers == [json.loads(line)["output"] for line in rows.read_text().splitlines()]


def test_verbs_use_the_defaults(
    tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_alias("mine", model=str(tiny_gguf), bundle=str(tiny_bundle))
    set_default("model", "mine")
    assert json.loads(cli("run", "--json", "apple 1").stdout)["text"] == "a"
    assert cli("vector", "apple", "-o", tmp_path / "v.gguf").exit_code == 0
    engine = atv_local.load()
    assert (engine.target.spec.name, engine.generator is not None) == ("tiny", True)
    vectors = [(tmp_path / "v.gguf", 1.0)]
    assert atv_local.load(control_vectors=vectors).generator is None
    assert atv_local.load("mine", control_vectors=vectors).generator is not None
    checks = {check["name"]: check for check in json.loads(cli("doctor", "--json").stdout)["checks"]}
    for name in ("model", "bundle"):
        assert "config.toml" in checks[name]["detail"]
    assert "generator" in checks["steering"]["detail"]
    monkeypatch.setenv("ATV_BUNDLE", str(tmp_path / "missing"))
    assert cli("run", "--off", "-n", "2", "hello").exit_code == 0


# What is not there or does not fit


def test_a_default_that_is_not_there_is_named_with_what_set_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.gguf").touch()
    add_alias("steer", bundle=str(tmp_path / "b.gguf"))
    file = write_config(folder, 'model = "gone/m.gguf"\n')
    for name, source in (("gone/m.gguf", file), ("steer", "ATV_MODEL"), ("nothing", "ATV_MODEL")):
        if source != file:
            monkeypatch.setenv("ATV_MODEL", name)
        for arguments in (["run", "hello"], ["bench", "--only", "vector"]):
            result = cli(*arguments)
            assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.output
            assert name in result.stderr
            assert f"set by {source}" in result.stderr
        checks = {check["name"]: check for check in json.loads(cli("doctor", "--json").stdout)["checks"]}
        assert (checks["model"]["state"], f"set by {source}" in checks["model"]["detail"]) == ("missing", True)


def test_a_default_of_the_other_kind_is_refused(folder: Path, tiny_gguf: Path, tiny_bundle: Path) -> None:
    add_alias("a", str(tiny_gguf))
    add_alias("b", str(tiny_bundle))
    for kind, names in {"bundle": (tiny_gguf, "a"), "model": (tiny_bundle, "b")}.items():
        for name in names:
            result = cli("config", kind, name)
            assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.output
            assert str({"bundle": tiny_gguf, "model": tiny_bundle}[kind]) in result.stderr
    assert not (folder / "config.toml").exists()
    for kind, name in (("model", "a"), ("bundle", "b")):
        assert cli("config", kind, name).exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["run", "hello"], ["batch", "rows.jsonl", "out.jsonl"], ["serve", "--port", "0"]]
)
def test_a_default_that_cannot_be_opened_is_named_with_what_set_it(
    arguments: list[str], tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("rows.jsonl").write_text('{"input": "a"}\n')
    damaged = copytree(tiny_bundle, tmp_path / "damaged")
    (damaged / "tokenizer.json").write_text("{}")
    (tmp_path / "damaged.gguf").write_bytes(tiny_gguf.read_bytes()[:4000])
    monkeypatch.setenv("ATV_MODEL", str(tiny_gguf))
    for name, value in (
        ("ATV_BUNDLE", tiny_gguf),
        ("ATV_BUNDLE", damaged),
        ("ATV_MODEL", tiny_bundle),
        ("ATV_MODEL", tmp_path / "damaged.gguf"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv("ATV_BUNDLE", str(tiny_bundle))
            patch.setenv(name, str(value))
            result = cli(*arguments)
        assert (result.exit_code, len(result.stderr.strip().splitlines())) == (1, 1), result.output
        assert str(value) in result.stderr
        assert result.stderr.count(f"set by {name}") == 1


@pytest.mark.parametrize(
    "arguments", [["vector", "hi", "-o", "v.gguf"], ["calibrate", "rows.jsonl", "-o", "new"], ["bench", "--quick"]]
)
def test_a_default_bundle_that_cannot_be_opened_is_named_with_what_set_it(
    arguments: list[str], tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    damaged = copytree(tiny_bundle, tmp_path / "damaged")
    (damaged / "tokenizer.json").write_text("{}")
    monkeypatch.setenv("ATV_MODEL", str(tiny_gguf))
    for value in (tiny_gguf, damaged):
        monkeypatch.setenv("ATV_BUNDLE", str(value))
        result = cli(*arguments)
        assert (result.exit_code, len(result.stderr.strip().splitlines())) == (1, 1), result.output
        assert str(value) in result.stderr
        assert result.stderr.count("set by ATV_BUNDLE") == 1


def test_nothing_is_added_to_an_error_about_a_name_that_was_given() -> None:
    with pytest.raises(NotFoundError) as raised:
        resolve_model("nothing")
    assert "the default" not in str(raised.value)


def test_a_default_that_does_not_fit_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_gguf(tmp_path / "m.gguf")
    result = cli("run", "-m", model, "hello")
    assert result.exit_code == 1
    assert "the bundle is the embedded one" in result.stderr
    assert "--bundle" in result.stderr
    monkeypatch.setenv("ATV_MODEL", str(model))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "a"}\n')
    for arguments in (["run", "hello"], ["batch", rows, tmp_path / "out.jsonl"], ["serve", "--port", "0"]):
        result = cli(*arguments)
        assert (result.exit_code, len(result.stderr.strip().splitlines())) == (1, 1), result.output
        assert "set by ATV_MODEL" in result.stderr
    with pytest.raises(MismatchError, match="the model is set by ATV_MODEL"):
        atv_local.load(bundle="demo")
    with pytest.raises(MismatchError) as raised:
        atv_local.load(model, "demo")
    assert "set by" not in str(raised.value)
    assert "`off=True`" in str(raised.value)
    checks = {check["name"]: check for check in json.loads(cli("doctor", "--json").stdout)["checks"]}
    assert "random vector" in checks["steering"]["detail"]


# What is listed


def test_ls_marks_the_defaults(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def marked() -> dict[tuple[str, str], str]:
        entries = json.loads(cli("ls", "--json").stdout)
        return {(entry["name"], entry["kind"]): entry["default"] for entry in entries if entry["default"]}

    assert marked() == {("default", "model"): "embedded", ("demo", "bundle"): "embedded"}
    model = write_gguf(tmp_path / "m.gguf")
    monkeypatch.setenv("ATV_MODEL", str(model))
    assert marked() == {(str(model), "model"): "ATV_MODEL", ("demo", "bundle"): "embedded"}
    add_alias("mine", model=str(model), bundle="demo")
    monkeypatch.setenv("ATV_MODEL", "mine")
    assert marked() == {("mine", "model"): "ATV_MODEL", ("mine", "bundle"): "ATV_MODEL"}
    write_config(folder, 'model = "hf:user/missing"')
    monkeypatch.delenv("ATV_MODEL")
    assert marked()["hf:user/missing", ""] == str(folder / "config.toml")
    monkeypatch.setenv("ATV_BUNDLE", "/no/where")
    assert marked()["/no/where", ""] == "ATV_BUNDLE"
    assert sum("default" in line for line in cli("ls").stdout.splitlines()) >= 2
