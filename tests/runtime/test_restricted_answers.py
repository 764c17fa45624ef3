"""Answers that are one of some choices, or follow a schema or grammar: alone, in a stream, in chats and in a batch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from atv_local import OFF, Batch, Conversation, Engine, Finish, Generator, Sampling, Target, UsageError
from atv_local.answer import Constraint, parse_choices
from atv_local.errors import GrammarError
from atv_local.generator import Bundle, Manifest, TaskSpec
from atv_local.target import Grammar, score_options

QUERIES = ["apple 1", "dog 1", "what is this?", "pear 2"]
CHOICES = ["a", "b", "ab", "some other", "no", "straße"]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-zé]{1,4}$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "kind": {"enum": ["fruit", 'a "beast"']},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 2}, "maxItems": 2},
    },
    "required": ["name", "age", "kind"],
}
WORDS = 'root ::= "é" [あ-ん]{2} ("😀" | "x")'


def _check_person(text: str) -> None:
    person = json.loads(text)
    assert {"name", "age", "kind"} <= person.keys() <= PERSON["properties"].keys()
    assert 1 <= len(person["name"]) <= 4
    assert person["age"] in range(131)
    assert person["kind"] in ("fruit", 'a "beast"')


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.5, seed=1), Sampling(1.5, top_k=0, top_p=1, seed=2)])
def test_an_answer_under_a_schema_is_valid(engine: Engine, sampling: Sampling) -> None:
    for query in QUERIES:
        answer = engine.answer(query, schema=PERSON, sampling=sampling)
        assert answer.finish_reason is Finish.STOP
        _check_person(answer.text)
        assert engine.answer(query, schema=PERSON, sampling=sampling).text == answer.text  # also with a seed
        assert "probabilities" not in answer.as_dict()


def test_characters_of_several_tokens_follow_a_grammar(engine: Engine) -> None:
    """The tiny vocabulary has bytes only, so each character of these is written in two to four tokens."""
    for seed in range(4):
        text = engine.answer("apple 1", grammar=WORDS, sampling=Sampling(2, top_k=0, top_p=1, seed=seed)).text
        assert re.fullmatch("é[あ-ん]{2}[😀x]", text)


def test_other_answers_are_the_same_after_restricted_ones(engine: Engine) -> None:
    before = [engine.answer(query, max_tokens=12).text for query in QUERIES]
    for query in QUERIES:
        engine.answer(query, schema=PERSON)
        engine.answer(query, choices=CHOICES)
    assert [engine.answer(query, max_tokens=12).text for query in QUERIES] == before


def test_a_grammar_that_allows_an_answer_does_not_change_it(engine: Engine) -> None:
    drawn = [Sampling(1, top_k=3, seed=seed) for seed in range(24)]
    free = {
        sampling: engine.answer("apple 1", sampling=sampling, max_tokens=3).text for sampling in (Sampling(), *drawn)
    }
    readable = {sampling: text for sampling, text in free.items() if "\ufffd" not in text}
    assert len(set(readable.values())) > 1
    for sampling, text in readable.items():
        assert engine.answer("apple 1", sampling=sampling, max_tokens=3, grammar="root ::= .*").text == text


def test_a_grammar_only_removes_tokens_that_it_forbids(engine: Engine) -> None:
    """Greedy, the answer begins with the most likely of the allowed letters."""
    target = engine.target
    target.prefill(*(prompt := target.prompts("apple 1")).segments)
    logits = target.evaluate([prompt.tokens[-1]]).copy()
    texts = [target.vocabulary.piece(token).decode("latin-1") for token in range(len(logits))]
    best = max((token for token, text in enumerate(texts) if text in [*"qvxz"]), key=lambda token: logits[token])
    assert engine.answer("apple 1", steering=OFF, grammar="root ::= [qvxz]").text == texts[best]


def test_steering_works_under_a_schema(engine: Engine) -> None:
    schema = {"enum": ["a", "b"]}
    assert [engine.answer(query, schema=schema).text for query in ("apple 1", "dog 1")] == ['"a"', '"b"']


def test_a_stream_gives_the_restricted_answer_piece_by_piece(engine: Engine) -> None:
    events = list(engine.stream("apple 1", schema=PERSON))
    assert len(events) > 10
    assert "".join(event.text for event in events) == engine.answer("apple 1", schema=PERSON).text
    (event,) = engine.stream("apple 1", choices=CHOICES)
    assert (event.text, event.finish_reason) == ("a", Finish.STOP)
    assert list(event.probabilities or ()) == CHOICES


def test_probabilities_are_those_of_complete_answers(engine: Engine) -> None:
    with Batch(engine) as batch:
        scores = [np.array(score) for score in batch.score(QUERIES, CHOICES)]
    for query, score in zip(QUERIES, scores, strict=True):
        answer = engine.answer(query, choices=CHOICES, max_tokens=1)
        wanted = np.exp(score) / np.exp(score).sum()
        assert answer.probabilities is not None
        assert np.allclose([answer.probabilities[choice] for choice in CHOICES], wanted, atol=1e-4)
        assert answer.text == CHOICES[int(wanted.argmax())]
        assert answer.finish_reason is Finish.STOP
        assert answer.as_dict()["probabilities"] == answer.probabilities
        turned = engine.answer(query, choices=CHOICES[::-1])
        assert turned.text == answer.text
        assert turned.probabilities == pytest.approx(dict(answer.probabilities), abs=1e-5)
    assert [engine.answer(query, choices=["a", "b"]).text for query in ("apple 1", "dog 1")] == ["a", "b"]


def test_options_are_scored_as_if_each_were_evaluated_alone(engine: Engine) -> None:
    target, prompt = engine.target, engine.target.prompts("what is this?")
    options = [prompts for choice in CHOICES if (prompts := target.prompts.answer("what is this?", choice))]

    def scores(some: list[tuple[int, ...]]) -> list[float]:
        target.prefill(*prompt.segments)
        target.evaluate([prompt.tokens[-1]])
        return score_options(target, some)

    alone = [score for option in options for score in scores([option])]
    assert scores(options) == pytest.approx(alone, abs=1e-3)


def test_a_choice_is_drawn_at_a_temperature(engine: Engine) -> None:
    def draw(temperature: float, seed: int) -> str:
        return engine.answer("apple 1", choices=CHOICES, sampling=Sampling(temperature, seed=seed)).text

    assert draw(50, 1) == draw(50, 1)
    assert len({draw(50, seed) for seed in range(8)}) > 1
    assert {draw(0.01, seed) for seed in range(4)} == {"a"}


@pytest.mark.parametrize("restriction", [{"choices": CHOICES}, {"schema": PERSON}, {"grammar": WORDS}])
@pytest.mark.parametrize("sampling", [None, Sampling(1.2, seed=5)])
def test_a_batch_gives_the_same_restricted_answers(
    engine: Engine, restriction: dict[str, Any], sampling: Sampling | None
) -> None:
    alone = [engine.answer(query, sampling=sampling, **restriction) for query in QUERIES]
    for parallel in (128, 3):  # the second evaluates a question in several parts
        with Batch(engine, parallel=parallel) as batch:
            together = list(batch.answer(QUERIES, sampling=sampling, **restriction))
        assert [answer.text for answer in together] == [answer.text for answer in alone]
        assert [answer.tokens.generated for answer in together] == [answer.tokens.generated for answer in alone]
    if "choices" in restriction:
        assert together[0].probabilities == pytest.approx(dict(alone[0].probabilities or {}), abs=1e-4)
    many = engine.answer_many(QUERIES, sampling=sampling, **restriction)
    assert [answer.text for answer in many] == [answer.text for answer in alone]


def test_choices_can_be_read_once(engine: Engine) -> None:
    def choices() -> Any:
        return iter("ab")

    assert [answer.text for answer in engine.answer_many(["apple 1", "dog 1"], choices=choices())] == ["a", "b"]
    assert engine.answer("apple 1", choices=choices()).text == "a"
    conversation = Conversation(engine, choices=choices())
    assert [conversation.answer(query).text for query in ("apple 1", "dog 1")] == ["a", "b"]


def test_conversations_are_restricted_until_they_are_not(engine: Engine) -> None:
    conversation = Conversation(engine, choices=["a", "b"], max_tokens=12)
    assert conversation.answer("apple 1").text == engine.answer("apple 1", choices=["a", "b"]).text == "a"
    assert conversation.last.record["probabilities"].keys() == {"a", "b"}
    conversation.choices, conversation.schema = None, {"enum": ["b", "a"]}
    assert conversation.answer("dog 1").text in ('"a"', '"b"')
    messages = [*conversation.messages[:2], {"role": "user", "content": "dog 1"}]
    assert engine.chat(messages, schema={"enum": ["b", "a"]}).text == conversation.last.answer_text
    assert set(engine.chat(messages, choices=["x", "y"]).probabilities or {}) == {"x", "y"}
    conversation.choices = ["x"]
    with pytest.raises(UsageError, match="exclude each other"):
        conversation.answer("dog 2")
    assert len(conversation.turns) == 2


@pytest.mark.parametrize(
    ("restriction", "named"),
    [
        ({"choices": []}, "`choices` is empty"),
        ({"choices": "yes"}, "`choices` 'yes'"),
        ({"choices": 3}, "`choices` 3"),
        ({"choices": ["a", "b", "a"]}, "'a' is twice"),
        ({"choices": ["a", " "]}, "blank"),
        ({"choices": ["a", 1]}, "type int"),
        ({"choices": ["x" * 257]}, "257 characters"),
        ({"choices": [str(n) for n in range(257)]}, "257 answers"),
        ({"choices": ["a"], "schema": {}}, "`choices` and `schema`"),
        ({"schema": {}, "grammar": WORDS}, "`schema` and `grammar`"),
        ({"schema": "{}"}, "`schema` '{}'"),
        ({"schema": {"type": "foo"}}, "foo"),
        ({"schema": {"not": {}}}, "not"),
        ({"schema": {"x": float("nan")}}, "`schema`"),
        ({"grammar": 3}, "`grammar` 3"),
        ({"grammar": 'x ::= "a"'}, "root"),
    ],
)
def test_a_restriction_that_cannot_be_used_is_refused_at_once(
    engine: Engine, restriction: dict[str, Any], named: str
) -> None:
    for call in (engine.answer, engine.stream, lambda query, **given: engine.answer_many([query], **given)):
        with pytest.raises(UsageError) as caught:
            call("apple 1", **restriction)
        assert named in str(caught.value)


def test_a_checked_grammar_is_taken_too(engine: Engine) -> None:
    grammar = Grammar.of_schema({"enum": ["a"]})
    assert engine.answer("dog 1", grammar=grammar).text == '"a"'


def test_the_choices_can_be_the_labels_of_the_bundle(engine: Engine) -> None:
    assert engine.answer("dog 1", choices="auto").as_dict()["probabilities"].keys() == {"a", "b"}
    with pytest.raises(UsageError, match="without a bundle"):
        Engine(engine.target).answer("dog 1", choices="auto")


def test_a_bundle_without_labels_has_no_choices(target: Target, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(copytree(tiny_bundle, tmp_path / "old"))
    manifest = json.loads((folder / "atv.json").read_text())
    del manifest["tasks"]  # as in bundles that were made before
    (folder / "atv.json").write_text(json.dumps(manifest))
    old = Engine(target, Generator(Bundle(folder)))
    assert old.answer("dog 1").text == "b"
    with pytest.raises(UsageError, match="stores no labels"):
        old.answer("dog 1", choices="auto")


def of_tasks(**tasks: int) -> Manifest:
    """A manifest that lists so many labels of each task."""
    listed = [
        TaskSpec(name=name, kind="labels" if n else "text", labels=[f"{name}{k}" for k in range(n)])
        for name, n in tasks.items()
    ]
    return Manifest.model_construct(tasks=listed)


def test_the_choices_can_be_the_labels_of_one_task() -> None:
    manifest = of_tasks(a=200, b=100, c=0)
    assert Constraint.of("auto:b", bundles=[manifest]).choices == tuple(f"b{k}" for k in range(100))
    with pytest.raises(UsageError, match=r"300 labels of 2 tasks, and 256 .* 'auto:TASK', of a, b$"):
        Constraint.of("auto", bundles=[manifest])
    assert len(Constraint.of("auto", bundles=[of_tasks(a=200, b=56)]).choices) == 256
    for choices in ("auto:", "auto:c", "auto:d"):
        with pytest.raises(UsageError, match=f"{choices}.*, which are a, b$"):
            Constraint.of(choices, bundles=[manifest])
    assert parse_choices("auto:b") == "auto:b"


def test_a_grammar_that_nothing_follows_fails_alone(engine: Engine) -> None:
    never = engine.constraint(schema={"$ref": "#"})
    with pytest.raises(GrammarError, match="no text follows"):
        engine.answer("apple 1", schema={"$ref": "#"})
    with Batch(engine) as batch:
        questions = [
            batch.question(query, max_tokens=8, constraint=never if query == "dog 1" else None) for query in QUERIES
        ]
        replies = list(batch.ask(questions))
        alone = list(batch.answer([QUERIES[0], *QUERIES[2:]], max_tokens=8))
    assert [type(reply.error) for reply in replies] == [type(None), GrammarError, type(None), type(None)]
    assert [reply.outcomes[0].text for reply in replies if not reply.error] == [answer.text for answer in alone]
