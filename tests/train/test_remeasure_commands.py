"""The commands of `make results`: the programs take their options."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest

from benchmarks.remeasure import PARTS


class ParsedError(Exception):
    """Everything was understood."""


def commands() -> Iterator[str]:
    for part in PARTS:
        yield from (command for command in part.commands if "atv_cli" not in command)


@pytest.mark.parametrize("command", list(commands()))
def test_a_command_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def only_parse(*arguments: object, **options: object) -> NoReturn:
        parse(*arguments, **options)  # type: ignore[call-overload]
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    _, module, *words = command.format(data="data", run="run", work="work", out="out.jsonl").split()
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ParsedError):
        runpy.run_module(module, run_name="__main__")
