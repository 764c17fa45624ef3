"""Formats of answers, and the rules that say whether a text follows one. Nothing else judges them.

- `upper`: all letters are upper case.
- `json`: one JSON object with the key "answer" alone, which has a text.
- `bullets`: every line that is not empty begins with "- "; there are two or more.
- `quotes`: one pair of double quotes, and nothing outside it.
- `length`: a sentence or more with a full stop or the like at the end, 12 words at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_WORDS = 12
N_TRAIN, N_VALID, ANSWER_TOKENS = 80, 20, 64
"""Questions to train on and to choose by; the tokens that an answer may have."""
DRAWS_NOTHING = ("none", "instruction")
"""Methods that are the same for each seed."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+", re.MULTILINE)
_OPENED, _CLOSED = re.compile(r'^\s*\{\s*"answer"\s*:\s*"?'), re.compile(r'"?\s*\}\s*$')


@dataclass(frozen=True)
class Format:
    """How answers are to look.

    Args:
        instructions: wordings that ask for it.
        follows: whether a text, without white space around it, has this format.
        rewritten: a plain text in this format; None if it cannot be.
        stripped: what a text says without this format.
    """

    instructions: tuple[str, ...]
    follows: Callable[[str], bool]
    rewritten: Callable[[str], str | None]
    stripped: Callable[[str], str] = str


def follows(name: str, text: str) -> bool:
    """Whether a text has the format; white space around it does not count."""
    return FORMATS[name].follows(text.strip())


def rewritten(name: str, text: str) -> str | None:
    """A plain text in the format, such as it is trained on; None if it cannot be."""
    return FORMATS[name].rewritten(text.strip())


def stripped(name: str, text: str) -> str:
    """What a text says without its format, in lower case."""
    return " ".join(FORMATS[name].stripped(text).lower().split())


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the marks of lists, each on one line."""
    return [part for part in _SENTENCE_END.split(" ".join(_LIST_MARK.sub("", text).split())) if part]


def whole_sentences(text: str) -> str | None:
    """A text that was cut, up to the end of its last whole sentence; None if there is none."""
    *_, end = [0, *(match.end() for match in re.finditer(r"(?<!\d)[.!?](?=\s|$)", text))]
    return text[:end] or None


def _is_upper(text: str) -> bool:
    return text.isupper() and text == text.upper()


def _in_upper(text: str) -> str | None:
    return upper if (upper := text.upper()).isupper() else None


def _is_json(text: str) -> bool:
    try:
        found = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, tuple) or [key for key, _ in found] != ["answer"]:
        return False
    return isinstance(found[0][1], str) and bool(found[0][1].strip())


def _in_json(text: str) -> str | None:
    return json.dumps({"answer": text}, ensure_ascii=False) if text else None


def _from_json(text: str) -> str:
    """Also of an object that was cut."""
    if _is_json(text):
        return str(json.loads(text)["answer"])
    return _CLOSED.sub("", _OPENED.sub("", text)).replace("\\n", " ").replace('\\"', '"')


def _is_bullets(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(line.startswith("- ") and line[2:].strip() for line in lines)


def _in_bullets(text: str) -> str | None:
    parts = sentences(text)
    return "\n".join(f"- {part}" for part in parts) if len(parts) > 1 else None


def _is_quoted(text: str) -> bool:
    inside = text[1:-1]
    return text == f'"{inside}"' and bool(inside.strip()) and '"' not in inside


def _in_quotes(text: str) -> str | None:
    """Quotes inside become single ones."""
    return '"{}"'.format(text.replace('"', "'")) if text else None


def _is_short(text: str) -> bool:
    said = any(letter.isalnum() for letter in text)
    return said and len(text.split()) <= MAX_WORDS and text.endswith((".", "!", "?"))


def _in_short(text: str) -> str | None:
    """Its first sentence that is short enough."""
    return next((part for part in sentences(text) if _is_short(part)), None)


FORMATS = {
    "upper": Format(
        (
            "Write the whole answer in capital letters.",
            "ANSWER IN UPPER CASE ONLY.",
            "Answer the question. Use only uppercase letters in your answer.",
        ),
        _is_upper,
        _in_upper,
    ),
    "json": Format(
        (
            'Answer with a JSON object that has one key, "answer", and nothing else.',
            'Write the answer as JSON, in this form: {"answer": "..."}',
            'Reply only with {"answer": "your answer"}, with your answer in its place.',
        ),
        _is_json,
        _in_json,
        _from_json,
    ),
    "bullets": Format(
        (
            'Answer as a list. Begin every line with "- ".',
            "Answer only with bullet points, each on a line that begins with a hyphen and a space.",
            "Write the answer in this form:\n- first point\n- second point",
        ),
        _is_bullets,
        _in_bullets,
        lambda text: _LIST_MARK.sub("", text),
    ),
    "quotes": Format(
        (
            "Put the whole answer in double quotes.",
            'Begin the answer with " and end it with ", and write nothing outside these quotation marks.',
            'Write the answer in this form: "your answer"',
        ),
        _is_quoted,
        _in_quotes,
        lambda text: text.replace('"', ""),
    ),
    "length": Format(
        (
            f"Answer in one sentence of at most {MAX_WORDS} words.",
            f"Answer briefly, with no more than {MAX_WORDS} words.",
            "Give a very short answer, a single short sentence.",
        ),
        _is_short,
        _in_short,
    ),
}
"""By name."""
