"""What a task asks, in words: its form before a query, which training, answers and evaluation share; files of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from atv_local.data.file_errors import reading
from atv_local.errors import DataError, first_problem

MAX_FILE_BYTES = 1 << 20  # thousands of sentences
MAX_INSTRUCTION_CHARS = 8192
"""Of an instruction with its choices, as a bundle lists it."""
MAX_LISTED_CHARS = 4000
"""Of the choices that an instruction lists: up to some 1,500 tokens of the 2,048 that a context has by default."""


def tell(instruction: str | None, query: str) -> str:
    """What is read for a query: the instruction, if there is one, an empty line, and the query."""
    return f"{instruction}\n\n{query}" if instruction else query


def with_choices(instruction: str | None, choices: Sequence[str] | None) -> str | None:
    """An instruction and, on a line of its own, the answers that it allows; None without either.

    Choices that would fill the prompt are left out.
    """
    parts = [instruction, choices_sentence(choices or ())]
    return "\n".join(part for part in parts if part) or None


def choices_sentence(choices: Sequence[str]) -> str | None:
    """The answers that are allowed, in a sentence; None without any, and for more than fit into a prompt."""
    listed = ", ".join(choices)
    return f"Answer with one of these, and nothing else: {listed}." if 0 < len(listed) <= MAX_LISTED_CHARS else None


def read_instructions(path: Path) -> dict[str, list[str]]:
    """A JSON file of instructions: for each task a sentence, or a list of sentences to choose from.

    Raises:
        DataError: an unreadable or large file, or another structure.
    """
    with reading(path), path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{path} is larger than {MAX_FILE_BYTES} bytes; give a sentence for each task")
    return as_instructions(data, str(path))


def as_instructions(content: object, source: str = "`instructions`") -> dict[str, list[str]]:
    """Instructions from JSON, or from a mapping of that structure.

    Raises:
        DataError: another structure, or an instruction that is blank or too long.
    """
    adapter = TypeAdapter(dict[str, str | Annotated[list[str], Field(min_length=1)]])
    try:
        found = adapter.validate_json(content) if isinstance(content, bytes) else adapter.validate_python(content)
    except ValidationError as error:
        form = 'write an object such as {"task": "What to do."}'
        raise DataError(f"{source} has no instructions: {first_problem(error)}; {form}") from error
    instructions = {task: [said] if isinstance(said, str) else said for task, said in found.items()}
    for task, wordings in instructions.items():
        for wording in wordings:
            if not wording.strip():
                raise DataError(f"{source} has a blank instruction for the task {task[:60]!r}; leave it out")
            if len(wording) > MAX_INSTRUCTION_CHARS:
                raise DataError(
                    f"{source} has an instruction of {len(wording)} characters for the task {task[:60]!r}; "
                    f"at most {MAX_INSTRUCTION_CHARS} are read"
                )
    return instructions
