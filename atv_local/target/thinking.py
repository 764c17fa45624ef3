"""Thinking blocks: whether a prompt ends inside one, and the text that closes it."""

from __future__ import annotations

import re

_OPENING = re.compile(
    r"(?P<bracket>[<\[◁]\|?)(?!end_)(?P<begin>start_|begin_of_|begin_)?(?P<name>[\w:]*(?:think|thought|reason)\w*)"
    r"(?P<end>\|?[>\]▷])(?P<blank>\s*)\Z",
    re.IGNORECASE,
)
"""An opening tag at the end of a prompt: `<think>`, `[THINK]`, `<|START_THINKING|>`, `<seed:think>`, `◁think▷`."""


def closing(prompt: str) -> str:
    """What closes the thinking block that a prompt ends in, with an empty thought; empty if it ends in none."""
    if not (tag := _OPENING.search(prompt)):
        return ""
    bracket, begin, name, end, blank = tag.group("bracket", "begin", "name", "end", "blank")
    if begin:
        word = begin.lower().replace("begin", "end").replace("start", "end")
        close = f"{bracket}{word.upper() if begin.isupper() else word}{name}{end}"
    else:
        close = f"{bracket}/{name}{end}"
    return f"{blank}{close}{blank * 2}"
