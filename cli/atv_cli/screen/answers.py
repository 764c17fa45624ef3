"""Answers beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from atv_local.text import strip_control

if TYPE_CHECKING:
    from atv_local.answer import Event


def side_by_side(answers: Mapping[str, Iterator[Event]]) -> None:
    """Stream the answers one after the other: in columns on a terminal, in paragraphs elsewhere."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        for name, events in answers.items():
            print(f"[{name}]")
            for event in events:
                print(event.text, end="", flush=True)
            print(f"\n({_caption(event)})")
        return
    texts, captions = dict.fromkeys(answers, ""), dict.fromkeys(answers, "")
    with Live(console=console, refresh_per_second=12) as live:
        for name, events in answers.items():
            for event in events:
                texts[name] += strip_control(event.text)
                captions[name] = _caption(event)
                live.update(_columns(texts, captions))


def _caption(event: Event) -> str:
    closed = event.gate is not None and not event.gate.steered
    return f"first token after {event.timings_ms.first_token:.0f} ms{', not steered by the gate' if closed else ''}"


def _columns(texts: Mapping[str, str], captions: Mapping[str, str]) -> Table:
    table = Table(expand=True, show_footer=True)
    for name in texts:
        table.add_column(name, footer=Text(captions[name], style="dim"), ratio=1)
    table.add_row(*(Text(text, overflow="fold") for text in texts.values()))
    return table
