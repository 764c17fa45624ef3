"""Problems in the rows that training or validation would suffer from, as sentences."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from statistics import median

from atv_local.data import Row, are_labels, describe_variants, normalised, with_single_spaces

FEW_ROWS = 8
MAX_SENTENCES = 12
LARGEST_SHARE, LARGEST_RATIO, LONG_SHARE = 0.8, 10, 0.3
SHOWN = 40
_THOUGHT = re.compile(r"\s*[<\[]\|?(?:\w+[:_])?(?:think|thought|reason)\w*\|?[>\]]", re.IGNORECASE)
"""The beginning of an answer of a reasoning model, as data sets made with one have it."""
_Tasks = dict[str, list[Row]]


def find_warnings(train: Sequence[Row], valid: Sequence[Row], replayed: Collection[str] = ()) -> list[str]:
    """A sentence for each problem, at most `MAX_SENTENCES`; the last one counts those that are left out.

    Problems of all rows come first, then those of each task.

    Args:
        replayed: tasks of which earlier rows are trained on too.
    """
    train_tasks, valid_tasks = _by_task(train), _by_task(valid)
    texts = {task for task, rows in train_tasks.items() if not are_labels([row.output for row in rows])}
    warnings = [*_leaks(train, valid), *_contradictions(train, texts), *_decided_before(train), *_repeats(train)]
    warnings += [*_unseen_tasks(train_tasks, valid_tasks), *_small_tasks(train_tasks, replayed)]
    for task, rows in train_tasks.items():
        warnings += _written_otherwise(task, [row.output for row in rows])
        if task in texts:
            warnings += _long_outputs(task, rows)
        else:
            labels = Counter(row.output for row in rows)
            warnings += [*_imbalance(task, labels), *_unseen_labels(task, labels, valid_tasks.get(task, []))]
    if len(warnings) > MAX_SENTENCES:
        rest = len(warnings) - MAX_SENTENCES + 1
        warnings[MAX_SENTENCES - 1 :] = [f"{rest} more warnings like these are not listed"]
    return warnings


def _by_task(rows: Sequence[Row]) -> _Tasks:
    tasks: _Tasks = defaultdict(list)
    for row in rows:
        tasks[row.task].append(row)
    return dict(sorted(tasks.items()))


def _leaks(train: Sequence[Row], valid: Sequence[Row]) -> Iterator[str]:
    """Inputs that differ in case or blanks are the same input where their outputs are the same, too."""
    inputs, seen = {row.input for row in train}, {(normalised(row.input), row.output) for row in train}
    leaked = [row.input for row in valid if row.input in inputs or (normalised(row.input), row.output) in seen]
    if leaked:
        yield (
            f"training has the inputs of {len(leaked)} of {len(valid)} validation rows too, such as "
            f"{_shown(leaked[0])}; take them out of either, or validation will look better than it is"
        )


def _contradictions(train: Sequence[Row], texts: Collection[str]) -> Iterator[str]:
    """Of one task or several: a task vector is made from the input alone. One text task may word its answer in several
    ways."""
    outputs: dict[object, dict[str, None]] = defaultdict(dict)  # a set that keeps its order
    tasks: dict[object, set[str]] = defaultdict(set)
    inputs: dict[object, str] = {}
    for row in train:
        prompt = (with_single_spaces(row.input), row.system, row.history)
        outputs[prompt][row.output] = None
        tasks[prompt].add(row.task)
        inputs.setdefault(prompt, row.input)
    torn = {
        inputs[prompt]: list(several)
        for prompt, several in outputs.items()
        if len(several) > 1 and (len(tasks[prompt]) > 1 or not tasks[prompt] <= set(texts))
    }
    if torn:
        text, (one, other, *_) = next(iter(torn.items()))
        yield (
            f"training gives more than one output to {len(torn)} of {len(outputs)} inputs, such as {_shown(text)} with "
            f"{_shown(one)} and {_shown(other)}; an input has one answer whatever its task, so keep the right one"
        )


def _decided_before(train: Sequence[Row]) -> Iterator[str]:
    """The target reads a system message and earlier turns, so such rows are no contradiction; a vector is made without
    them."""
    outputs: dict[str, dict[object, str]] = defaultdict(dict)
    for row in train:
        outputs[row.input].setdefault((row.system, row.history), row.output)
    torn = {text: [*dict.fromkeys(of.values())] for text, of in outputs.items() if len({*of.values()}) > 1}
    if torn:
        text, (one, other, *_) = next(iter(torn.items()))
        yield (
            f"{len(torn)} of {len(outputs)} training inputs have different outputs by their system message or "
            f"earlier turns, such as {_shown(text)} with {_shown(one)} and {_shown(other)}; the generator reads the "
            "input alone and makes one vector for both, so put what decides the output into the input"
        )


def _repeats(train: Sequence[Row]) -> Iterator[str]:
    rows = Counter((row.task, row.input, row.output, row.system, row.history) for row in train)
    if len(rows) < len(train):
        text = next(row[1] for row, number in rows.items() if number > 1)
        yield (
            f"training repeats {len(train) - len(rows)} of its {len(train)} rows, such as {_shown(text)}; "
            "a repeated row weighs more, so leave the copies out unless that is intended"
        )


def _unseen_tasks(train: _Tasks, valid: _Tasks) -> Iterator[str]:
    unseen = [task for task in valid if task not in train]
    if unseen:
        yield (
            f"training has no rows for {len(unseen)} of {len(valid)} validation tasks, such as {_shown(unseen[0])}; "
            "a task is named after its file, so name the files alike or give the rows a task"
        )


def _small_tasks(train: _Tasks, replayed: Collection[str]) -> Iterator[str]:
    small = [(task, len(rows)) for task, rows in train.items() if len(rows) < FEW_ROWS and task not in replayed]
    if small:
        task, number = small[0]
        yield (
            f"training has fewer than {FEW_ROWS} rows for {len(small)} of {len(train)} tasks, such as {_shown(task)} "
            f"with {number}; that is too little to learn from, so add some"
        )


def _written_otherwise(task: str, outputs: Sequence[str]) -> Iterator[str]:
    if variants := describe_variants(task, outputs):
        yield variants
    if thoughts := [output for output in outputs if _THOUGHT.match(output)]:
        yield (
            f"{len(thoughts)} of {len(outputs)} training outputs of the task {_shown(task)} begin with a thinking "
            f"block, such as {_shown(thoughts[0])}; it is learned as part of the answer, so remove it if answers are "
            "to begin without one"
        )
    spaced = [output for output in outputs if output != output.strip()]
    if 2 * len(spaced) >= len(outputs):
        yield (
            f"{len(spaced)} of {len(outputs)} training outputs of the task {_shown(task)} begin or end with a space or "
            f"line break, such as {_shown(spaced[0])}; it is learned as part of the answer, so remove it if it is none"
        )


def _imbalance(task: str, labels: Counter[str]) -> Iterator[str]:
    (most, most_rows), *others = labels.most_common()
    if labels.total() < FEW_ROWS:
        return
    if not others:
        yield (
            f"all {most_rows} training rows of the task {_shown(task)} have the output {_shown(most)}; "
            "every query of this kind will get that answer, so add rows with other outputs"
        )
        return
    least, least_rows = others[-1]
    if most_rows > LARGEST_SHARE * labels.total() or most_rows >= LARGEST_RATIO * least_rows:
        yield (
            f"of {labels.total()} training rows of the task {_shown(task)}, {most_rows} have the output "
            f"{_shown(most)} and {least_rows} {_shown(least)}; expect the rare ones to be missed, or add rows with them"
        )


def _long_outputs(task: str, rows: Sequence[Row]) -> Iterator[str]:
    """Every token of an answer weighs the same, so a few long answers can be most of what is learned."""
    typical = median(len(row.output) for row in rows)
    long = [row for row in rows if len(row.output) >= LARGEST_RATIO * typical]
    share = sum(len(row.output) for row in long) / sum(len(row.output) for row in rows)
    if len(rows) >= FEW_ROWS and share >= LONG_SHARE:
        yield (
            f"{len(long)} of {len(rows)} training outputs of the task {_shown(task)} are at least {LARGEST_RATIO} "
            f"times as long as is typical and make up {share:.0%} of its text, such as that of "
            f"{_shown(long[0].input)}; they outweigh the others, so shorten them or leave them out"
        )


def _unseen_labels(task: str, labels: Counter[str], valid: Sequence[Row]) -> Iterator[str]:
    unseen = [row.output for row in valid if row.output not in labels]
    if unseen:
        yield (
            f"training lacks the outputs of {len(unseen)} of {len(valid)} validation rows of the task "
            f"{_shown(task)}, such as {_shown(unseen[0])}; expect them to be missed, or train on some"
        )


def _shown(text: str) -> str:
    """In quotes, at most 40 characters, none of which a terminal would act on."""
    inner = repr(text[: SHOWN + 1])[1:-1]
    return f"'{inner if len(inner) <= SHOWN else inner[: SHOWN - 1] + '…'}'"
