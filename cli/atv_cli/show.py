"""What people look at in a terminal: two answers side by side, a vector's norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from atv_local.engine import Engine
    from atv_local.steering import Steering
    from atv_local.vectors import TaskVector


def side_by_side(engine: Engine, query: str, answers: Mapping[str, Steering], settings: dict[str, Any]) -> None:
    """Stream the answers one after the other: in columns on a terminal, in paragraphs elsewhere."""
    console = Console(highlight=False)
    if not console.is_terminal:
        for name, steering in answers.items():
            print(f"[{name}]")
            for text, milliseconds in _stream(engine, query, steering, settings):
                print(text, end="", flush=True)
                caption = _caption(milliseconds)
            print(f"\n({caption})")
        return
    texts, captions = dict.fromkeys(answers, ""), dict.fromkeys(answers, "")
    with Live(console=console, refresh_per_second=12) as live:
        for name, steering in answers.items():
            for text, milliseconds in _stream(engine, query, steering, settings):
                texts[name] += text
                captions[name] = _caption(milliseconds)
                live.update(_columns(texts, captions))


def norms(vector: TaskVector) -> None:
    """The Euclidean norm of each layer's row, as bars on stderr."""
    console = Console(stderr=True, highlight=False)
    values = vector.norms()
    width = max(10, min(60, console.width - 24))
    largest = float(values.max()) or 1.0
    console.print("layer      norm")
    for layer, value in enumerate(values, start=1):
        console.print(f"{layer:5d} {value:9.3f}  {'█' * round(width * float(value) / largest)}")


def _stream(engine: Engine, query: str, steering: Steering, settings: dict[str, Any]) -> Any:
    """Texts with the time to the first token in ms, from an empty cache: neither answer profits from the other."""
    engine.target.reset()
    for event in engine.stream(query, steering=steering, **settings):
        yield event.text, event.first_token_ms


def _caption(milliseconds: float) -> str:
    return f"first token after {milliseconds:.0f} ms"


def _columns(texts: dict[str, str], captions: dict[str, str]) -> Table:
    table = Table(expand=True, show_footer=True)
    for name in texts:
        table.add_column(name, footer=Text(captions[name], style="dim"), ratio=1)
    table.add_row(*(Text(text) for text in texts.values()))
    return table
