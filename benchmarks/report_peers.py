"""What the comparison with `llama-server` says, for docs/explanation/results.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from atv_eval import table

Record = dict[str, Any]
Load = tuple[str, str]
"""Lengths of prompts and of answers."""
LLAMA, OURS = "llama-server", "atv-local, each its own vector"


def peers(records: Sequence[Record]) -> str:
    """A table for each length of prompts and answers; of repeated runs each cell is of the one in the middle."""
    if not records:
        return ""
    found = middle_runs(records)
    most = max(Counter((record["server"], record["clients"], _load(record)) for record in records).values())
    loads = sorted({load for _, _, load in found})
    clients = sorted({number for _, number, _ in found})
    servers = list(dict.fromkeys(r["server"] for r in records))
    parts = [_of_load(found, servers, clients, load) for load in loads]
    return f"""## Beside llama-server

`atv-local serve` and `llama-server`, built from the source of the installed llama-cpp-python, {records[-1]["threads"]}
threads, each alone on the machine with as many slots as clients and 2048 tokens for each. Clients send one streamed
request after the other, with prompts that share nothing but the template. `llama-server` writes unsteered or under one
control vector for all; ours steers each request by the vector that its generator makes. In each cell are the tokens per
second of all clients together, and the milliseconds until the first token: median and 95th percentile. Of loads that
were repeated, up to {most} times, each server has its run of median speed.
`python -m benchmarks.peers --build FOLDER --output benchmarks/results/peers.jsonl`

{"".join(parts)}"""


def middle_runs(records: Sequence[Record]) -> dict[tuple[str, int, Load], Record]:
    """By server, number of clients and load, the run of median speed."""
    runs: defaultdict[tuple[str, int, Load], list[Record]] = defaultdict(list)
    for record in records:
        runs[record["server"], record["clients"], _load(record)].append(record)
    return {key: _middle(repeated) for key, repeated in runs.items()}


def _middle(records: Sequence[Record]) -> Record:
    """The record of median speed; of two in the middle the faster one, since what disturbs a run slows it."""
    return sorted(records, key=lambda record: record["tokens_per_second"])[len(records) // 2]


def _load(record: Record) -> Load:
    """Whether prompts and answers are short or long."""
    prompt = "long prompts" if record["prompt_tokens"] > 200 else "short prompts"
    return prompt, f"answers of up to {record['max_tokens']} tokens"


def _of_load(
    found: dict[tuple[str, int, Load], Record],
    servers: Sequence[str],
    clients: Sequence[int],
    load: Load,
) -> str:
    rows = []
    for server in servers:
        cells = [found.get((server, number, load)) for number in clients]
        rows.append([server, *(_cell(record) for record in cells)])
    ratios = []
    for number in clients:
        ours, theirs = (found.get((server, number, load)) for server in (OURS, LLAMA))
        both = ours is not None and theirs is not None
        ratios.append(f"{ours['tokens_per_second'] / theirs['tokens_per_second']:.2f}" if both else "")  # type: ignore[index]  # of both
    rows.append([f"{OURS} / {LLAMA}", *ratios])
    record = next(record for (_, _, of), record in found.items() if of == load)
    heads = ["", *(f"{number} client{'s' if number > 1 else ''}" for number in clients)]
    return f"{load[0].capitalize()} of some {record['prompt_tokens']} tokens, {load[1]}:\n\n{table(heads, rows)}\n"


def _cell(record: Record | None) -> str:
    if record is None:
        return ""
    first = record["first_ms"]
    return f"{record['tokens_per_second']:.0f}; {first['median']:.0f}, {first['p95']:.0f}"
