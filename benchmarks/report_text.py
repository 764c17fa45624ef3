"""What was measured of answers that are text, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atv_eval import table
from atv_local.text import counted
from benchmarks.style_scores import StyleScores, dial

Record = dict[str, Any]


def percent(value: float) -> str:
    """One decimal."""
    return f"{100 * value:.1f}"


def style(records: Sequence[Record]) -> str:
    """The last run that trained."""
    runs = [record for record in records if record["training"] is not None]
    if not runs:
        return ""
    r = runs[-1]
    training = r["training"]
    scored = [StyleScores(**scores) for scores in r["strengths"]]
    return f"""## A style, by strength

One generator trained on {r["rows"]} rows of `{r["style"]}`, {training["epochs"]} epochs, the best of them number
{training["best"]["epoch"]:.0f}: {training["seconds"]:.0f} seconds, {training["cpu_seconds"]:.0f} of processor
time{f" ({r['note']})" if "note" in r else ""}. Greedy answers of up to {r["max_tokens"]} tokens to {r["questions"]}
questions about other topics.
A marker is a word in a tenth of the training outputs or more that the base model does not use in its answers to the
training questions, here {", ".join(f"`{marker}`" for marker in r["markers"])}.
Overlap is the mean share of an answer's content words (at least five letters, no markers, compared by their first five)
that are in the base model's answer to the same question, or to each of the others.
`python -m benchmarks.style --output benchmarks/results/style.jsonl`

{dial(scored)}"""


def structured(records: Sequence[Record]) -> str:
    """The last run."""
    if not records:
        return ""
    r = records[-1]
    ways = {"free": "free", "schema": "under a JSON schema", "any text": "under a grammar that allows any text"}
    rows = []
    for name, way in ways.items():
        rate, ratio = r["tokens_per_second"][name], r["times_free"].get(name)
        against = "{median:.3f} ({low:.3f} to {high:.3f})".format(**ratio) if ratio else ""
        rows.append([way, f"{rate['median']:.1f}", against, f"{r['valid'][name]} of {r['rows']}"])
    beside = f" ({r['note']})" if "note" in r else ""
    return f"""## Answers under a schema

{r["rows"]} queries, with a prompt that asks for JSON, each answered without steering in three ways in turn,
{counted(r["threads"], "thread")}{beside}: medians of the tokens per second after the first token, and of the
ratios to the free answer to the same query, with quartiles. Valid is JSON with the keys and types of the schema.
`python -m benchmarks.structured --output benchmarks/results/structured.jsonl`

{table(["", "tokens a second", "times free", "valid"], rows)}"""
