"""The result of one check of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """What was checked, how that ended, and how to fix it.

    Attributes:
        name: what was checked.
        state: how the check ended.
        detail: versions, sizes, or the problem.
        fix: a command that fixes the problem, empty if there is none.
        needed: whether steering with the given model and bundle needs it.
    """

    name: str
    state: State
    detail: str
    fix: str = ""
    needed: bool = True
