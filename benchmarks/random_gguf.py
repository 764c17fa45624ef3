"""Random GGUFs of any size, quantised, with a real vocabulary: what a model costs, without one that knows anything.

    python -m benchmarks.random_gguf 1B -o FILE [--type Q8_0] [--seed N]

SIZE is one of the table below or LAYERSxWIDTHxHEADSxKVxFFN, such as 4x64x4x2x128. Blocks are random bytes with a scale
that keeps the logits near unit variance, written tensor by tensor: a 3B model takes seconds, and no more memory than
its largest tensor. Tokens and chat template are those of the embedded model, so text works.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, LlamaFileType
from numpy.typing import NDArray

from atv_local.data import replacing
from atv_local.names import embedded_model

BLOCK = 32
N_CTX = 8192
TYPES = {"Q4_0": 4.61, "Q4_1": 4.61, "Q8_0": 73.9}
"""Formats, and the standard deviation of their random integers."""


@dataclass(frozen=True)
class Shape:
    """Of a Llama with tied embeddings.

    Raises:
        ValueError: one that llama.cpp or a block format cannot have.
    """

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1 or self.n_layer < 2:
            raise ValueError("two layers and one of everything else are the least")
        if self.n_embd % (2 * self.n_head) or self.n_head % self.n_head_kv:
            raise ValueError("heads must divide the width into even parts, and heads of keys those of queries")
        if self.n_embd % BLOCK or self.n_ff % BLOCK:
            raise ValueError(f"widths must be multiples of {BLOCK}, the size of a block")

    @property
    def n_kv(self) -> int:
        """Width of keys and of values."""
        return self.n_embd // self.n_head * self.n_head_kv

    def matrices(self, n_vocab: int) -> Iterator[tuple[str, int, int]]:
        """Name, rows and columns of every quantised tensor."""
        yield "token_embd", n_vocab, self.n_embd
        for block in range(self.n_layer):
            yield f"blk.{block}.attn_q", self.n_embd, self.n_embd
            yield f"blk.{block}.attn_k", self.n_kv, self.n_embd
            yield f"blk.{block}.attn_v", self.n_kv, self.n_embd
            yield f"blk.{block}.attn_output", self.n_embd, self.n_embd
            yield f"blk.{block}.ffn_gate", self.n_ff, self.n_embd
            yield f"blk.{block}.ffn_up", self.n_ff, self.n_embd
            yield f"blk.{block}.ffn_down", self.n_embd, self.n_ff


SIZES = {
    "0.1B": Shape(12, 768, 12, 4, 2048),
    "0.3B": Shape(32, 960, 15, 5, 2560),
    "0.5B": Shape(24, 1152, 18, 6, 4096),
    "1B": Shape(16, 2048, 32, 8, 8192),
    "1.7B": Shape(24, 2048, 32, 32, 8192),
    "3B": Shape(28, 3072, 24, 8, 8192),
}


def parse(text: str) -> Shape:
    """A name in the table, or the five sizes.

    Raises:
        ValueError: neither.
    """
    if text in SIZES:
        return SIZES[text]
    if not re.fullmatch(r"\d{1,6}(x\d{1,6}){4}", text):
        raise ValueError(f"{text!r} is neither {', '.join(SIZES)} nor LAYERSxWIDTHxHEADSxKVxFFN")
    return Shape(*map(int, text.split("x")))


def write(path: Path, shape: Shape, *, kind: str = "Q4_0", seed: int = 0, vocabulary: Path | None = None) -> None:
    """Write a model; equal arguments give equal files.

    Args:
        kind: one of `TYPES`.
        vocabulary: the GGUF whose tokens and chat template it gets, by default the embedded model.
    """
    fields = gguf.GGUFReader(vocabulary or embedded_model()).fields
    n_vocab = len(fields["tokenizer.ggml.tokens"].data)
    quantised = GGMLQuantizationType[kind]
    norms = ["output_norm", *(f"blk.{n}.{name}_norm" for n in range(shape.n_layer) for name in ("attn", "ffn"))]
    rng = np.random.default_rng(seed)
    with replacing(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        _describe(writer, shape, path.stem, kind, n_vocab)
        for key, field in fields.items():
            if key.startswith("tokenizer."):
                kinds = field.types
                of = kinds[-1] if kinds[0] is GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), kinds[0], of)
        block, n_bytes = gguf.GGML_QUANT_SIZES[quantised]
        for name, rows, columns in shape.matrices(n_vocab):
            size = rows * columns // block * n_bytes
            writer.add_tensor_info(f"{name}.weight", (rows, columns), np.dtype(np.float32), size, quantised)
        for name in norms:
            size = 4 * shape.n_embd
            writer.add_tensor_info(f"{name}.weight", (shape.n_embd,), np.dtype(np.float32), size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, rows, columns in shape.matrices(n_vocab):
            writer.write_tensor_data(_blocks(rng, quantised, rows, columns))
        for _ in norms:
            writer.write_tensor_data(np.ones(shape.n_embd, np.float32))
        writer.close()


def _describe(writer: gguf.GGUFWriter, shape: Shape, name: str, kind: str, n_vocab: int) -> None:
    writer.add_name(name)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_vocab_size(n_vocab)


def _blocks(rng: np.random.Generator, kind: GGMLQuantizationType, rows: int, columns: int) -> NDArray[np.uint8]:
    """Random blocks whose values have mean 0 and variance 1/columns, so that a product has that of its input.

    A block is a float16 scale, in Q4_1 a float16 minimum, and integers: 0 to 15 in Q4_1, -8 to 7 in Q4_0, -128 to 127
    in Q8_0, of which the sign of the scale, drawn too, takes the mean away.
    """
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    n_blocks = rows * columns // block
    data = rng.integers(0, 256, (n_blocks, n_bytes), dtype=np.uint8)
    sign = rng.choice(np.array([-1, 1], np.float16), n_blocks)
    scale = sign * np.float16(1 / (TYPES[kind.name] * columns**0.5))
    data[:, :2] = scale[:, None].view(np.uint8)
    if kind is GGMLQuantizationType.Q4_1:
        data[:, 2:4] = (np.float16(-7.5) * scale)[:, None].view(np.uint8)
    return data.reshape(rows, -1)


def main() -> None:
    """Write one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", help=", ".join(f"{name} {astuple(shape)}" for name, shape in SIZES.items()))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--type", choices=TYPES, default="Q4_0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        shape = parse(arguments.size)
    except ValueError as error:
        parser.error(str(error))
    write(arguments.output, shape, kind=arguments.type, seed=arguments.seed)


if __name__ == "__main__":
    main()
