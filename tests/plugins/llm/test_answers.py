"""Answers of the model `atv` in llm, their logs, and several at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llm
import numpy as np
import pytest

from atv_local.answer.engine import Engine
from atv_local.generator import Bundle
from atv_local.names import add_alias
from atv_local.vectors.steering import OFF
from atv_local.vectors.task_vector import TaskVector
from atv_plugins import llm_model
from atv_plugins.llm_model import Atv
from tests.plugins.llm.helpers import Ask, logged, said
from tests.tiny import TEMPLATE, write_gguf


def test_it_answers_steered_streamed_or_not(ask: Ask, pair: list[str]) -> None:
    for query, answer in (("apple 1", "a\n"), ("dog 1", "b\n")):
        for more in ([], ["--no-stream"]):
            result = ask(*pair, *more, query)
            assert (result.exit_code, result.stdout, result.stderr) == (0, answer, "")


def test_it_answers_with_a_choice_or_under_a_schema(ask: Ask, pair: list[str], tmp_path: Path) -> None:
    assert ask(*pair, "-o", "choices", "a,b", "dog 1").stdout == "b\n"
    assert logged(ask)[-1]["response_json"]["probabilities"].keys() == {"a", "b"}
    assert ask(*pair, "-o", "choices", "auto", "apple 1").stdout == "a\n"
    schema = {"type": "object", "properties": {"kind": {"enum": ["fruit", "beast"]}}, "required": ["kind"]}
    answer = ask(*pair, "--schema", json.dumps(schema), "apple 1").stdout
    assert json.loads(answer)["kind"] in ("fruit", "beast")
    grammar = tmp_path / "answer.gbnf"
    grammar.write_text('root ::= "x" [yz]\n')
    assert ask(*pair, "-o", "grammar", grammar, "apple 1").stdout in ("xy\n", "xz\n")
    refused = ask(*pair, "--schema", json.dumps(schema), "-o", "choices", "a,b", "apple 1")
    assert refused.exit_code == 1
    assert "exclude each other" in refused.output


def test_its_other_name_is_that_of_the_project(ask: Ask, pair: list[str]) -> None:
    assert ask("-m", "atv-local", *pair[2:], "apple 1").stdout == "a\n"


def test_what_was_applied_is_logged(ask: Ask, pair: list[str], engine: Engine) -> None:
    steering = ["-o", "strength", "1.5", "-o", "layers", "1-2", "-o", "positions", "last"]
    assert ask(*pair, *steering, "-o", "max_tokens", "4", "apple 1").exit_code == 0
    (row,) = logged(ask)
    assert engine.generator is not None
    told = row["response_json"]
    assert told["bundle"] == engine.generator.bundle.id
    assert (told["strength"], told["layers"], told["positions"]) == (1.5, [1, 2], "last")
    assert told["tokens"]["prompt"] == row["input_tokens"]
    assert 1 <= row["output_tokens"] == told["tokens"]["generated"] <= 4
    assert row["resolved_model"] == "tiny"
    assert (row["options_json"]["strength"], row["options_json"]["positions"]) == (1.5, "last")


def test_the_gate_is_an_option_and_its_decision_is_logged(ask: Ask, tiny_gguf: Path, gated_bundle: Path) -> None:
    gated = ["-m", "atv", "-o", "model", str(tiny_gguf), "-o", "bundle", str(gated_bundle), "-o", "max_tokens", "6"]
    base = ask(*gated, "-o", "off", "true", "something else").stdout
    assert ask(*gated, "something else").stdout == base
    assert ask(*gated, "-o", "gate", "off", "something else").stdout != base
    assert ask(*gated, "-o", "gate", "0.2", "apple 1").stdout == "a\n"
    off, auto, opened, lower = [row["response_json"].get("gate") for row in logged(ask)]
    assert off is None
    assert (auto["task"], auto["threshold"], auto["steered"]) == ("kinds", 0.5, False)
    assert (opened["threshold"], opened["steered"]) == (0, True)
    assert (lower["threshold"], lower["steered"]) == (0.2, True)
    refused = ask(*gated, "-o", "gate", "on", "apple 1")
    assert (refused.exit_code, "'on'" in refused.output) == (1, True)


def test_each_message_goes_to_the_bundle_that_it_fits(
    ask: Ask, tiny_gguf: Path, fruits_bundle: Path, beasts_bundle: Path
) -> None:
    both = ["-m", "atv", "-o", "model", str(tiny_gguf), "-o", "bundle", f"{fruits_bundle}, {beasts_bundle}"]
    for query in ("apple 1", "a cow", "something else"):
        assert ask(*both, "-o", "max_tokens", "4", query).exit_code == 0
    bundles = [row["response_json"]["bundle"] for row in logged(ask)]
    assert bundles == [Bundle(fruits_bundle).id, Bundle(beasts_bundle).id, None]
    refused = ask(*both[:7], f"{fruits_bundle},", "apple 1")
    assert (refused.exit_code, "comma" in refused.output) == (1, True)


def test_usage_is_told(ask: Ask, pair: list[str], engine: Engine) -> None:
    _, n_prompt = said(engine, ("user", "apple 1"))
    assert f"{n_prompt} input, 1 output" in ask(*pair, "-u", "apple 1").stderr


def test_off_is_the_base_model_and_needs_no_bundle(ask: Ask, pair: list[str], engine: Engine) -> None:
    base, _ = said(engine, ("user", "apple 1"), steering=OFF, max_tokens=8)
    assert base != "a"
    assert ask(*pair[:5], "-o", "off", "true", "-o", "max_tokens", "8", "apple 1").stdout == base + "\n"
    assert ask(*pair, "-o", "strength", "0", "-o", "max_tokens", "8", "apple 1").stdout == base + "\n"
    told = [row["response_json"] for row in logged(ask)]
    assert [(record["bundle"], record["strength"], record["layers"]) for record in told] == [(None, 0, None)] * 2


def test_control_vectors_steer(ask: Ask, pair: list[str], engine: Engine, tmp_path: Path) -> None:
    for name, values in (("some.gguf", 0.5), ("minus.gguf", -0.5)):
        TaskVector(np.full((3, 64), values)).save(tmp_path / name)
    both = f"{tmp_path / 'some.gguf'}:2, {tmp_path / 'minus.gguf'}"
    few = ["-o", "max_tokens", "8", "apple 1"]
    beside = ask(*pair, "-o", "control_vectors", both, *few)
    alone = ask(*pair[:5], "-o", "control_vectors", both, *few)
    vector = np.full((3, 64), 0.5)
    for answer, answering in ((beside, engine), (alone, Engine(engine.target))):
        how = answering.with_control_vectors([vector])
        assert answer.stdout == answering.answer("apple 1", steering=how, max_tokens=8).text + "\n"
    records = [row["response_json"]["control_vectors"] for row in logged(ask)]
    assert [[(one["name"], one["scale"]) for one in record] for record in records] == (
        [[("some.gguf", 2.0), ("minus.gguf", 1.0)]] * 2
    )
    refused = ask(*pair, "-o", "control_vectors", "absent.gguf:0.5", *few)
    assert (refused.exit_code, "absent.gguf" in refused.stderr) == (1, True)


def test_a_seed_repeats_what_is_drawn(ask: Ask, pair: list[str]) -> None:
    def drawn(seed: int) -> str:
        sampling = ["-o", "temperature", "2", "-o", "top_p", "1", "-o", "top_k", "0", "-o", "seed", str(seed)]
        return ask(*pair, *sampling, "-o", "strength", "0", "-o", "max_tokens", "16", "apple 1").stdout

    assert drawn(1) == drawn(1) != drawn(2)


def test_what_a_user_has_set_for_the_model_holds_beside_other_options(
    ask: Ask, tiny_gguf: Path, tiny_bundle: Path
) -> None:
    for name, value in (("model", tiny_gguf), ("bundle", tiny_bundle), ("max_tokens", 3), ("strength", 0)):
        assert ask("models", "options", "set", "atv", name, str(value)).exit_code == 0
    assert ask("-m", "atv", "-o", "seed", "1", "apple 1").exit_code == 0
    (row,) = logged(ask)
    assert (row["output_tokens"], row["response_json"]["strength"]) == (3, 0)
    assert ask("-m", "atv", "-o", "strength", "1", "apple 1").stdout == "a\n"


def test_answers_that_are_read_in_turns_do_not_mix(options: dict[str, Any]) -> None:
    model = Atv()
    weak = options | {"strength": 0.1, "temperature": 2, "seed": 1, "max_tokens": 8}
    whole = [model.prompt(query, options=weak).text() for query in ("apple 1", "dog 1")]
    first, second = (iter(model.prompt(query, options=weak)) for query in ("apple 1", "dog 1"))
    begun = next(first)
    assert ["".join(second), begun + "".join(first)] == whole[::-1]


def test_threads_get_their_own_answers(options: dict[str, Any]) -> None:
    queries = ["apple 1", "dog 1", "pear 2", "cow 3"]
    answers = {}

    def answer(query: str) -> None:
        answers[query] = Atv().prompt(query, options=options).text()

    threads = [threading.Thread(target=answer, args=(query,)) for query in queries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict(zip(queries, "abab", strict=True))


def test_an_answer_nobody_reads_on_ends(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    answer = llm_model._answer

    def told(prompt: llm.Prompt, say: Callable[[str], None], unread: threading.Event) -> dict[str, Any]:
        def patiently(text: str) -> None:
            say(text)
            unread.wait(60)

        record = answer(prompt, patiently, unread)
        written.append(record["tokens"]["generated"])
        return record

    monkeypatch.setattr(llm_model, "_answer", told)
    pieces = iter(Atv().prompt("apple 1", options=options | {"strength": 0, "max_tokens": 8}))
    next(pieces)
    pieces.close()
    monkeypatch.setattr(llm_model, "_answer", answer)
    assert Atv().prompt("dog 1", options=options).text() == "b"
    assert written == [1]


def test_an_alias_for_a_pair_is_enough(
    ask: Ask, options: dict[str, Any], user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not user_folder.exists()
    add_alias("mine", **options)
    assert ask("-m", "atv", "-o", "model", "mine", "apple 1").stdout == "a\n"
    monkeypatch.setenv("ATV_MODEL", "mine")
    assert ask("-m", "atv", "dog 1").stdout == "b\n"


def test_template_variables(ask: Ask, tmp_path: Path) -> None:
    gguf = write_gguf(
        tmp_path / "thinks.gguf", template=TEMPLATE.replace("assistant\n{% endif", "assistant\n<think>{% endif")
    )
    base = ["-m", "atv", "-o", "model", str(gguf), "-o", "off", "true", "-o", "max_tokens", "1"]
    for given in ([], ["enable_thinking=false"], ['{"enable_thinking": false}']):
        said = [word for text in given for word in ("-o", "template_variables", text)]
        assert ask(*base, *said, "hello").exit_code == 0
    lengths = [row["response_json"]["tokens"]["prompt"] for row in logged(ask)]
    assert len(set(lengths)) == 2, lengths
    assert sorted(lengths)[0] < sorted(lengths)[1] == sorted(lengths)[2]
    assert "NAME=VALUE" in ask(*base, "-o", "template_variables", "enable_thinking", "hello").output
