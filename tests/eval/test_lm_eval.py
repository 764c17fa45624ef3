"""The model `atv-local` in lm-evaluation-harness: numbers as PyTorch's, steered by the context and nothing else."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from transformers import PreTrainedModel
from typer.testing import CliRunner

from atv_cli.main import app
from atv_eval.lm_eval.harness_model import AtvLocal
from atv_local.answer.engine import Engine
from atv_local.errors import UsageError
from atv_local.generator.generator import Generator
from atv_local.target.prompt import PromptFormat
from atv_local.target.target import Target
from atv_local.vectors.task_vector import TaskVector
from atv_train.frozen_target.injection import decoder_blocks, injected, position_mask
from atv_train.frozen_target.weights import load_target
from tests import ROOT
from tests.conftest import write_gguf

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then it goes home to sleep.",
    "Water boils at one hundred degrees Celsius at sea level; on a mountain it boils earlier.",
    "In 1969 two astronauts walked on the moon while a third one stayed in orbit around it.",
    "She opened the door, looked at the empty room and wondered where everybody had gone.",
)


def asked(kind: str, *requests: tuple[Any, ...]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=request, idx=0) for request in requests]


# Against PyTorch on the same weights.


@pytest.fixture(scope="module")
def pytorch(smollm2: Path) -> PreTrainedModel:
    return load_target(smollm2, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def exact(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same weights in a GGUF that is not quantised: llama.cpp then rounds no activations to 8 bits either."""
    path = tmp_path_factory.mktemp("exact") / "smollm2-f32.gguf"
    reader, writer = gguf.GGUFReader(smollm2), gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            array = field.types[0] == gguf.GGUFValueType.ARRAY
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if array else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    yield path
    path.unlink()


def of_pytorch(
    model: PreTrainedModel, lm: AtvLocal, context: list[int], text: list[int], query: str = ""
) -> list[float]:
    """Log-probability of each token of a text after a context, under the vector of a query if there is one."""
    steering = lm._steering
    steered: Any = nullcontext()
    if query:
        rows = torch.tensor(steering.apply(lm._engine.vector(query)).array[None])
        lengths = [len(context)], [len(context) + len(text)]
        steered = injected(
            decoder_blocks(model), rows, position_mask(*lengths, steering.positions, torch.device("cpu"))
        )
    with torch.no_grad(), steered:
        logits = model(torch.tensor([context + text])).logits[0].log_softmax(-1)
    return [float(logits[len(context) - 1 + place, token]) for place, token in enumerate(text)]


def split(lm: AtvLocal, text: str) -> tuple[str, str, list[int], list[int]]:
    """A context and its continuation, as text and as tokens."""
    head, space, tail = text.partition(" the ") if " the " in text else text.partition(" a ")
    return head, space + tail, lm.tok_encode(head), lm.tok_encode(text)[len(lm.tok_encode(head)) :]


def test_log_likelihoods_of_the_quantised_target_are_pytorchs(pytorch: PreTrainedModel) -> None:
    """In nats per token, mean over texts. Single tokens differ more: llama.cpp rounds activations to 8 bits."""
    lm = AtvLocal()
    with pytest.warns(UserWarning, match="no query"):
        rolled = lm.loglikelihood_rolling(asked("loglikelihood_rolling", *((text,) for text in TEXTS)), True)
    away = []
    for text, total in zip(TEXTS, rolled, strict=True):
        tokens = lm.tok_encode(text)
        away.append(abs(total - sum(of_pytorch(pytorch, lm, [lm.prefix_token_id], tokens))) / len(tokens))
    assert np.mean(away) <= 0.02


@pytest.mark.parametrize("off", [True, False])
def test_every_token_of_the_dequantised_target_is_pytorchs(pytorch: PreTrainedModel, exact: Path, off: bool) -> None:
    lm = AtvLocal(model=exact, off=off)
    for text in TEXTS:
        head, tail, context, continuation = split(lm, text)
        query = "" if off else head
        expected = of_pytorch(pytorch, lm, context, continuation, query)
        ((total, _),) = lm.loglikelihood(asked("loglikelihood", (head, tail)), True)
        assert abs(total - sum(expected)) / len(expected) <= 0.02
        with nullcontext() if off else pytest.warns(UserWarning, match="no query"):
            (rolled,) = lm.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)), True)
        tokens = lm.tok_encode(text)
        wanted = of_pytorch(pytorch, lm, [lm.prefix_token_id], tokens)
        assert abs(rolled - sum(wanted)) / len(tokens) <= 0.02
        beginnings = [((head, tail), context, continuation[: n + 1]) for n in range(len(continuation))]
        totals = [total for total, _ in lm._loglikelihood_tokens(beginnings, True)]
        assert np.abs(np.diff([0.0, *totals]) - expected).mean() <= 0.02
        if not off:  # the test can tell steered from not
            assert np.abs(np.subtract(of_pytorch(pytorch, lm, context, continuation), expected)).mean() > 0.1


# On the tiny target, whose numbers are computed token by token here.


@pytest.fixture(scope="module")
def arguments(tiny_gguf: Path, tiny_bundle: Path) -> dict[str, Any]:
    return {"model": tiny_gguf, "generator": tiny_bundle, "n_threads": 1}


@pytest.fixture(scope="module")
def lm(arguments: dict[str, Any]) -> AtvLocal:
    return AtvLocal(**arguments)


@pytest.fixture(scope="module")
def alone(tiny_gguf: Path, tiny_generator: Generator) -> Engine:
    return Engine(Target(tiny_gguf, n_threads=1), tiny_generator)


def tokens_of(engine: Engine, text: str) -> list[int]:
    return engine.target.vocabulary.tokenize(text, special=True)


def scored(
    engine: Engine, context: Sequence[int], option: Sequence[int], vector: TaskVector | None
) -> tuple[float, bool]:
    """The target's own log-probability of an option, and whether it is greedy; `decode` if steered."""
    target = engine.target
    target.reset()
    target.prefill(context[:-1])
    if vector is not None:
        target.apply(engine.steering.apply(vector))
    total, greedy = 0.0, True
    for before, token in zip((context[-1], *option), option, strict=False):
        logits = np.float64(target.evaluate([before]))
        total += logits[token] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        greedy = greedy and token == logits.argmax()
    target.reset()
    return total, greedy


def scored_pair(engine: Engine, context: str, continuation: str) -> tuple[float, bool]:
    if not context:
        return scored(
            engine, [1], engine.target.vocabulary.tokenize(continuation, special=True, bos=False), None
        )  # <s>
    whole, before = tokens_of(engine, context + continuation), tokens_of(engine, context)
    return scored(engine, before, whole[len(before) :], engine.vector(context))


def written(engine: Engine, context: str, max_tokens: int, strength: float = 1.0) -> str:
    """The target's own greedy text."""
    target = engine.target
    target.reset()
    *before, token = tokens_of(engine, context)
    target.prefill(before)
    target.apply(engine.steering.apply(strength * engine.vector(context)))
    pieces = b""
    for _ in range(max_tokens):
        token = int(target.evaluate([token]).argmax())
        if target.vocabulary.ends(token):
            break
        pieces += target.vocabulary.piece(token)
    target.reset()
    return pieces.decode("utf-8", "replace")


def test_results_are_in_the_order_of_requests_however_they_are_grouped(lm: AtvLocal, alone: Engine) -> None:
    pairs = [("apple 1", "a"), ("apple 1", "b"), ("dog 2", "a"), ("apple 1", "abc"), ("", "hello"), ("dog 2", " b")]
    pairs += [("one context", "x" * (1 + n % 7) + "y") for n in range(70)]  # more options than one question takes
    pairs += [("apple 1", "ham")]
    found = lm.loglikelihood(asked("loglikelihood", *pairs), True)
    for (context, continuation), (total, greedy) in zip(pairs, found, strict=True):
        wanted, wanted_greedy = scored_pair(alone, context, continuation)
        assert total == pytest.approx(wanted, abs=1e-3), (context, continuation)
        assert greedy == wanted_greedy
    assert {greedy for _, greedy in found} == {True, False}


def test_a_context_is_evaluated_once_for_its_options(lm: AtvLocal) -> None:
    before = lm._batch.sequences.n_evaluated
    lm.loglikelihood(asked("loglikelihood", *((f"{'w' * 100}", letter) for letter in "abcdefgh")), True)
    assert lm._batch.sequences.n_evaluated - before < 1.1 * len(lm.tok_encode("w" * 100))


@pytest.fixture
def heard(lm: AtvLocal, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that the generator is given to read from now on."""
    texts: list[str] = []
    generator = lm._engine.generator

    def spy(query: str) -> TaskVector:
        texts.append(query)
        return generator(query)

    monkeypatch.setattr(lm._engine, "generator", spy)
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
    off = [
        AtvLocal(**arguments, **more).loglikelihood(request, True)[0][0] for more in ({"off": True}, {"strength": 0})
    ]
    assert off[0] == off[1]
    assert off[0] not in totals
    assert lm.get_model_info() | {"bundle": ""} == {
        "bundle": "",
        "strength": 1.0,
        "layers": [1, 3],
        "positions": "decode",
    }


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
    lm = AtvLocal(**arguments, strength=0.1, max_gen_toks=30)
    contexts = ["apple 1", "say something", "dog 2"]
    free = [written(alone, context, 30, 0.1) for context in contexts]
    requests = asked("generate_until", *((context, {"until": []}) for context in contexts))
    assert lm.generate_until(requests, True) == free
    longest = max(free, key=len)
    context, stop = contexts[free.index(longest)], longest[4:6]
    before = lm._batch.sequences.n_evaluated
    (found,) = lm.generate_until(asked("generate_until", (context, {"until": [stop, ""]})), True)
    assert found == longest.split(stop)[0]
    evaluated = lm._batch.sequences.n_evaluated - before - len(tokens_of(alone, context))
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
        ({"positions": "first"}, "positions=first"),
        ({"batch": 0}, "batch=0"),
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


# Through lm_eval itself.


def test_it_is_registered_by_import_and_by_entry_point() -> None:
    assert get_model("atv-local") is AtvLocal
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lm_eval.models"]
    assert EntryPoint("atv-local", declared["atv-local"], "lm_eval.models").load() is AtvLocal


def test_without_lm_eval_the_verb_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    result = CliRunner().invoke(app, ["lm-eval", "--tasks", "any"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'atv-local[harness]'" in result.stderr


TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}, cache_dir: {cache}}}
test_split: test
output_type: {kind}
doc_to_text: "{text}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task of each kind."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = {
        "choosing": [{"q": "apple 1", "answer": 0}, {"q": "dog 2", "answer": 1}, {"q": "plum 3", "answer": 1}],
        "writing": [{"q": "apple 1", "answer": "a"}, {"q": "dog 2", "answer": "no"}],
        "rolling": [{"answer": "some text here"}, {"answer": "and a bit more"}],
    }
    kinds = {
        "choosing": ("multiple_choice", "{{q}}", 'doc_to_choice: ["a", "b", "abc"]\nmetric_list: [{metric: acc}]'),
        "writing": (
            "generate_until",
            "{{q}}",
            'generation_kwargs: {until: ["\\n", "x"], max_gen_toks: 8}\nmetric_list: [{metric: exact_match}]',
        ),
        "rolling": ("loglikelihood_rolling", "", "metric_list: [{metric: bits_per_byte}]"),
    }
    for name, (kind, text, more) in kinds.items():
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
        task = TASK.format(name=name, file=file, cache=folder / "cache", kind=kind, text=text)
        (folder / f"{name}.yaml").write_text(task + more + "\n")
    return folder


def lm_eval(folder: Path, arguments: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
    """The verb in a process of its own, with nothing to be had but what is in the folder."""
    given = ",".join(f"{name}={value}" for name, value in arguments.items())
    command = [sys.executable, "-m", "atv_cli", "lm-eval", "--model", "atv-local", "--model_args", given]
    environment = os.environ | {
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command += ["--include_path", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


def test_tasks_of_each_kind_through_lm_evals_command_line(
    tasks: Path, arguments: dict[str, Any], alone: Engine
) -> None:
    output = tasks / "out"
    more = ["--tasks", "choosing,writing,rolling", "--output_path", str(output), "--log_samples"]
    done = lm_eval(tasks, arguments, *more)
    assert done.returncode == 0, done.stderr
    assert "|choosing" in done.stdout
    (file,) = output.rglob("results_*.json")
    record = json.loads(file.read_text())
    assert record["config"]["bundle"] == alone.generator.bundle.id
    assert record["config"]["positions"] == "decode"

    def samples(name: str) -> list[dict[str, Any]]:
        (found,) = output.rglob(f"samples_{name}_*.jsonl")
        return sorted(map(json.loads, found.read_text().splitlines()), key=lambda row: row["doc_id"])

    right = 0
    for row in samples("choosing"):
        wanted = [scored_pair(alone, row["doc"]["q"], choice) for choice in ("a", "b", "abc")]
        for (((total, greedy),),), expected in zip(zip(row["resps"], strict=True), wanted, strict=True):
            assert float(total) == pytest.approx(expected[0], abs=1e-3)
            assert str(greedy) == str(expected[1])
        right += row["doc"]["answer"] == np.argmax([total for total, _ in wanted])
    assert record["results"]["choosing"]["acc,none"] == pytest.approx(right / 3)

    texts = [written(alone, row["doc"]["q"], 8).split("\n")[0].split("x")[0] for row in samples("writing")]
    assert [row["resps"][0][0] for row in samples("writing")] == texts
    matches = np.mean([text == row["doc"]["answer"] for text, row in zip(texts, samples("writing"), strict=True)])
    assert record["results"]["writing"]["exact_match,none"] == matches

    bits = n_bytes = 0.0
    for row in samples("rolling"):
        tokens = alone.target.vocabulary.tokenize(row["doc"]["answer"], special=True, bos=False)
        bits -= scored(alone, [1], tokens, None)[0] / math.log(2)
        n_bytes += len(row["doc"]["answer"].encode())
    assert record["results"]["rolling"]["bits_per_byte,none"] == pytest.approx(bits / n_bytes, abs=1e-3)


def test_mistakes_under_lm_eval_are_one_sentence_too(tasks: Path, arguments: dict[str, Any]) -> None:
    for changed, task, code, word in (
        ({"model": "missing.gguf"}, "choosing", 1, "missing.gguf"),
        ({}, "no-such-task", 2, "no-such-task"),
    ):
        done = lm_eval(tasks, arguments | changed, "--tasks", task)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("atv-local: ")
        assert word in done.stderr.splitlines()[-1]
