"""Right answers to turns of a chat, as rows that `atv-local train --from` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from atv_local.data import Row, writing
from atv_local.errors import UsageError, first_problem

if TYPE_CHECKING:
    from atv_local.answer import Conversation

DEFAULT_FILE = Path("corrections.jsonl")


def save_correction(conversation: Conversation, right: str, path: Path) -> None:
    """Append the last turn with its right answer, and what the target read before it, to a file of rows.

    Raises:
        UsageError: nothing was asked yet, an answer that cannot be learned, or a file that cannot be written.
    """
    row = correction(conversation, right)
    with writing(path), path.open("a+", encoding="utf-8") as file:
        file.seek(max(0, file.tell() - 1))
        begun = file.read(1) not in ("", "\n")  # a last line without its end
        file.write(("\n" if begun else "") + json.dumps(row, ensure_ascii=False) + "\n")


def correction(conversation: Conversation, right: str) -> dict[str, Any]:
    """The last turn as a row with this output; its task is the one that was named, or that the gate found."""
    turn, earlier = conversation.last, conversation.turns[:-1]
    gate = turn.record.get("gate") or {}
    task = conversation.task or (gate.get("task") if gate.get("steered") and gate.get("threshold") else None)
    parts = {
        "input": turn.query,
        "output": right,
        "task": task,
        "instruction": turn.instruction,
        "system": conversation.system,
        "history": [[before.read, before.answer_text] for before in earlier],
    }
    row = {name: value for name, value in parts.items() if value}
    try:
        Row.model_validate(row)
    except ValidationError as error:
        raise UsageError(f"this turn cannot be learned: {first_problem(error)}") from error
    return row
