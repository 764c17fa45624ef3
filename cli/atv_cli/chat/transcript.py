"""Conversations as files: one JSON object whose `messages` chat servers take too, and how each answer came about."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from atv_local.data import reading, replacing, writing
from atv_local.errors import DataError, UsageError, first_problem

if TYPE_CHECKING:
    from atv_local.answer import Conversation

_MAX_BYTES = 64 << 20


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


class _Saved(BaseModel):
    """What of a file is read; `answers` may be missing, as in what other programs write."""

    model: str | None = None
    messages: list[_Message]
    answers: list[dict[str, Any]] = []

    @model_validator(mode="after")
    def _in_turns(self) -> _Saved:
        roles = [message.role for message in self.messages]
        if roles[:1] == ["system"]:
            roles = roles[1:]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
            raise ValueError("after a system message, if any, user and assistant do not take turns to the end")
        if self.answers and len(self.answers) != len(roles) // 2:
            raise ValueError(f"{len(self.answers)} answers for {len(roles) // 2} turns")
        if not all(message.content.strip() for message in self.messages if message.role == "user"):
            raise ValueError("a message of the user's is empty")
        json.dumps(self.answers, allow_nan=False)  # ValueError for NaN and Infinity, which are not JSON
        return self


def save(conversation: Conversation, path: Path) -> bool:
    """Write a conversation, and whether it replaces another; a file that is none is not overwritten.

    Raises:
        UsageError: nothing was said, `path` is something else, or it cannot be written.
    """
    if not conversation.turns:
        raise UsageError("nothing was asked yet, so there is nothing to save")
    with writing(path):
        exists = path.exists()
    if exists:
        try:
            _read(path)
        except DataError as error:
            raise UsageError(f"{path} exists and is no conversation; choose another name") from error
    saved = {
        "model": conversation.engine.target.path.name,
        "messages": conversation.messages,
        "answers": [turn.record for turn in conversation.turns],
    }
    with replacing(path) as temporary:
        text = json.dumps(saved, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8", errors="replace")  # as the target reads what is no Unicode
    return exists


def load(conversation: Conversation, path: Path) -> str | None:
    """Go on with a saved conversation instead of this one; the settings stay, but for the system message.

    Returns:
        The model that answered, as far as the file says.

    Raises:
        DataError: a file that cannot be read or is no conversation.
    """
    from atv_local.answer import Turn

    saved = _read(path)
    said = [message.content for message in saved.messages]
    system = said.pop(0) if saved.messages[0].role == "system" else None
    answers = saved.answers or [{}] * (len(said) // 2)
    conversation.system = system or None
    conversation.turns = tuple(map(Turn, said[::2], said[1::2], answers))
    return saved.model


def _read(path: Path) -> _Saved:
    with reading(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise DataError(f"{path} is larger than {_MAX_BYTES} bytes")
    try:
        return _Saved.model_validate_json(data)
    except ValidationError as error:
        raise DataError(f"{path} is no conversation: {first_problem(error)}") from error
