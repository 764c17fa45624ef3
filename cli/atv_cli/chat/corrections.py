"""Right answers to turns of a chat, as rows that `atv-local train --from` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from atv_local.data import Row, writing
from atv_local.errors import UsageError, first_problem

if TYPE_CHECKING:
    from atv_local.answer import Conversation, Turn

DEFAULT_FILE = Path("corrections.jsonl")


def save_correction(conversation: Conversation, right: str, path: Path) -> dict[str, Any]:
    """Append the last turn with its right answer, and what the target read before it, to a file of rows; the row.

    Raises:
        UsageError: nothing was asked yet, an answer that cannot be learned, or a file that cannot be written.
    """
    row = correction(conversation, right)
    with writing(path), path.open("ab+") as file:
        file.seek(max(0, file.tell() - 1))
        begun = file.read(1) not in (b"", b"\n")  # a last line without its end
        file.write(b"\n" * begun + json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return row


def correction(conversation: Conversation, right: str) -> dict[str, Any]:
    """The last turn as a row with this output, and what was read with it."""
    turn, earlier = conversation.last, conversation.turns[:-1]
    asked = turn.asked
    parts = {
        "input": turn.query,
        "output": right,
        "task": _task(turn),
        "instruction": asked.instruction if asked and not asked.task else None,  # that of a task goes with its name
        "system": turn.system,
        "history": [[before.query, before.answer_text] for before in earlier],
    }
    row = {name: value for name, value in parts.items() if value}
    try:
        Row.model_validate(row)
    except ValidationError as error:
        raise UsageError(f"this turn cannot be learned: {first_problem(error)}") from error
    return row


def _task(turn: Turn) -> str | None:
    """The task whose instruction was read, or the one that the gate found."""
    if turn.asked is None or turn.asked.instruction:
        return turn.asked.task if turn.asked else None
    gate = turn.record.get("gate")
    return gate["task"] if gate and gate["steered"] and gate["threshold"] else None
