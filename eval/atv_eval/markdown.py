"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from atv_local.text import one_line


def table(head: Sequence[str], rows: Sequence[Sequence[str]], n_text: int = 1) -> str:
    """A Markdown table; the first `n_text` columns are text, the others are numbers."""
    rule = [*["---"] * n_text, *["---:"] * (len(head) - n_text)]
    safe = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *safe)) + "\n"
