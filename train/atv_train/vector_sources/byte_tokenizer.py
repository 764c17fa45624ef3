"""A tokenizer of bytes, as ByT5 has it, in the form that the runtime reads."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_SPECIAL = ("<pad>", "</s>", "<unk>")
_PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte `b` is token `b + 3`, and `</s>` ends a query; no text has an unknown part."""
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *_letters()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    pad, end, unknown = _SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown)


def _letters() -> list[str]:
    """The letter that stands for each byte in byte-level BPE: its own where that is printable, else one above 255."""
    others = iter(range(256, 512))
    return [chr(byte if byte in _PRINTABLE else next(others)) for byte in range(256)]
