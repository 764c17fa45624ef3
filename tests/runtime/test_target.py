"""The target: what is steered, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atv_local.errors import ModelError, NotFoundError, PromptError, VectorError
from atv_local.target.target import Target
from atv_local.target.target_file import TargetFile
from atv_local.vectors.task_vector import TaskVector
from tests.tiny import write_gguf

SHAPE = (3, 64)
TOKENS = [3, 70, 80, 90, 100, 110]


def vector(seed: int = 0, size: float = 1.0) -> TaskVector:
    return TaskVector(np.random.default_rng(seed).normal(0, size, SHAPE))


def bare_logits(path: Path, *batches: list[int]) -> np.ndarray:
    """llama.cpp alone, without any code of ours."""
    model = llama_cpp.Llama(str(path), n_ctx=512, n_threads=1, flash_attn=True, verbose=False, logits_all=True)
    for batch in batches:
        model.eval(batch)
    return np.array(model.scores[model.n_tokens - 1])


def test_unsteered_logits_are_those_of_llama_cpp_bit_for_bit(tiny_gguf: Path, target: Target) -> None:
    target.prefill(TOKENS[:-1])
    assert np.array_equal(target.evaluate(TOKENS[-1:]), bare_logits(tiny_gguf, TOKENS[:-1], TOKENS[-1:]))


def test_clearing_a_vector_restores_the_base_logits_bit_for_bit(target: Target) -> None:
    target.prefill(TOKENS[:-1])
    base = target.evaluate(TOKENS[-1:]).copy()
    target.apply(vector())
    target.prefill(TOKENS[:-1])
    assert np.array_equal(target.evaluate(TOKENS[-1:]), base)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(5, 260), min_size=1, max_size=6),
            st.lists(st.integers(5, 260), min_size=1, max_size=6),
            st.integers(-1, 3),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_logits_do_not_depend_on_what_was_evaluated_before(
    target: Target, queries: list[tuple[list[int], list[int], int]]
) -> None:
    def answer(shared: list[int], own: list[int], seed: int) -> np.ndarray:
        target.prefill(shared, own)
        if seed >= 0:
            target.apply(vector(seed))
        return target.evaluate([7]).copy()

    for query in queries:
        answer(*query)
    again = answer(*queries[0])
    target.reset()
    assert np.array_equal(again, answer(*queries[0]))


def test_an_unsteered_prefix_is_evaluated_once(target: Target) -> None:
    target.prefill(TOKENS, [200])
    before = target.n_evaluated
    target.prefill(TOKENS, [201, 202])
    assert target.n_evaluated - before == 2
    assert target.n_past == len(TOKENS) + 2


def test_tokens_evaluated_under_a_vector_are_never_reused(target: Target) -> None:
    target.prefill()
    target.apply(vector())
    target.evaluate(TOKENS)
    before = target.n_evaluated
    target.prefill(TOKENS)
    assert target.n_evaluated - before == len(TOKENS)


def test_one_call_sets_a_vector_and_one_clears_it(target: Target) -> None:
    target.clear()
    assert target.n_vector_calls == 0
    target.apply(vector())
    for token in TOKENS:
        target.evaluate([token])
    target.clear()
    target.clear()
    assert target.n_vector_calls == 2


def test_every_row_moves_the_logits(target: Target) -> None:
    target.prefill(TOKENS[:-1])
    seen = [target.evaluate(TOKENS[-1:]).copy()]
    for row in range(SHAPE[0]):
        rows = np.zeros(SHAPE, np.float32)
        rows[row] = vector().array[row]
        target.prefill(TOKENS[:-1])
        target.apply(TaskVector(rows))
        seen.append(target.evaluate(TOKENS[-1:]).copy())
    assert len({logits.tobytes() for logits in seen}) == SHAPE[0] + 1


@pytest.mark.parametrize("shape", [(2, 64), (4, 64), (3, 63), (3, 65), (1, 192)])
def test_a_vector_of_another_shape_never_reaches_llama_cpp(target: Target, shape: tuple[int, int]) -> None:
    with pytest.raises(VectorError, match=r"\[3, 64\]"):
        target.apply(TaskVector(np.ones(shape)))
    assert target.n_vector_calls == 0


def test_too_strong_a_vector_is_an_error_and_leaves_nothing_behind(target: Target) -> None:
    target.prefill(TOKENS[:-1])
    base = target.evaluate(TOKENS[-1:]).copy()
    target.prefill(TOKENS[:-1])
    target.apply(TaskVector(np.full(SHAPE, 3e38)))
    with pytest.raises(ModelError, match="lower `strength`"):
        target.evaluate(TOKENS[-1:])
    target.prefill(TOKENS[:-1])
    assert np.array_equal(target.evaluate(TOKENS[-1:]), base)


def write_bert(path: Path) -> Path:
    """A random BERT: one of the architectures that accept a control vector, return 0 and add nothing."""
    rng, width, inner, n_layer = np.random.default_rng(0), 32, 64, 2
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{letter}" for letter in "abcdefgh")]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * 8)
    writer.add_token_type_count(2)
    for name, token in (("pad", 0), ("unk", 1), ("bos", 2), ("sep", 3), ("eos", 3)):
        getattr(writer, f"add_{name}_token_id")(token)
    linear = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
    linear |= {"attn_output": (width, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(tokens), width),
        "position_embd.weight": (64, width),
        "token_types.weight": (2, width),
        "token_embd_norm.weight": (width,),
        "token_embd_norm.bias": (width,),
    }
    for block in range(n_layer):
        for name, shape in linear.items():
            shapes |= {f"blk.{block}.{name}.weight": shape, f"blk.{block}.{name}.bias": shape[:1]}
        for name in ("attn_output_norm", "layer_output_norm"):
            shapes |= {f"blk.{block}.{name}.{part}": (width,) for part in ("weight", "bias")}
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(0, 0.2, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_target_that_ignores_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not steer architecture 'bert'"):
        Target(write_bert(tmp_path / "bert.gguf"), n_threads=1)


def test_more_tokens_than_the_context_is_an_error(tiny_gguf: Path) -> None:
    small = Target(tiny_gguf, n_ctx=256, n_threads=1)
    with pytest.raises(PromptError, match=f"context of {small.n_ctx}"):
        small.prefill([7] * (small.n_ctx + 1))
    small.prefill([7] * small.n_ctx)


def test_a_long_prompt_goes_through_several_batches(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", n_ctx=1024)
    tokens = list(np.random.default_rng(0).integers(5, 260, 700))
    target = Target(path, n_ctx=1024, n_threads=1)
    target.prefill([int(token) for token in tokens])
    assert target.n_past == 700


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF model: it is empty"),
        (b"PK\x03\x04 something else", "not a GGUF model: it is a zip"),
        (b"GGUF" + b"\x03\0\0\0" + b"\xff" * 64, "llama.cpp cannot load"),
    ],
)
def test_a_file_that_is_no_gguf_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        Target(path)


def test_a_truncated_gguf_is_one_clear_error(tmp_path: Path, tiny_gguf: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"cannot load .*cut.gguf"):
        Target(path)


def test_a_missing_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"absent\.gguf"):
        Target(tmp_path / "absent.gguf")


def test_a_small_context_takes_whatever_fits_it(tiny_gguf: Path) -> None:
    small = Target(tiny_gguf, n_ctx=16, n_threads=1)
    tokens = [7] * (small.n_ctx - 1)  # llama.cpp makes it larger than asked for, but not its batches
    small.prefill(tokens[:-1])
    assert np.isfinite(small.evaluate(tokens[-1:])).all()
    assert small.n_past == len(tokens)


def test_the_file_alone_says_what_the_loaded_target_says(tiny_gguf: Path, target: Target) -> None:
    file = TargetFile.open(tiny_gguf)
    assert (file.path, file.spec) == (tiny_gguf, target.spec)
    assert file.prompts("hello") == target.prompts("hello")
    assert "be brief" in file.vocabulary.text(file.prompts.after(system="be brief")("hello").tokens)
