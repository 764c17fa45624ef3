"""Errors as Python code meets them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

import atv_local
from atv_local.errors import AtvError, DataError, NotFoundError, UsageError, VectorError, first_problem


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (UsageError, ValueError),
        (DataError, ValueError),
        (VectorError, ValueError),
        (NotFoundError, FileNotFoundError),
    ],
)
def test_an_error_is_also_the_builtin_one_that_fits(kind: type[AtvError], builtin: type[Exception]) -> None:
    error = kind("no alias 'x'\x1b[31m")
    assert isinstance(error, AtvError)
    assert isinstance(error, builtin)
    assert str(error) == "no alias 'x'\N{REPLACEMENT CHARACTER}[31m"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_error_is_exported() -> None:
    errors = {kind.__name__ for kind in vars(atv_local.errors).values() if _is_error(kind)}
    assert errors <= set(dir(atv_local))
    assert all(issubclass(getattr(atv_local, name), AtvError) for name in errors)


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, AtvError)


class _Inner(BaseModel):
    positions: str = Field(pattern="^all$")


class _Outer(BaseModel):
    layers: int = Field(1, ge=1)
    inner: list[_Inner] = []


@pytest.mark.parametrize(
    ("fields", "names", "starts", "value"),
    [
        ({"layers": -3}, {}, "layers: ", "-3"),
        ({"layers": -3}, {"layers": "rows"}, "rows: ", "-3"),
        ({"inner": [{"positions": "all"}, {}]}, {}, "inner.1.positions: ", "required"),
    ],
)
def test_the_first_problem_names_field_and_value(
    fields: dict[str, Any], names: dict[str, str], starts: str, value: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        _Outer.model_validate(fields)
    problem = first_problem(caught.value, names)
    assert problem.startswith(starts)
    assert value in problem
