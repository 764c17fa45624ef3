"""How weights from outside are loaded: nothing that comes with them is run, and no pickle is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from atv_local.errors import ModelError
from atv_train.hub_models import source_of

SAFE_LOADING: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
"""Arguments of every `from_pretrained` that reads weights."""
_ADAPTER = "adapter_config.json"


def check_config(name: str | Path) -> None:
    """Refuse a configuration that makes transformers run code, before transformers acts on it.

    Some model classes pass on what their config.json says about remote code (CVE-2026-5241), or load a kernel that it
    names from the hub (CVE-2026-4372), whatever `trust_remote_code` the caller gives.

    Args:
        name: a folder or a hub id.

    Raises:
        ModelError: such a configuration, or an adapter instead of a model.
        OSError, ValueError: no configuration, or no way to the hub.
    """
    check_no_adapter(Path(name))
    config, _ = PretrainedConfig.get_config_dict(source_of(str(name)), trust_remote_code=False)
    if (key := _unsafe(config)) is not None:
        raise ModelError(f"the config.json of {name} asks for code from elsewhere with {key!r}; choose another model")


def check_no_adapter(folder: Path) -> None:
    """Refuse a folder of which transformers would load an adapter in place of what is asked for.

    Raises:
        ModelError: there is one.
    """
    if (folder / _ADAPTER).exists():
        raise ModelError(
            f"{folder / _ADAPTER} makes this the folder of an adapter; merge it into its model, or move it elsewhere"
        )


def _unsafe(config: object) -> str | None:
    """The first key, at any depth, that has code loaded."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "trust_remote_code" and value:
                return str(key)
            if "attn_implementation" in str(key) and "/" in str(value):
                return str(key)
            if (found := _unsafe(value)) is not None:
                return found
    elif isinstance(config, list):
        return next((found for value in config if (found := _unsafe(value)) is not None), None)
    return None
