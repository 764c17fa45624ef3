"""Random backbones that read capitals, accents, emoji and other scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    ByT5Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'éùฝนตกหัว👍👎"
_SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def unigram(letters: str = _LETTERS) -> Tokenizer:
    """SentencePiece's unigram model over these letters, as XLM-RoBERTa and multilingual E5 have it."""
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((one, -3.0) for one in f"▁{letters}")]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return tokenizer


def byte_level() -> Tokenizer:
    """BPE over bytes, cased, as RoBERTa and ModernBERT have it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(["<s>", "<pad>", "</s>", *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def _saved(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer) -> Path:
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>"
    ).save_pretrained(folder)
    return folder


def write_multilingual(folder: Path) -> Path:
    """A BERT that reads with a unigram tokenizer, as multilingual-e5-small is."""
    tokenizer, _ = unigram(), torch.manual_seed(0)
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=128, **_SHAPE)
    return _saved(folder, BertModel(config, add_pooling_layer=False), tokenizer)


def write_cased(folder: Path) -> Path:
    """A RoBERTa that reads with byte-level BPE; two of its 130 positions are those of the padding."""
    tokenizer, _ = byte_level(), torch.manual_seed(0)
    size = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 130}
    config = RobertaConfig(pad_token_id=1, bos_token_id=0, eos_token_id=2, **size, **_SHAPE)
    return _saved(folder, RobertaModel(config, add_pooling_layer=False), tokenizer)


def write_bytes(folder: Path) -> Path:
    """A T5 with its decoder, and the tokenizer of ByT5, which has no tokenizer.json."""
    torch.manual_seed(0)
    config = T5Config(vocab_size=384, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    T5Model(config).save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)
    return folder


READERS: dict[str, Callable[[Path], Path]] = {
    "multilingual": write_multilingual,
    "cased": write_cased,
    "bytes": write_bytes,
}
