"""Plug-ins of other packages: stores of names and executors, whole and broken."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local.errors import AtvError, NotFoundError, PluginError, UsageError
from atv_local.names import absolute_name, add_alias, resolve_bundle, resolve_model
from tests.tiny import write_gguf

Install = Callable[..., None]

SHELF = """
from pathlib import Path
from atv_local.names import ListedName

class Shelf:
    def resolve(self, name, kind, *, offline):
        if kind == "bundle":
            return Path("/shelf/bundle")
        return Path(__file__).parent / f"{name}.gguf"

    def full_name(self, name):
        return name.lower()

    def names(self):
        return [ListedName("one", "Q4_0"), ListedName("two")]

    def is_available(self):
        return True
"""

ECHO = """
from atv_local.batch import RowResult

def echo(settings, rows, *, options, say):
    say(f"{options['address']} with {options['workers']}")
    for row in rows:
        added = {"line": row.line, "text": row.query[::-1], "finish_reason": "stop", "tokens": {}}
        yield RowResult(row, {**row.fields, **added})
"""


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def set_options(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--executor-option", text)]


pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package of one module and one entry point where Python finds it, as an installer would."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def write(package: str, code: str, group: str, entry: str) -> None:
        monkeypatch.delitem(sys.modules, package, raising=False)  # another test's
        (site / f"{package}.py").write_text(code)
        info = site / f"{package}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\nProvides-Extra: net\n")
        (info / "entry_points.txt").write_text(f"[atv_local.{group}]\n{entry}\n")

    return write


# Stores of names


def test_a_store_of_another_package_is_named_by_its_scheme(install: Install, tmp_path: Path) -> None:
    install("shelf", SHELF, "names", "shelf = shelf:Shelf")
    one = write_gguf(tmp_path / "site" / "one.gguf")
    assert resolve_model("shelf:one") == one
    assert resolve_bundle("shelf:one") == Path("/shelf/bundle")
    assert absolute_name("shelf:ONE") == "shelf:one"
    assert cli("alias", "mine", "shelf:ONE").exit_code == 0
    assert resolve_model("mine") == one
    listed = {entry["name"]: entry for entry in json.loads(cli("ls", "--json").stdout)}
    assert (listed["shelf:one"]["path"], listed["shelf:one"]["quantisation"]) == (str(one), "Q4_0")
    assert "cannot read" in listed["shelf:two"]["error"]
    assert listed["mine"]["path"] == str(one)


def test_an_alias_outlives_the_package_that_it_needs(user_folder: Path) -> None:
    (user_folder / "aliases.json").parent.mkdir(parents=True)
    (user_folder / "aliases.json").write_text('{"mine": "nowhere:one"}')
    with pytest.raises(NotFoundError, match="nowhere:"):
        resolve_model("mine")
    assert "nowhere:one" in cli("alias").stdout


@pytest.mark.parametrize("name", ["nowhere:one", "https://example.org/x.gguf"])
def test_an_unknown_scheme_is_answered_with_those_known(install: Install, name: str) -> None:
    install("shelf", SHELF, "names", "shelf = shelf:Shelf")
    for use in (resolve_model, absolute_name):
        with pytest.raises(NotFoundError, match="hf:, ollama:, shelf:"):
            use(name)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('broken\\nin two lines')", "RuntimeError: broken"),
        ("import no_such_package_at_all", "no_such_package_at_all"),
        ("x = 1", "has no attribute 'Shelf'"),
        ("class Shelf: pass", "lacks a method"),
        ("class Shelf:\n    def __init__(self): raise OSError(5, 'no disk')", "no disk"),
        (SHELF.replace('f"{name}.gguf"', "str(1 / 0)"), "ZeroDivisionError"),
        (SHELF.replace("Path(__file__).parent / ", ""), "not a Path"),
    ],
)
def test_a_broken_store_is_one_sentence_that_names_its_package(install: Install, code: str, words: str) -> None:
    install("shelf", code, "names", "shelf = shelf:Shelf")
    result = cli("run", "-m", "shelf:one", "hello")
    assert result.exit_code in (1, 2)
    assert len(result.stderr.splitlines()) == 1, result.output
    assert words in result.stderr
    assert "shelf" in result.stderr


def test_a_broken_store_hides_no_other_name(install: Install, tmp_path: Path) -> None:
    install("shelf", "raise RuntimeError('broken')", "names", "shelf = shelf:Shelf")
    install("rack", SHELF.replace('ListedName("two")', "1 / 0"), "names", "rack = rack:Shelf")
    install("case", SHELF.replace('ListedName("two")', '"two"'), "names", "case = case:Shelf")
    add_alias("mine", str(write_gguf(tmp_path / "m.gguf")))
    result = cli("ls", "--json")
    listed = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert (result.exit_code, listed["mine"]["error"]) == (0, "")
    for scheme, words in (("shelf", "broken"), ("rack", "ZeroDivisionError"), ("case", "not a ListedName")):
        assert words in listed[f"{scheme}:"]["error"]
        assert f"{scheme} 1.5" in listed[f"{scheme}:"]["error"]


def test_a_store_that_is_not_available_is_not_listed(install: Install) -> None:
    install("shelf", SHELF.replace("return True", "return False"), "names", "shelf = shelf:Shelf")
    assert not [entry for entry in json.loads(cli("ls", "--json").stdout) if entry["name"].startswith("shelf")]


def test_two_packages_with_one_scheme_are_named(install: Install) -> None:
    for package in ("shelf", "rack"):
        install(package, SHELF, "names", f"books = {package}:Shelf")
    with pytest.raises(PluginError, match=r"(shelf 1.5 and rack|rack 1.5 and shelf) 1.5 both"):
        resolve_model("books:one")


def test_the_built_in_scheme_cannot_be_taken(install: Install) -> None:
    install("shelf", SHELF, "names", "hf = shelf:Shelf")
    with pytest.raises(AtvError, match="is not of the form"):
        resolve_model("hf:one")


def test_plugins_are_looked_up_only_when_a_name_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(importlib.metadata, "entry_points", refuse)
    add_alias("mine", str(tmp_path))
    assert resolve_model(str(tmp_path)) == resolve_model("mine") == tmp_path
    with pytest.raises(NotFoundError, match="hf:user/repo"):
        resolve_model("hf:user/repo", offline=True)
    with pytest.raises(AssertionError):
        resolve_model("other:one")


# Executors


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"input": "abc", "id": 1}\n{"input": "de"}\n')
    return file


@pytest.fixture
def answer(tmp_path: Path, rows: Path) -> Callable[..., Result]:
    target = write_gguf(tmp_path / "m.gguf")
    return lambda *more: cli("batch", rows, tmp_path / "out.jsonl", "-m", target, "--off", *more)


def test_rows_are_answered_by_the_executor_that_is_named(
    install: Install, answer: Callable[..., Result], tmp_path: Path
) -> None:
    install("echo", ECHO, "executors", "echo = echo:echo")
    result = answer("--executor", "echo", *set_options("address=there", "workers=3"))
    assert result.exit_code == 0, result.stderr
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["text"], row.get("id")) for row in written] == [("cba", 1), ("ed", None)]
    assert "there with 3" in result.stderr


@pytest.mark.parametrize(
    ("code", "entry", "words", "exit_code"),
    [
        (ECHO, "other = echo:echo", "'echo'", 2),
        ("import no_such_package_at_all", "echo = echo:echo", "no_such_package_at_all", 2),
        ("raise RuntimeError('broken')", "echo = echo:echo", "RuntimeError: broken", 1),
        (ECHO.replace("say(f", "say(1 / 0, f"), "echo = echo:echo", "ZeroDivisionError", 1),
        ("echo = 1", "echo = echo:echo", "TypeError", 1),
    ],
)
def test_an_executor_that_is_missing_or_broken_is_one_sentence(
    install: Install, answer: Callable[..., Result], tmp_path: Path, code: str, entry: str, words: str, exit_code: int
) -> None:
    install("echo", code, "executors", entry)
    result = answer("--executor", "echo")
    assert result.exit_code == exit_code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_an_executor_without_what_it_needs_says_how_to_install_it(
    install: Install, answer: Callable[..., Result]
) -> None:
    install("far", "import no_such_package_at_all", "executors", "net = far:net")
    assert "pip install 'far[net]'" in answer("--executor", "net").stderr


def test_the_options_of_an_executor_are_refused_without_one(answer: Callable[..., Result]) -> None:
    result = answer(*set_options("workers=2"))
    assert (result.exit_code, "--executor NAME" in result.stderr) == (2, True)


@pytest.mark.parametrize("text", ["workers", "=2", ""])
def test_an_option_of_an_executor_has_a_name_and_a_value(
    install: Install, answer: Callable[..., Result], text: str
) -> None:
    install("echo", ECHO, "executors", "echo = echo:echo")
    result = answer("--executor", "echo", *set_options(text))
    assert (result.exit_code, f"--executor-option {text!r}" in result.stderr) == (2, True)


def test_what_this_package_registers_is_there() -> None:
    groups = {group: importlib.metadata.entry_points(group=f"atv_local.{group}") for group in ("names", "executors")}
    assert "ollama" in groups["names"].names
    assert "ray" in groups["executors"].names
    for entry in groups["names"]:
        entry.load()


def test_an_error_of_ours_passes_through_a_plugin(install: Install) -> None:
    code = SHELF.replace("if kind", "raise UsageError('say it better')\n        if kind")
    install("shelf", f"from atv_local.errors import UsageError\n{code}", "names", "shelf = shelf:Shelf")
    with pytest.raises(UsageError, match=r"^say it better$"):
        resolve_model("shelf:one")
