"""Faults that were tried on purpose, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from atv_eval import table

Record = dict[str, Any]


def faults(records: Sequence[Record]) -> str:
    """The last record of each kind of fault; those of files one for each command."""
    last = {(record["what"], record.get("verb")): record for record in records}
    rows = [row for record in last.values() for row in _ROWS[record["what"]](record)]
    if not rows:
        return ""
    commands = ", ".join(
        f"`python -m benchmarks.{_COMMANDS[what]}`" for what in dict.fromkeys(what for what, _ in last)
    )
    return f"""## Faults survived

What was done to the program on purpose, and how often it did not end as it should: with every output whole or absent,
the right answer or one sentence, no traceback, no crash, and memory and descriptors as before.
{commands}, each with `--output benchmarks/results/faults.jsonl`

{table(["fault", "tried", "went wrong"], rows)}"""


def _of_file(words: str, key: str) -> Callable[[Record], list[list[str]]]:
    return lambda record: [[words.format(record["verb"]), f"{record[key]:,}", str(len(record["failures"]))]]


def _mutations(record: Record) -> list[list[str]]:
    kinds = {"ggufs": "changed GGUF files", "templates": "changed chat templates", "bundles": "changed bundles"}
    return [
        [words, f"{sum(record[kind].values()):,}", str(_bad(record[kind]))]
        for kind, words in kinds.items()
        if record.get(kind)
    ]


def _bad(outcomes: dict[str, int]) -> int:
    return sum(count for outcome, count in outcomes.items() if outcome not in ("answered", "refused"))


def _threads(record: Record) -> list[list[str]]:
    what = f"calls from {record['threads']} threads at once, in {record['seconds']:.0f} s"
    return [[what, f"{sum(record['calls'].values()):,}", str(record["failures"])]]


def _attack(record: Record) -> list[list[str]]:
    requests = sum(record["requests"].values())
    wrong = sum(map(len, record["failures"].values()))
    what = f"requests to the server, honest and hostile ones mixed, in {record['seconds']:.0f} s"
    return [[what, f"{requests:,}", str(wrong)]]


_COMMANDS = {
    **{fault: f"faults {fault}" for fault in ("kill", "fill", "pair")},
    **{"mutations": "mutations", "threads": "thread_stress", "attack": "attack"},
}
_ROWS: dict[str, Callable[[Record], list[list[str]]]] = {
    "kill": _of_file("`{}` killed at a call that writes", "kills"),
    "fill": _of_file("`{}` on a disk that is full from some call on", "full_disks"),
    "pair": _of_file("`{}` twice at once with one output", "pairs"),
    "mutations": _mutations,
    "threads": _threads,
    "attack": _attack,
}
