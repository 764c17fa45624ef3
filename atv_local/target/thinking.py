"""Thinking blocks: whether answers begin inside one, and the text that closes it."""

from __future__ import annotations

import re

_OPENING = re.compile(
    r"(?P<bracket>[<\[◁]\|?)(?!end_)(?P<begin>start_|begin_of_|begin_)?(?P<name>[\w:]*(?:think|thought|reason|analysis|scratchpad)\w*)"
    r"(?P<end>\|?[>\]▷])(?P<begun>[^<\[◁]*)\Z",
    re.IGNORECASE,
)
"""The last tag, if it opens: `<think>`, `[THINK]`, `<|START_THINKING|>`, `<seed:think>`, `◁think▷`."""


def closing(opening: str) -> str:
    """What closes the thinking block that answers begin in; empty if there is none.

    Args:
        opening: what a chat template puts between the user's text and the answer.
    """
    if not (tag := _OPENING.search(opening)):
        return ""
    bracket, begin, name, end, begun = tag.group("bracket", "begin", "name", "end", "begun")
    blank = "\n" if begun.strip() else begun
    if begin:
        word = begin.lower().replace("begin", "end").replace("start", "end")
        close = f"{bracket}{word.upper() if begin.isupper() else word}{name}{end}"
    else:
        close = f"{bracket}/{name}{end}"
    return f"{blank}{close}{blank * 2}"
