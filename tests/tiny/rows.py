"""The task that tiny generators know: a fruit is `a`, a beast is `b`."""

from __future__ import annotations

import json
from pathlib import Path

FRUITS = ("apple", "pear", "plum", "fig", "lime")
BEASTS = ("cat", "dog", "cow", "hen", "pig")
ANSWERS = {word: answer for words, answer in ((FRUITS, "a"), (BEASTS, "b")) for word in words}


def write_rows(path: Path) -> Path:
    """Forty rows such as `pear 3` with the output `a`, in turn of both kinds."""
    pairs = zip(FRUITS, BEASTS, strict=True)
    words = [word for pair in pairs for word in pair]
    rows = [{"input": f"{word} {n}", "output": ANSWERS[word]} for n in range(4) for word in words]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
