"""Texts that are hard to tokenise: whatever they are, the process goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from atv_local.errors import PromptError
from atv_local.target.model import Model
from atv_local.target.vocabulary import Vocabulary

N = 200_000
NORMAL, CONTROL, BYTE = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE


def write(path: Path, model: str, tokens: list[tuple[str, gguf.TokenType]], **more: str) -> Path:
    """A GGUF of a vocabulary alone."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(more.get("pre", "default"))
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_scores([-float(place) for place in range(len(tokens))])
    if model == "gpt2":
        writer.add_token_merges(["a a", "! !"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("pre", ["falcon", "deepseek-llm", "deepseek-coder"])
def test_a_character_that_is_repeated_without_end(tmp_path: Path, pre: str) -> None:
    """In a process of its own: without a stack of its size, llama.cpp ends it."""
    tokens = [("<end>", CONTROL), ("a", NORMAL), ("!", NORMAL), ("7", NORMAL), ("aa", NORMAL), ("!!", NORMAL)]
    path = write(tmp_path / "words.gguf", "gpt2", tokens, pre=pre)
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from atv_local.target.model import Model; from atv_local.target.vocabulary import Vocabulary\n"
        "vocabulary = Vocabulary(Model(Path(sys.argv[1]), vocab_only=True, tried=True))\n"
        f"for char in 'a!7': print(len(vocabulary.tokenize({N} * char, special=True)))\n"
        "print(threading.stack_size())\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-500:]
    assert result.stdout.split() == [str(N // 2), str(N // 2), str(N), "0"]


@pytest.mark.parametrize("unit", ["\n", "\t", "é", "<|end|>", "a"])
def test_a_text_with_too_many_tokens_is_refused_before_it_is_tokenised(
    tmp_path: Path, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [("<unk>", gguf.TokenType.UNKNOWN), ("<|end|>", CONTROL), ("a", NORMAL)]
    tokens += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    vocabulary = Vocabulary(Model(write(tmp_path / "words.gguf", "llama", tokens), vocab_only=True, tried=True))
    monkeypatch.setattr(Vocabulary, "_tokenize", lambda *_, **__: pytest.fail("it was tokenised"))
    for strips in ((False, False), (True, False), (False, True)):  # such as Phi-3's
        monkeypatch.setattr(Vocabulary, "_strips", strips)
        vocabulary.__dict__.pop("_can_split", None)
        with pytest.raises(PromptError, match="2048 are allowed"):
            vocabulary.tokenize(unit * N, special=True, limit=2048)
        assert vocabulary.spells_control(unit * N) == (unit == "<|end|>")
