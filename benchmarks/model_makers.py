"""Make the tiny models of `model_families` as GGUF files, with llama.cpp's own converter.

    pip download --no-binary :all: --no-deps llama-cpp-python==VERSION
    python -m benchmarks.model_makers --llama-cpp llama_cpp_python-VERSION/vendor/llama.cpp FOLDER [NAME ...]

Each family becomes FOLDER/NAME/model.gguf with the weights it was made from in FOLDER/NAME/weights.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.forked import in_fork
from benchmarks.model_families import COMMON, FAMILIES, Family

_ARCHITECTURES = {"MptForCausalLM": "MPTForCausalLM"}
"""Names in transformers, and in the converter, that differ."""
WARM = ("transformers.modeling_utils", "transformers.models.llama.modeling_llama")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def folder_name(name: str) -> str:
    """A family's name as that of a folder."""
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name).strip("_")


def import_converter(llama_cpp: Path) -> None:
    """Import llama.cpp's converter and its own gguf package in place of the one that is installed."""
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    for name in [name for name in sys.modules if name.split(".")[0] == "gguf"]:
        del sys.modules[name]
    for name in ("conversion", "gguf", *WARM):
        importlib.import_module(name)


@cache
def vocabulary(path: Path) -> dict[str, tuple[Any, Any]]:
    """Key to value and types, of all that a GGUF says about its vocabulary."""
    import gguf

    reader = gguf.GGUFReader(path)
    named = {name: field for name, field in reader.fields.items() if name.startswith("tokenizer.")}
    return {name: (field.contents(), field.types) for name, field in named.items() if "chat_template" not in name}


def make(llama_cpp: Path, name: str, folder: Path) -> None:
    """One family's GGUF and weights."""
    family = FAMILIES[name]
    words = vocabulary(llama_cpp / "models" / f"ggml-vocab-{family.vocabulary}.gguf")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    weights = folder / "weights"
    _model(family, len(words["tokenizer.ggml.tokens"][0])).save_pretrained(weights)
    counted = {"model": {"vocab": words["tokenizer.ggml.tokens"][0]}, "added_tokens": []}
    (weights / "tokenizer.json").write_text(json.dumps(counted))  # its length is what the converter reads for Gemma
    _convert(weights, words, _template(llama_cpp, family), folder / "model.gguf", f"tiny {name}")


def _template(llama_cpp: Path, family: Family) -> str:
    if not family.template:
        return CHATML
    return (llama_cpp / "models" / "templates" / f"{family.template}.jinja").read_text()


def _model(family: Family, n_vocab: int) -> Any:
    """A model whose layers all matter: weights as after training, norms and biases that are not their defaults."""
    kind = getattr(transformers, family.config)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    common = {name: value for name, value in COMMON.items() if not isinstance(getattr(kind, name, None), property)}
    config = kind(**{**common, **ids, "vocab_size": n_vocab, **family.options})
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    for name, values in model.named_parameters():
        if "A_log" in name or name.endswith((".D", "dt_bias")) or "dt_proj" in name:
            continue  # state-space models are stable only near what they begin with
        with torch.no_grad():
            if values.ndim > 1:
                values.normal_(0, values.shape[-1] ** -0.5)
            else:
                values.add_(0.1 * torch.randn_like(values))
    return model


def _convert(weights: Path, words: dict[str, tuple[Any, Any]], template: str, output: Path, name: str) -> None:
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class  # type: ignore[import-not-found]

    def set_vocab(self: Any) -> None:
        for key, (value, (kind, *of)) in words.items():
            self.gguf_writer.add_key_value(key, value, kind, of[0] if of else None)
        self.gguf_writer.add_chat_template(template)

    architecture = get_model_architecture(ModelBase.load_hparams(weights, False), ModelType.TEXT)
    kind = get_model_class(_ARCHITECTURES.get(architecture, architecture))
    kind.set_vocab = set_vocab
    if hasattr(kind, "opt_num_mtp_layers"):  # these want next-token layers to be in the weights
        kind.no_mtp = True
    with torch.inference_mode():
        kind(weights, gguf.LlamaFileType.ALL_F32, output, model_name=name, eager=True).write()


def main() -> None:
    """Make all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, required=True, help="llama.cpp's source")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    llama_cpp = options.llama_cpp.resolve()
    import_converter(llama_cpp)
    for name in options.names:
        vocabulary(llama_cpp / "models" / f"ggml-vocab-{FAMILIES[name].vocabulary}.gguf")  # for all forks
        folder = options.folder / folder_name(name)
        if FAMILIES[name].newest and not hasattr(transformers, FAMILIES[name].config):
            print(f"{name}: not in transformers {transformers.__version__}", file=sys.stderr)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        try:
            in_fork(partial(make, llama_cpp, name, folder))
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
