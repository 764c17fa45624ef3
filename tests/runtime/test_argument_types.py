"""Arguments that are checked by the types in a signature: what is accepted, and how the rest is refused."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from atv_local.data import (
    DEFAULT_COLUMNS,
    ColumnNames,
    Count,
    CountOrZero,
    DataPaths,
    FilePaths,
    Number,
    NumberOrZero,
    PathOrName,
    Switch,
    checked_arguments,
)
from atv_local.errors import UsageError
from atv_local.vectors import LayerRange, Positions, PositionsName


@checked_arguments
def given(
    data: DataPaths = "x",
    *,
    more: FilePaths = (),
    model: PathOrName | None = None,
    columns: ColumnNames = DEFAULT_COLUMNS,
    count: Count | None = None,
    number: Number = 0.0,
    rate: NumberOrZero = 0.0,
    zero: CountOrZero = 0,
    switch: Switch = False,
    layers: LayerRange | None = None,
    positions: PositionsName = Positions.ALL,
    choice: Literal["a", "b"] = "a",
) -> dict[str, Any]:
    return locals()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("data", Path("x"), Path("x")),
        ("data", ["x", Path("y")], ["x", Path("y")]),
        ("more", [], []),
        ("columns", {"input": "question"}, {"input": "question"}),
        ("count", np.int64(3), 3),
        ("count", None, None),
        ("number", np.float32(0.5), 0.5),
        ("number", 2, 2.0),
        ("switch", np.bool_(True), True),
        ("layers", np.array([2, 3]), (2, 3)),
        ("layers", "2-3", (2, 3)),
        ("layers", [2, np.int32(3)], (2, 3)),
        ("positions", "last", Positions.LAST),
    ],
)
def test_what_fits_is_python_own(name: str, value: Any, expected: Any) -> None:
    found = given(**{name: value})[name]
    assert (found, type(found)) == (expected, type(expected))


NUMBERS = ["1", None, [1], True, float("nan"), float("inf"), -float("inf"), b"1", 1j]
BAD = {
    "data": [None, 1, "", [], [""], [1], b"x", {"x": 1}, "a\0b", True],
    "more": [None, 1, "", [None]],
    "model": ["", 1, [], True, "a\0"],
    "columns": ["input=x", 1, ["input"], {"input": 1}, {1: "x"}],
    "count": [*(value for value in NUMBERS if value is not None), 0, -1, 1.0, np.float64(1), np.bool_(True)],
    "number": NUMBERS,
    "rate": [*NUMBERS, -0.5],
    "zero": [*NUMBERS, -1, 0.0],
    "switch": [1, 0, "yes", None, "False", []],
    "layers": [5, "x-y", (5,), (1, 2, 3), (3, 2), (0, 2), (True, 2), ("1", "2"), (1.5, 2), {}],
    "positions": ["nowhere", 1, None, ["all"]],
    "choice": ["c", 1, None, ["a"]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_any_other_value_is_refused_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^`{name}` ") as caught:
        given(**{name: value})
    assert len(str(caught.value)) < 200


def test_help_shows_plain_types_and_defaults() -> None:
    parameters = inspect.signature(given).parameters
    assert str(parameters["count"]) == "count: int | None = None"
    assert str(parameters["columns"]) == "columns: Mapping[str, str] = {}"
    assert str(parameters["positions"]) == "positions: Positions | str = 'all'"
    assert str(parameters["choice"]) == "choice: Literal['a', 'b'] = 'a'"
    assert str(parameters["data"]) == "data: str | Path | Sequence[str | Path] = 'x'"


@pytest.mark.parametrize(("args", "kwargs", "word"), [((), {"modle": 1}, "'modle'"), ((1, 2), {}, "positional")])
def test_a_wrong_call_names_the_function(args: tuple[int, ...], kwargs: dict[str, int], word: str) -> None:
    with pytest.raises(TypeError, match=rf"^given\(\) .*{word}"):
        given(*args, **kwargs)  # type: ignore[call-arg, misc, arg-type]


def test_the_message_has_value_and_way_out() -> None:
    with pytest.raises(UsageError, match=r"^`count` 0 is not a whole number of 1 or more$"):
        given(count=0)
    with pytest.raises(UsageError, match=r"^`choice` 'c' is not one of a, b$"):
        given(choice="c")  # type: ignore[arg-type]  # another word
