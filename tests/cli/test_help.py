"""Help pages and options: what `atv-local` says of itself, at 80 columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from atv_cli import app
from atv_cli.help_pages import help_page
from atv_cli.option_groups import expand_groups
from atv_cli.options import SamplingOptions
from atv_cli.verbs import VERBS

PROGRAM: Any = get_command(app)
PAGES = {"": PROGRAM, **PROGRAM.commands}
PARAMETERS = {f"{verb} {each.name}": each for verb, command in PAGES.items() for each in command.params}


def page(verb: str) -> str:
    result = CliRunner().invoke(app, [*verb.split(), "-h"], prog_name="atv-local", env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("verb", PAGES)
def test_a_page_fits_80_columns_and_breaks_no_word(verb: str) -> None:
    text, command = page(verb), PAGES[verb]
    assert max(map(len, text.splitlines())) <= 80
    context = command.context_class(command, info_name=verb, help_option_names=["--help", "-h"], terminal_width=10_000)
    unwrapped = help_page(command, context)
    assert set(text.split()) <= set(unwrapped.split()) | set(f"atv-local {verb}".split())
    assert not re.search(r"<(str|int|float|bool|path|file|directory|list|tuple)\b", text)
    assert "{" not in text.partition("\n\n")[0]


def test_both_help_options_give_the_same_page() -> None:
    assert CliRunner().invoke(app, ["run", "--help"]).stdout == CliRunner().invoke(app, ["run", "-h"]).stdout


def test_the_summary_of_every_verb_is_whole() -> None:
    text = " ".join(page("").split())
    for name, verb in VERBS.items():
        summary = (verb.__doc__ or "").splitlines()[0]
        assert summary.endswith(".")
        assert f"{name} {summary}" in text


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_help_of_an_option_is_a_sentence_that_stands_alone(name: str) -> None:
    parameter = PARAMETERS[name]
    if parameter.param_type_name == "option":
        assert re.fullmatch(r"[A-Z].*\.", parameter.help)
    else:
        assert parameter.metavar
    assert len(parameter.help.split()) > 2
    assert "[default" not in parameter.help


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("--temp", "temperature", 0.5),
        ("--ctx-size", "n_ctx", 64),
        ("--threads", "n_threads", 3),
        ("--gpu-layers", "n_gpu_layers", 2),
    ],
)
def test_the_names_that_llama_cli_has_are_taken_too(old: str, new: str, value: float) -> None:
    assert PROGRAM.commands["run"].make_context("run", [old, str(value), "hi"]).params[new] == value


@dataclass(frozen=True)
class Group:
    """Two options."""

    size: Annotated[int, typer.Option("--size", "-z", help="Set the size.")] = 3
    name: Annotated[str | None, typer.Option(help="Set the name.")] = None


def test_a_verb_gets_groups_filled_with_what_was_given() -> None:
    calls = []

    def verb(query: str, *, group: Group, sampling: SamplingOptions, last: bool = False) -> None:
        calls.append((query, group, sampling, last))

    program = typer.Typer()
    program.command()(expand_groups(verb))
    for arguments in ("hi", "hi -z 5 --name x -n 7 --last"):
        result = CliRunner().invoke(program, arguments.split())
        assert result.exit_code == 0, result.output
    assert calls == [
        ("hi", Group(), SamplingOptions(), False),
        ("hi", Group(5, "x"), SamplingOptions(max_tokens=7), True),
    ]


def test_an_option_means_the_same_in_every_command() -> None:
    """One flag sets one parameter, and a parameter has the same flags and takes the same form."""
    several_forms = {"bundle", "control_vector", "output"}  # `serve` takes ids with them; an output is file or folder
    flags: dict[str, set[str]] = {}
    spellings: dict[str, set[object]] = {}
    forms: dict[str, set[object]] = {}
    for option in (each for each in PARAMETERS.values() if each.param_type_name == "option"):
        for flag in (*option.opts, *option.secondary_opts):
            flags.setdefault(flag, set()).add(option.name)
        spellings.setdefault(option.name, set()).add((*option.opts, *option.secondary_opts))
        forms.setdefault(option.name, set()).add((option.metavar, option.is_flag, option.multiple, option.nargs))
    assert [flag for flag, names in flags.items() if len(names) > 1] == []
    assert [name for name, found in spellings.items() if len(found) > 1] == []
    assert {name for name, found in forms.items() if len(found) > 1} <= several_forms
