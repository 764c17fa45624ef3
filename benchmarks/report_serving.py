"""What the server's measurements say, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atv_eval import table

Record = dict[str, Any]


def serving(added: Sequence[Record], load: Sequence[Record]) -> str:
    """The last run of each benchmark, as far as there is one."""
    parts = [first_byte(record) for record in added[-1:]] + [under_load(record) for record in load[-1:]]
    return "## The server\n\n" + "\n".join(parts) if parts else ""


def first_byte(r: Record) -> str:
    """What it adds to the Python API."""
    rows = [[name, *_quartiles(r["first_ms"][name])] for name in ("python", "server")]
    rows.append(["added, query by query", *_quartiles(r["added_ms"])])
    return f"""Milliseconds to the first byte of an answer from `Engine.stream`, and from a stream of the server over an
open connection: the same {r["queries"]} queries in turn, {r["threads"]} threads. {r["same_texts"]} of the
answers are the same.
`python -m benchmarks.serving --output benchmarks/results/serving.jsonl`

{table(["", "median", "quartiles"], rows)}"""


def under_load(r: Record) -> str:
    """Minutes of mixed requests."""
    requests = sum(r["requests"].values())
    compared = r["requests"].get("whole", 0) + r["requests"].get("streamed", 0)
    memory = r["resident_mb"]
    rows = [
        ["requests", f"{requests}"],
        ["answers compared with `Engine.stream`", f"{compared}"],
        ["ended by the client, or incomplete", f"{r['requests'].get('left', 0) + r['requests'].get('cut', 0)}"],
        ["invalid requests", f"{r['requests'].get('wrong', 0)}"],
        ["refused because the queue was full", f"{r['requests'].get('busy', 0)}"],
        ["wrong answers or statuses", f"{r['n_wrong']}"],
        ["longest request, s", f"{r['longest_request_s']:.1f}"],
        ["running and waiting afterwards", f"{r['afterwards']['running']}, {r['afterwards']['waiting']}"],
        ["resident memory, first and last fifth, MB", f"{memory['first_fifth']:.0f}, {memory['last_fifth']:.0f}"],
        ["least and most, MB", f"{memory['least']:.0f}, {memory['most']:.0f}"],
    ]
    beside = f" ({r['note']})" if "note" in r else ""
    return f"""{r["minutes"]:g} minutes{beside} of {r["clients"]} clients at once: chats with different steering, whole
and streamed, completions, vectors, tokens, answers that the client ends early, invalid and incomplete requests.
Each answer is compared with that of `Engine.stream` to the same query alone ({r["different_answers"]} different ones).
Memory is that of the server's process after the first two minutes.
`python -m benchmarks.load --output benchmarks/results/load.jsonl`

{table(["", ""], rows)}"""


def _quartiles(spread: dict[str, float]) -> list[str]:
    return [f"{spread['median']:.1f}", f"{spread['low']:.1f} to {spread['high']:.1f}"]
