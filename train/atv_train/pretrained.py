"""How weights from outside are loaded: nothing that comes with them is run, and no pickle is read."""

from __future__ import annotations

from typing import Any

SAFE_LOADING: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
"""Arguments of every `from_pretrained` that reads weights."""
