"""What the model `atv-local` answers to requests, steered by their context and nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from atv_eval.lm_eval.harness_model import AtvLocal
from atv_local.answer.engine import Engine
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.generator.gate import TaskScore
from atv_local.target.prompt import PromptFormat
from atv_local.vectors import random_vector
from atv_local.vectors.task_vector import TaskVector
from tests.eval.lm_eval.token_by_token import asked, scored, scored_pair, tokens_of, written
from tests.tiny import TEMPLATE, write_gguf


def test_results_are_in_the_order_of_requests_however_they_are_grouped(lm: AtvLocal, alone: Engine) -> None:
    pairs = [("apple 1", "a"), ("apple 1", "b"), ("dog 2", "a"), ("apple 1", "abc"), ("", "hello"), ("dog 2", " b")]
    pairs += [("one context", "x" * (1 + n % 7) + "y") for n in range(70)]  # more options than one question takes
    pairs += [("apple 1", "ham")]
    texts = ((context, written(alone, context, 1)) for context in map("apple {}".format, range(400)))
    pairs += [next(pair for pair in texts if pair[1] and scored_pair(alone, *pair)[1])]
    found = lm.loglikelihood(asked("loglikelihood", *pairs), True)
    for (context, continuation), (total, greedy) in zip(pairs, found, strict=True):
        wanted, wanted_greedy = scored_pair(alone, context, continuation)
        assert total == pytest.approx(wanted, abs=1e-3), (context, continuation)
        assert greedy == wanted_greedy
    assert {greedy for _, greedy in found} == {True, False}


def test_a_context_is_evaluated_once_for_its_options(lm: AtvLocal) -> None:
    before = lm._batch.n_evaluated
    lm.loglikelihood(asked("loglikelihood", *((f"{'w' * 100}", letter) for letter in "abcdefgh")), True)
    assert lm._batch.n_evaluated - before < 1.1 * len(lm.tok_encode("w" * 100))


@pytest.fixture
def heard(lm: AtvLocal, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that the generator is given to read from now on."""
    texts: list[str] = []
    made = Generator.scored

    def spy(self: Generator, query: str) -> tuple[TaskVector, TaskScore | None]:
        texts.append(query)
        return made(self, query)

    monkeypatch.setattr(Generator, "scored", spy)
    lm._way.cache_clear()
    return texts


def test_the_generator_reads_the_context_and_never_what_is_scored(lm: AtvLocal, heard: list[str]) -> None:
    pairs = [("apple 1", "a"), ("apple 1", " b"), ("", "hello"), ("  ", "c"), ("dog 2 ", "b"), ("apple 1", "zz")]
    lm.loglikelihood(asked("loglikelihood", *pairs), True)
    assert heard == ["apple 1", "dog 2 "]
    with pytest.warns(UserWarning, match="no query"):
        lm.loglikelihood_rolling(asked("loglikelihood_rolling", ("the whole text",)), True)
    assert heard == ["apple 1", "dog 2 "]
    lm.generate_until(asked("generate_until", ("cow 3", {"until": ["\n"], "max_gen_toks": 2})), True)
    assert heard[2:] == ["cow 3"]


def test_of_a_conversation_the_generator_reads_the_last_question(lm: AtvLocal, alone: Engine, heard: list[str]) -> None:
    user = {"role": "user", "content": "apple 1"}
    before = [{"role": "user", "content": "pig 1"}, {"role": "assistant", "content": "b"}]
    system = [{"role": "system", "content": "be brief"}]
    begun = [{"role": "assistant", "content": "it is "}]
    contexts = [
        lm.apply_chat_template([user]),
        lm.apply_chat_template([*system, *before, user]),
        lm.apply_chat_template([*system, user, *begun], add_generation_prompt=False),
    ]
    assert lm._vocabulary.tokenize(contexts[0], special=True) == list(PromptFormat(lm._vocabulary)("apple 1").tokens)
    assert contexts[2].endswith("<|im_start|>assistant\nit is ")
    for context in contexts:
        lm.loglikelihood(asked("loglikelihood", (context, "a")), True)
    assert heard == ["apple 1"] * 3
    ((total, greedy),) = lm.loglikelihood(asked("loglikelihood", (contexts[0], "a")), True)
    prompt = PromptFormat(alone.target.vocabulary)("apple 1").tokens
    option = tokens_of(alone, contexts[0] + "a")[len(prompt) :]
    assert (pytest.approx(total, abs=1e-3), greedy) == scored(alone, prompt, option, alone.vector("apple 1"))
    assert greedy  # as trained


def test_strength_layers_positions_and_off_are_those_of_the_arguments(arguments: dict[str, Any], lm: AtvLocal) -> None:
    request = asked("loglikelihood", ("apple 1", "ab"))
    given = [{}, {"strength": 0.5}, {"layers": "1-2"}, {"layers": 3}, {"positions": "all"}, {"positions": "last"}]
    totals = [AtvLocal(**arguments, **more).loglikelihood(request, True)[0][0] for more in given]
    assert len(set(totals)) == len(given)
    ways: tuple[dict[str, Any], ...] = ({"off": True}, {"strength": 0}, {"off": True, "strength": 2, "layers": "1-2"})
    off = [AtvLocal(**arguments, **more).loglikelihood(request, True)[0][0] for more in ways]
    assert off[0] == off[1] == off[2]
    assert off[0] not in totals
    assert lm.get_model_info() | {"bundle": ""} == {
        "bundle": "",
        "strength": 1.0,
        "layers": [1, 3],
        "positions": "decode",
        "gate": 0.5,
        "control_vectors": [],
    }


def test_control_vectors_steer_alone_or_beside_a_bundle(arguments: dict[str, Any], tmp_path: Path) -> None:
    request = asked("loglikelihood", ("apple 1", "ab"))
    for seed in (1, 2):
        random_vector(3, 64, seed=seed).save(tmp_path / f"{seed}.gguf")
    files = f"{tmp_path / '1.gguf'};{tmp_path / '2.gguf'}:0.5"
    alone = {name: value for name, value in arguments.items() if name != "bundle"}
    models = [AtvLocal(**given) for given in (
        alone | {"off": True}, alone | {"control_vectors": files}, arguments, arguments | {"control_vectors": files}
    )]  # fmt: skip
    totals = [model.loglikelihood(request, True)[0][0] for model in models]
    assert len(set(totals)) == 4
    info = models[1].get_model_info()
    assert (info["bundle"], [one["scale"] for one in info["control_vectors"]]) == (None, [1.0, 0.5])
    with pytest.raises(UsageError, match="control_vectors"):
        AtvLocal(**alone, control_vectors="a.gguf:5000")


def test_what_is_too_long_loses_its_beginning(arguments: dict[str, Any], alone: Engine) -> None:
    small = AtvLocal(**arguments, n_ctx=256)
    long = "abcdefghij" * 40
    with pytest.warns(UserWarning, match="lose their beginning"):
        ((total, _),) = small.loglikelihood(asked("loglikelihood", (long, "xyz")), True)
    whole = tokens_of(alone, long + "xyz")
    assert total == pytest.approx(scored(alone, whole[-257:-3], whole[-3:], alone.vector(long))[0], abs=1e-2)
    with pytest.warns(UserWarning, match="lose their beginning"):  # all that n_ctx holds is context
        ((total, _),) = small.loglikelihood(asked("loglikelihood", (long, "x")), True)
    assert total == pytest.approx(scored(alone, whole[-259:-3], whole[-3:-2], alone.vector(long))[0], abs=1e-2)


@pytest.mark.parametrize("n_ctx", [256, 512])
def test_a_rolling_window_predicts_each_token_once(arguments: dict[str, Any], alone: Engine, n_ctx: int) -> None:
    texts = ["abcdefghij" * 47, "", "z"]
    found = AtvLocal(**arguments, off=True, n_ctx=n_ctx).loglikelihood_rolling(
        asked("loglikelihood_rolling", *((text,) for text in texts)), True
    )
    tokens = [1, *alone.target.vocabulary.tokenize(texts[0], special=True, bos=False)]
    total, done = 0.0, 1
    while done < len(tokens):
        end = min(done + n_ctx, len(tokens))
        context = tokens[max(0, end - n_ctx - 1) : done]
        total += scored(alone, context, tokens[done:end], None)[0]
        done = end
    assert found[0] == pytest.approx(total, rel=1e-4)  # llama.cpp adds up longer runs in another order
    assert found[1] == 0
    assert found[2] < 0


def test_generation_stops_where_it_is_told(arguments: dict[str, Any], alone: Engine) -> None:
    lm = AtvLocal(**arguments, strength=0.1, max_tokens=30)
    contexts = ["apple 1", "say something", "dog 2"]
    free = [written(alone, context, 30, 0.1) for context in contexts]
    requests = asked("generate_until", *((context, {"until": []}) for context in contexts))
    assert lm.generate_until(requests, True) == free
    longest = max(free, key=len)
    context, stop = contexts[free.index(longest)], longest[4:6]
    before = lm._batch.n_evaluated
    (found,) = lm.generate_until(asked("generate_until", (context, {"until": [stop, ""]})), True)
    assert found == longest.split(stop)[0]
    evaluated = lm._batch.n_evaluated - before - len(tokens_of(alone, context))
    assert evaluated < len(longest) - 2  # it did not go on writing
    short = asked("generate_until", (context, {"until": stop, "max_gen_toks": 2}))
    assert lm.generate_until(short, True) == [written(alone, context, 2, 0.1)]


def test_sampling_draws_anew_for_each_request_and_the_same_in_each_run(arguments: dict[str, Any]) -> None:
    drawn = {"until": [], "do_sample": True, "temperature": 1.5, "max_gen_toks": 12}
    requests = asked("generate_until", *([("say something", drawn)] * 4))
    found = AtvLocal(**arguments).generate_until(requests, True)
    assert len(set(found)) == 4
    assert AtvLocal(**arguments).generate_until(requests, True) == found
    assert AtvLocal(**arguments, seed=7).generate_until(requests, True) != found
    greedy = asked("generate_until", ("say something", drawn | {"do_sample": False, "temperature": 0.0}))
    assert AtvLocal(**arguments, seed=7).generate_until(greedy, True) == AtvLocal(**arguments).generate_until(
        greedy, True
    )


def test_mistakes_are_one_sentence(arguments: dict[str, Any], lm: AtvLocal, tmp_path: Path) -> None:
    for given, words in (
        ({"pretrained": "gpt2"}, "pretrained"),
        ({"layers": "8-"}, "not A-B"),
        ({"layers": "1-9"}, "layers` 1-9"),
        ({"positions": "first"}, "positions: .*first"),
        ({"parallel": 0}, "parallel: .*, not 0"),
    ):
        with pytest.raises(UsageError, match=words):
            AtvLocal(**arguments, **given)
    with pytest.raises(UsageError, match="max_gen_toks 600"):
        lm.generate_until(asked("generate_until", ("a", {"until": [], "max_gen_toks": 600})), True)
    with pytest.raises(UsageError, match="no token of its own"):
        lm.loglikelihood(asked("loglikelihood", ("apple", "")), True)
    with pytest.warns(UserWarning, match="without effect: num_beams"):
        lm.generate_until(asked("generate_until", ("a", {"until": [], "max_gen_toks": 1, "num_beams": 4})), True)
    bare = AtvLocal(model=write_gguf(tmp_path / "bare.gguf", template=""), off=True, n_threads=1)
    with pytest.raises(UsageError, match="no chat template"):
        bare.chat_template(True)
    assert (lm.chat_template(True), lm.chat_template(False)) == (lm._vocabulary.chat_template, None)
    assert lm.tokenizer_name != bare.tokenizer_name
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is steered, so there is nothing to say
        bare.loglikelihood_rolling(asked("loglikelihood_rolling", ("text",)), True)


def test_each_context_has_the_bundle_that_fits(tiny_gguf: Path, fruits_bundle: Path, beasts_bundle: Path) -> None:
    requests = asked("loglikelihood", ("pear 7", "ab"), ("a cow", "ab"), ("something else", "ab"))
    many = AtvLocal(model=tiny_gguf, bundle=f"{fruits_bundle};{beasts_bundle}", n_threads=1)
    alone = [AtvLocal(model=tiny_gguf, bundle=bundle, n_threads=1) for bundle in (fruits_bundle, beasts_bundle)]
    (fruit, *_), (_, beast, outside) = (lm.loglikelihood(requests, True) for lm in alone)
    assert many.loglikelihood(requests, True) == [fruit, beast, outside]
    assert many.get_model_info()["bundle"] == [lm.get_model_info()["bundle"] for lm in alone]


def test_a_context_outside_the_tasks_is_scored_by_the_base_model_unless_the_gate_is_off(
    tiny_gguf: Path, gated_bundle: Path
) -> None:
    requests = asked("loglikelihood", ("something else", "a"), ("apple 1", "a"))
    scores = {}
    for gate in ("auto", "off"):
        lm = AtvLocal(model=tiny_gguf, bundle=gated_bundle, n_threads=1, gate=gate)
        scores[gate] = [total for total, _ in lm.loglikelihood(requests, True)]
    base = [total for total, _ in AtvLocal(model=tiny_gguf, off=True, n_threads=1).loglikelihood(requests, True)]
    assert scores["auto"][0] == pytest.approx(base[0], abs=1e-4)
    assert scores["off"][0] != pytest.approx(base[0], abs=1e-2)
    assert scores["auto"][1] == pytest.approx(scores["off"][1], abs=1e-4)
    with pytest.raises(UsageError, match="gate"):
        AtvLocal(model=tiny_gguf, bundle=gated_bundle, gate="on")


def test_template_variables(tmp_path: Path) -> None:
    gguf = write_gguf(
        tmp_path / "thinks.gguf", template=TEMPLATE.replace("assistant\n{% endif", "assistant\n<think>{% endif")
    )
    messages = [{"role": "user", "content": "hello"}]
    for given in ("enable_thinking=false", '{"enable_thinking": false}', {"enable_thinking": False}):
        model = AtvLocal(model=gguf, off=True, template_variables=given)
        assert model.apply_chat_template(messages).rstrip().endswith("</think>")
    assert AtvLocal(model=gguf, off=True).apply_chat_template(messages).endswith("<think>")
    with pytest.raises(UsageError, match=r"template_variables.*NAME=VALUE"):
        AtvLocal(model=gguf, off=True, template_variables="enable_thinking")
