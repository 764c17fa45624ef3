"""Options that are numbers or one of a few words: another value is named in the error, with what is expected."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from typer.testing import CliRunner

from atv_cli import app
from atv_cli.option_groups import expand_groups
from atv_cli.verbs import VERBS

ARGUMENTS = {"train": ["rows.jsonl"], "eval": ["rows.jsonl"], "calibrate": ["rows.jsonl"], "export": ["a", "b"]}


def bases(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Literal or isinstance(kind, type):
        yield kind
    else:
        for part in get_args(kind):
            yield from bases(part)


def options() -> Iterator[tuple[str, str, str]]:
    """Verb, flag and what is wrong for it."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    for verb, function in VERBS.items():
        annotations = inspect.signature(expand_groups(function)).parameters
        for option in commands[verb].params:
            if option.name not in annotations or option.param_type_name == "argument" or option.is_flag:
                continue
            kinds = list(bases(get_args(annotations[option.name].annotation)[0]))
            flag = next(name for name in option.opts if name.startswith("--"))
            if int in kinds or float in kinds:
                yield verb, flag, "many"
            elif any(get_origin(kind) is Literal or issubclass(kind, Enum) for kind in kinds):
                yield verb, flag, "sideways"


OPTIONS = list(options())


@pytest.mark.parametrize(("verb", "flag", "value"), OPTIONS, ids=str)
def test_a_value_of_another_kind_is_named(verb: str, flag: str, value: str) -> None:
    result = CliRunner().invoke(app, [verb, *ARGUMENTS.get(verb, []), flag, value, value])
    assert result.exit_code == 2
    assert f"'{flag}'" in result.stderr
    assert f"'{value}'" in result.stderr
    assert not [words for words in ("Value error", "unable to") if words in result.stderr]


def test_there_are_such_options() -> None:
    assert len({verb for verb, *_ in OPTIONS}) > 8
    assert len(OPTIONS) > 60
