"""Log-likelihoods against PyTorch's on the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from transformers import PreTrainedModel

from atv_eval.lm_eval.harness_model import AtvLocal
from atv_train.frozen_target.injection import decoder_blocks, injected, position_mask
from atv_train.frozen_target.weights import load_target
from tests.eval.lm_eval.token_by_token import asked

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then it goes home to sleep.",
    "Water boils at one hundred degrees Celsius at sea level; on a mountain it boils earlier.",
    "In 1969 two astronauts walked on the moon while a third one stayed in orbit around it.",
    "She opened the door, looked at the empty room and wondered where everybody had gone.",
)


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
    lm = AtvLocal(model=exact, off=True) if off else AtvLocal(model=exact, gate="off")
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
