"""Formats that the prompt does not mention, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from atv_eval import difference, mean_over_tasks, table
from benchmarks.format_rules import ANSWER_TOKENS, DRAWS_NOTHING, FORMATS, MAX_WORDS, N_TRAIN, N_VALID
from benchmarks.report_cells import Hits, against

Record = dict[str, Any]
WHAT = {
    "none": "the query alone, base model",
    "instruction": "an instruction, best of three wordings",
    "16-shot": "16 demonstrations, no instruction",
    "static": "one learned vector",
    "prefix": "prefix tuning, 16 tokens (peft)",
    "lora": "LoRA on the target, r=8 (peft)",
    "atv": "**task vectors by query**",
}
"""The methods, in the order of the table."""
_ATV, _SIGNIFICANT = "atv", 0.05
_SIDES = {
    "fewer": "Over all formats fewer answers follow under task vectors than with",
    "more": "Over all formats more answers follow under task vectors than with",
    "neither": "Over all formats no difference is found to",
}
_NO_WINS = "In no single format is a rival ahead of task vectors."


def formats(records: Sequence[Record]) -> str:
    """All methods in all formats that task vectors were measured in."""
    n_rows = max((len(record["follows"]) for record in records), default=0)
    records = [record for record in records if len(record["follows"]) == n_rows]
    names = [name for name in FORMATS if name in _hits(records, _ATV)]
    if not names:
        return ""
    records = [record for record in records if record["format"] in names]
    complete = [method for method in WHAT if _hits(records, method).keys() >= set(names)]
    methods = [method for method in complete if method in DRAWS_NOTHING or _common(records, method)]
    records = [record for record in records if record["method"] in methods]
    head = ["answered by", "seeds", "mean", "task vectors have more", "other queries", "kept, chrF", "prompt tokens"]
    head += ["trained"]
    return f"""## Formats that the prompt does not mention

Formats that rules check: all letters upper case, a JSON object with the key "answer" alone, bullet points, one pair of
double quotes around the whole answer, and at most {MAX_WORDS} words. Each method learns each format by itself from the
base model's own answers to {N_TRAIN} questions, rewritten in the format where they can be:
{_train_rows(records)}.
Of {max(record.get("epochs", 0) for record in records)} epochs and two learning rates (one for vectors) each has the
best by the loss on other questions, {N_VALID} at most, which choose the instruction too, by how many answers follow.
SmolLM2-135M-Instruct Q4_1 in PyTorch answers {n_rows} queries greedily, with {ANSWER_TOKENS} tokens at most:
{records[0]["alike"]} questions like those of training, and others that are not, which have a column of their own.
Shares of answers that follow the rule, in percent; each row has the mean of the seeds, which draw training rows, of
those that were measured in each format. Differences are on the seeds that both methods have in all formats; intervals
and p-values are over rows. `Kept` is chrF of answers that follow to the base model's answer, both without the format;
where few words are allowed it is low by itself.{_untold(records)}
`python -m benchmarks.formats --data FOLDER --output benchmarks/results/formats.jsonl`

{table(["answered by", *names, "mean"], [_shares(records, method, names) for method in methods])}

{table(head, [_row(records, method) for method in methods])}

{_reading(records, methods, names)}
"""


def shares(records: Sequence[Record]) -> dict[str, float]:
    """By method, the share of answers that follow: the mean of all formats."""
    found = {method: _hits(records, method) for method in WHAT}
    return {method: mean_over_tasks(hits).value for method, hits in found.items() if hits.keys() >= FORMATS.keys()}


def _shares(records: Sequence[Record], method: str, names: Sequence[str]) -> list[str]:
    hits = _hits(records, method)
    cells = [mean_over_tasks({name: hits[name]}).percent() for name in names]
    return [WHAT[method], *cells, f"{100 * mean_over_tasks(hits).value:.1f}"]


def _row(records: Sequence[Record], method: str) -> list[str]:
    mine = [record for record in records if record["method"] == method]
    hits = _hits(mine, method)
    other = {name: marks[mine[0]["alike"] :] for name, marks in hits.items()}
    trained = mine[0].get("trainable")
    return [
        WHAT[method],
        _n_seeds(mine),
        mean_over_tasks(hits).percent(),
        "" if method == _ATV else against(*_pair(records, method)),
        mean_over_tasks(other).percent() if len(next(iter(other.values()))) else "",
        f"{_kept(mine):.0f}",
        f"{fmean(record['prompt_tokens'] for record in mine):.0f}",
        f"{trained / 1e6:.2f}M" if trained else "",
    ]


def _reading(records: Sequence[Record], methods: Sequence[str], names: Sequence[str]) -> str:
    """Where task vectors are behind, ahead, or neither."""
    rivals = [method for method in methods if method != _ATV]
    pairs = {rival: _pair(records, rival) for rival in rivals}
    verdicts = {rival: _verdict(*pair) for rival, pair in pairs.items()}
    parts = [
        f"{text} {_listed([rival for rival in rivals if verdicts[rival] == side])}."
        for side, text in _SIDES.items()
        if side in verdicts.values()
    ]
    lost = {
        name: [rival for rival, (ours, theirs) in pairs.items() if _verdict(ours, theirs, name) == "fewer"]
        for name in names
    }
    wins = [f"in `{name}` {_listed(found)}" for name, found in lost.items() if found]
    parts.append(f"By format, these are ahead of task vectors: {'; '.join(wins)}." if wins else _NO_WINS)
    return "\n".join(parts)


def _verdict(ours: Hits, theirs: Hits, name: str | None = None) -> str:
    """In one format or in all."""
    names = [name] if name else list(ours)
    found = difference({name: ours[name] for name in names}, {name: theirs[name] for name in names})
    if found.p >= _SIGNIFICANT:
        return "neither"
    return "more" if found.value > 0 else "fewer"


def _hits(
    records: Iterable[Record], method: str, measure: str = "follows", seeds: Collection[int] | None = None
) -> Hits:
    """Of each row the mean of its seeds, by format."""
    marks: dict[str, list[list[float]]] = {}
    for record in records:
        if record["method"] == method and (seeds is None or record["seed"] in seeds):
            scale = 1 if measure == "follows" else 100
            marks.setdefault(record["format"], []).append([int(mark) / scale for mark in record[measure]])
    return {name: np.mean(of_seeds, axis=0) for name, of_seeds in marks.items()}


def _pair(records: Sequence[Record], rival: str, measure: str = "follows") -> tuple[Hits, Hits]:
    """Task vectors and a rival on the seeds that both have; one that draws nothing has one for all."""
    if rival in DRAWS_NOTHING:
        return _hits(records, _ATV, measure), _hits(records, rival, measure)
    both = _common(records, rival)
    return _hits(records, _ATV, measure, both), _hits(records, rival, measure, both)


def _common(records: Sequence[Record], rival: str) -> set[int]:
    """Seeds that a method and task vectors have in every format."""
    names = {record["format"] for record in records}
    seeds = [
        {record["seed"] for record in records if (record["method"], record["format"]) == (method, name)}
        for method in (_ATV, rival)
        for name in names
    ]
    return set.intersection(*seeds)


def _kept(records: Iterable[Record]) -> float:
    """Of the answers that follow, the mean of the formats; 0 where none does."""
    kept: dict[str, list[int]] = {}
    for record in records:
        marks = zip(record["kept"], record["follows"], strict=True)
        kept.setdefault(record["format"], []).extend(score for score, mark in marks if mark == "1")
    means = [fmean(scores) for scores in kept.values() if scores]
    return fmean(means) if means else 0.0


def _n_seeds(records: Iterable[Record]) -> str:
    """How many each format has."""
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record["format"], set()).add(record["seed"])
    counts = sorted({len(found) for found in seeds.values()})
    return " to ".join(map(str, sorted({counts[0], counts[-1]})))


def _untold(records: Iterable[Record]) -> str:
    """Formats in which no wording of the instruction was followed on validation questions."""
    names = [
        record["format"]
        for record in records
        if record["method"] == "instruction" and not any(record.get("valid_follows", [1]))
    ]
    listed = ", ".join(f"`{name}`" for name in names)
    text = (
        f"No answer to a validation question followed any wording of the instruction in {listed}: the first is taken."
    )
    return f"\n{text}" if names else ""


def _train_rows(records: Iterable[Record]) -> str:
    """How many could be rewritten."""
    counts: dict[str, list[int]] = {}
    for record in records:
        counts.setdefault(record["format"], []).append(record["train_rows"])
    spans = {name: sorted({min(found), max(found)}) for name, found in counts.items()}
    return ", ".join(f"{' to '.join(map(str, span))} in `{name}`" for name, span in spans.items())


def _listed(methods: Sequence[str]) -> str:
    return ", ".join(WHAT[method].split(",")[0] for method in methods)
