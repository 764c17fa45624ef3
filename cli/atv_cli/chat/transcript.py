"""Conversations as JSON files: `messages` as chat servers take them, and how each answer was made."""

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
    """The part of a file that is read; files of other programs may lack `answers`."""

    model: str | None = None
    messages: list[_Message]
    answers: list[dict[str, Any]] = []

    @model_validator(mode="after")
    def _in_turns(self) -> _Saved:
        roles = [message.role for message in self.messages]
        if roles[:1] == ["system"]:
            roles = roles[1:]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
            raise ValueError("after an optional system message, user and assistant do not alternate to the end")
        if self.answers and len(self.answers) != len(roles) // 2:
            raise ValueError(f"{len(self.answers)} answers for {len(roles) // 2} turns")
        if not all(message.content.strip() for message in self.messages if message.role == "user"):
            raise ValueError("a message of the user is empty")
        json.dumps(self.answers, allow_nan=False)  # ValueError for NaN and Infinity, which are not JSON
        return self


def save_transcript(conversation: Conversation, path: Path) -> bool:
    """Write a conversation and return whether it replaced another. Another kind of file is not replaced.

    Raises:
        UsageError: the conversation is empty, `path` is another kind of file, or it cannot be written.
    """
    if not conversation.turns:
        raise UsageError("the conversation is empty, so there is nothing to save")
    with writing(path):
        exists = path.exists()
    if exists:
        try:
            _read(path)
        except DataError as error:
            raise UsageError(f"{path} exists and is not a conversation; choose another name") from error
    saved = {
        "model": conversation.engine.target.path.name,
        "messages": conversation.messages,
        "answers": [turn.record for turn in conversation.turns],
    }
    with replacing(path) as temporary:
        text = json.dumps(saved, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8", errors="replace")  # as the target reads text that is not Unicode
    return exists


def load_transcript(conversation: Conversation, path: Path) -> str | None:
    """Replace the turns and the system message with those of a file; the settings stay.

    Returns:
        The model that answered, if the file names it.

    Raises:
        DataError: a file that cannot be read or is not a conversation.
    """
    from atv_local.answer import Turn

    saved = _read(path)
    texts = [message.content for message in saved.messages]
    system = texts.pop(0) if saved.messages[0].role == "system" else None
    answers = saved.answers or [{}] * (len(texts) // 2)
    conversation.restore(system or None, map(Turn, texts[::2], texts[1::2], answers))
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
        raise DataError(f"{path} is not a conversation: {first_problem(error)}") from error
