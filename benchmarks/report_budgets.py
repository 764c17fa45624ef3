"""Vectors, LoRA and prefix tuning of equal ranks and sizes, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from atv_eval import difference, mean_over_tasks, table
from atv_local.text import counted
from benchmarks.budget_sizes import RANKS, SIZES
from benchmarks.paper_tasks import N_POOL, STUDIED, STUDIED_TEXTS
from benchmarks.report_cells import Hits, against, difference_table, picture

Record = dict[str, Any]
KINDS = {"lora": "LoRA", "atv": "task vectors, backbone frozen", "prefix": "prefix tuning"}
_OTHERS = {
    "static": "one learned vector",
    "per-task": "a learned vector for each task",
    "full": "task vectors, all trained",
}
_LORA = "lora"


def budgets(records: Sequence[Record]) -> str:
    """What each reaches at each budget, and what LoRA has more."""
    if not records:
        return ""
    head = ["", "trained", "loss: training rows", "validation", "labels, exact %", "texts, likelihood %", "texts, chrF"]
    by_family: dict[str, set[int]] = {}
    for record in records:
        by_family.setdefault(record["family"], set()).add(record["seed"])
    seeds = set.intersection(*by_family.values())
    records = [record for record in records if record["seed"] in seeds]
    families = {record["family"]: None for record in records}
    n_rows = {kind: sum(map(len, _hits(records, "static", tasks, "exact").values())) for kind, tasks in _TASKS.items()}
    pairs = [(ours, theirs, what) for ours, theirs, what in _pairs() if ours in families and theirs in families]
    more = [
        [what, *(_against(records, ours, theirs, measure) for measure in ("labels", "texts"))]
        for ours, theirs, what in pairs
    ]
    return f"""## Equal budgets: what the theory says, and what is seen

The paper claims that task vectors by query are as expressive as LoRA under an equal budget of rank, and more expressive
than prefix tuning. Ten tasks in one training, {N_POOL} rows of each, {_epochs(records)}, {_listed_seeds(seeds)}. The
validation loss chooses the epoch and the better of two learning rates (one for learned vectors and where all is
trained). `Rank` is that of LoRA on all linear layers, the width of the expansion's bottleneck,
and the number of prefix tokens; in `as large as` an expansion and a prefix have as many trained parameters as the LoRA
of that rank. The backbone is frozen, so that the expansion is all that is trained. Losses are per answer token, the
mean of the rows. {n_rows["labels"]} test rows of {len(STUDIED)} tasks with labels, {n_rows["texts"]} of
{len(STUDIED_TEXTS)} with texts, whose likelihood is that of the wanted answer per token, and chrF of greedy answers to
{_n_decoded(records)} of them.
`python -m benchmarks.budgets --data FOLDER --output benchmarks/results/budgets.jsonl`

{picture("budgets", "Right labels, and likelihood of the wanted texts, by the number of trained parameters.")}

{table(head, [_row(records, family) for family in names() if family in families])}

In points, on the same rows:

{difference_table(["", "labels, exact", "texts, likelihood"], more)}

{_reading(records, pairs, [what for family, what in names().items() if family not in families])}
"""


def names() -> dict[str, str]:
    """Of all families, in the order of the table."""
    found = dict(_OTHERS)
    for rank in RANKS:
        expansion, prefix = SIZES[rank]
        found |= {f"{kind} {rank}": f"{what}, rank {rank}" for kind, what in KINDS.items()}
        for kind, size in (("atv", expansion), ("prefix", prefix)):
            found[f"{kind} {size}"] = f"{KINDS[kind]}, as large as LoRA of rank {rank} ({size})"
    return found


def curves(records: Sequence[Record]) -> dict[str, list[tuple[int, float, float]]]:
    """By kind: trained parameters, right labels and likelihood of texts in percent."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for family, what in names().items():
        if mine := [record for record in records if record["family"] == family]:
            shares = [100 * _mean(mine, family, *place) for place in _PLACES]
            kind = what if family in _OTHERS else KINDS[family.split()[0]]
            found.setdefault(kind, []).append((mine[0]["trainable"], *(round(share, 1) for share in shares)))
    return {what: sorted(points) for what, points in found.items()}


_TASKS = {"labels": STUDIED, "texts": STUDIED_TEXTS}
_MEASURES = {
    "labels": (STUDIED, "exact"),
    "texts": (STUDIED_TEXTS, "likelihood"),
    "written": (STUDIED_TEXTS, "chrf"),
}
_PLACES = (_MEASURES["labels"], _MEASURES["texts"])


def _pairs() -> list[tuple[str, str, str]]:
    """Two families, and words for what is compared: LoRA with both others, and these with each other."""
    found = []
    for rank in RANKS:
        expansion, prefix = SIZES[rank]
        sizes = {f"rank {rank}": (rank, rank), f"as large as LoRA of rank {rank}": (expansion, prefix)}
        for size, (width, length) in sizes.items():
            vector, tokens, lora = f"atv {width}", f"prefix {length}", f"{_LORA} {rank}"
            found += [(lora, vector, f"LoRA over task vectors, {size}"), (lora, tokens, f"LoRA over prefixes, {size}")]
            found.append((vector, tokens, f"task vectors over prefixes, {size}"))
    largest = SIZES[RANKS[-1]][0]
    found.append(("per-task", f"atv {largest}", f"a learned vector for each task over task vectors ({largest})"))
    return found


def _row(records: Sequence[Record], family: str) -> list[str]:
    mine = [record for record in records if record["family"] == family]
    return [
        names()[family],
        f"{mine[0]['trainable']:,}",
        *(f"{fmean(record[f'{split}_loss'] for record in mine):.2f}" for split in ("train", "valid")),
        *(mean_over_tasks(_hits(mine, family, *place)).percent() for place in _PLACES),
        f"{100 * _mean(mine, family, *_MEASURES['written']):.1f}",
    ]


def _reading(records: Sequence[Record], pairs: Sequence[tuple[str, str, str]], missing: Sequence[str]) -> str:
    """How often LoRA is ahead, and where the proof and the practice part."""
    with_lora = [(ours, theirs) for ours, theirs, _ in pairs if ours.startswith(_LORA) and theirs.startswith("atv")]
    ahead = sum(_ahead(records, ours, theirs) for ours, theirs in with_lora)
    lower = sum(_loss(records, ours) < _loss(records, theirs) for ours, theirs in with_lora)
    last = [what for family, what in names().items() if _stopped_last(records, family)]
    n_pairs = len(with_lora)
    return f"""Of {2 * n_pairs} comparisons with task vectors LoRA is clearly ahead in {ahead}, and its loss on the
training rows is lower in {lower} of {n_pairs}. These are the losses of the chosen epoch, after
{_epochs(records)} at most, so they do not say what a method can express with more training. The last epoch was the
best one of: {"; ".join(last) or "none"}. These might gain from more.{_unmeasured(missing)}

The proof assumes linear attention, in which a vector meets the hidden states in a product, so that it can act on each
token as a change of the weights does. Here the vector is added: it moves all steered positions of an answer alike,
whatever they hold, and normalisation and softmax come after it, while what LoRA adds is another vector for each hidden
state. For one query and one position some vector does what LoRA does; at the next token it would be another one, and
the generator has to know it from the query alone."""


def _stopped_last(records: Iterable[Record], family: str) -> bool:
    """Whether its best epoch was the last one with every seed."""
    epochs = [record["epoch"] == record["epochs"] for record in records if record["family"] == family]
    return bool(epochs) and all(epochs)


def _epochs(records: Sequence[Record]) -> str:
    return counted(records[0]["epochs"], "epoch")


def _unmeasured(missing: Sequence[str]) -> str:
    return f" Not measured: {'; '.join(missing)}." if missing else ""


def _loss(records: Iterable[Record], family: str) -> float:
    return fmean(record["train_loss"] for record in records if record["family"] == family)


def _against(records: Sequence[Record], ours: str, theirs: str, measure: str) -> str:
    return against(*(_hits(records, family, *_MEASURES[measure]) for family in (ours, theirs)))


def _ahead(records: Sequence[Record], lora: str, rival: str) -> int:
    """In how many of both measures it is clearly ahead."""
    gaps = [difference(*(_hits(records, family, *place) for family in (lora, rival))) for place in _PLACES]
    return sum(gap.clear and gap.value > 0 for gap in gaps)


def _hits(records: Iterable[Record], family: str, tasks: Sequence[str], measure: str) -> Hits:
    """A score between 0 and 1 for each row, the mean of the seeds, by task."""
    marks: dict[str, list[list[float]]] = {}
    for record in records:
        if record["family"] == family and record["task"] in tasks:
            scale = 1 if measure == "exact" else 100
            marks.setdefault(record["task"], []).append([float(mark) / scale for mark in record[measure]])
    return {task: np.mean(found, axis=0) for task, found in marks.items()}


def _mean(records: Iterable[Record], family: str, tasks: Sequence[str], measure: str) -> float:
    return fmean(float(row.mean()) for row in _hits(records, family, tasks, measure).values())


def _n_decoded(records: Iterable[Record]) -> int:
    one = [record for record in records if record["family"] == "static" and "chrf" in record]
    return sum(len(record["chrf"]) for record in one if record["seed"] == one[0]["seed"])


def _listed_seeds(seeds: Iterable[int]) -> str:
    found = sorted(seeds)
    return f"seed {found[0]}" if len(found) == 1 else f"{len(found)} seeds"
