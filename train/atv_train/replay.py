"""Rows that a run keeps, and how a later run that starts from it mixes them with new ones, so as not to forget them."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from atv_local.data import Row, reading, replacing
from atv_local.errors import BundleError, first_problem
from atv_train.examples import Wordings

REPLAY = "replay.jsonl"
MAX_KEPT = 8192
"""Rows of all tasks, each task having its share."""
_SPLIT, _TRAIN, _VALID = "split", "train", "valid"
FEW_ROWS = 100
"""New rows below which none are held out and the last epoch is kept: too few to measure on."""
_LEAST_REPLAYED, _REPLAYED_FOR_EACH = 200, 4
_NEW_SHARE, _MOST_REPEATS = 0.25, 8


@dataclass(frozen=True)
class Replay:
    """Rows of an earlier run."""

    train: list[Row] = field(default_factory=list)
    valid: list[Row] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Of all rows."""
        digest = hashlib.sha256()
        for row in (*self.train, *self.valid):
            digest.update(row.model_dump_json().encode())
        return digest.hexdigest()


def save_replay(folder: Path, train: Sequence[Row], valid: Sequence[Row], seed: int) -> None:
    """Write rows of every task into the folder of a run.

    Args:
        folder: of the run.
        train: what it was trained on.
        valid: what it was measured on.
        seed: chooses among rows that are more than `MAX_KEPT`.
    """
    with replacing(folder / REPLAY) as temporary, temporary.open("w", encoding="utf-8") as file:
        for split, rows in ((_TRAIN, train), (_VALID, valid)):
            for row in kept_rows(rows, MAX_KEPT, seed):
                fields = {name: value for name, value in row.model_dump(mode="json").items() if value}
                file.write(json.dumps({_SPLIT: split} | fields, ensure_ascii=False) + "\n")


def kept_rows(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """At most so many rows, as many of each task as there is room for, in their order."""
    if len(rows) <= most:
        return list(rows)
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.task].append(place)
    chosen: list[int] = []
    for done, task in enumerate(sorted(places, key=lambda task: len(places[task]))):
        own = places[task]
        share = (most - len(chosen)) // (len(places) - done)  # what small tasks leave is for larger ones
        chosen += random.Random(f"{seed}/{task}").sample(own, min(len(own), share))
    return [rows[place] for place in sorted(chosen)]


def read_replay(folder: Path) -> Replay:
    """The rows of a run; none if it kept none.

    Raises:
        BundleError: a damaged file.
    """
    file = folder / REPLAY
    if not file.exists():
        return Replay()
    replay = Replay()
    with reading(file, BundleError), file.open(encoding="utf-8") as lines:
        for number, line in enumerate(islice(lines, 2 * MAX_KEPT), 1):
            try:
                record = json.loads(line)
                split = record.pop(_SPLIT)
                {_TRAIN: replay.train, _VALID: replay.valid}[split].append(Row.model_validate(record))
            except ValidationError as error:
                raise BundleError(f"{file}:{number} is damaged: {first_problem(error)}") from error
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise BundleError(f"{file}:{number} is damaged") from error
    return replay


@dataclass(frozen=True)
class ReplayedRows:
    """What an epoch has.

    Attributes:
        rows: the new ones, then those again that are few beside the earlier ones, then the earlier ones.
        valid: earlier validation rows.
        others: earlier rows that are left out.
    """

    rows: list[Row]
    valid: list[Row]
    others: list[Row]


def with_replay(new: Sequence[Row], replay: Replay, worded: Wordings, seed: int) -> ReplayedRows:
    """New rows mixed with some of the earlier ones, at least a few of each task.

    An earlier row for the same query of the same task is left out: the new one corrects it.

    Args:
        new: at least one.
        replay: the earlier ones.
        worded: says what is read for a row.
        seed: chooses among them.
    """
    corrected = {asked for row in new for asked in _asked(row, worded)}
    train, valid = (
        [row for row in rows if not corrected.intersection(_asked(row, worded))]
        for rows in (replay.train, replay.valid)
    )
    drawn = kept_rows(train, max(_LEAST_REPLAYED, _REPLAYED_FOR_EACH * len(new)), seed)
    wanted = _NEW_SHARE * len(drawn) / (1 - _NEW_SHARE)
    repeats = min(_MOST_REPEATS, max(1, round(wanted / len(new))))
    chosen = set(map(id, drawn))
    return ReplayedRows([*new] * repeats + drawn, valid, [row for row in train if id(row) not in chosen])


def _asked(row: Row, worded: Wordings) -> Iterator[Hashable]:
    """What is read for a row, in each wording."""
    for text in worded.of_row(row):
        yield row.task, text, row.system, row.history
