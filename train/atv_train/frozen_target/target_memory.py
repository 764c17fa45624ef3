"""How much memory the target's weights take in PyTorch, and how no more than that is taken while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig

from atv_local.errors import ModelError


def check_memory(path: Path, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> None:
    """Require that a model's weights fit what is free.

    Args:
        path: of the model.
        config: for its weights in `dtype`.

    Raises:
        ModelError: they do not.
    """
    with torch.device("meta"):
        n_weights = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    needed = n_weights * dtype.itemsize
    free = {"memory": psutil.virtual_memory().available}
    if device.type == "cuda":
        free[f"memory of {device}"] = torch.cuda.mem_get_info(device)[0]
    for what, n_bytes in free.items():
        if needed > n_bytes:
            kind = str(dtype).removeprefix("torch.")
            half = ", or train in bfloat16, which takes half" if dtype is torch.float32 else ""
            raise ModelError(
                f"the {n_weights / 1e6:.0f} million weights of {path} take {needed / 1e9:.1f} GB in {kind}, and "
                f"{n_bytes / 1e9:.1f} GB of {what} are free; close other programs, take a smaller model{half}"
            )


@contextmanager
def converted_as_read(dtype: torch.dtype) -> Iterator[None]:
    """Within the context transformers' reader of GGUFs converts each matrix as it is read.

    That of transformers 4 holds all of them in float32 until the last is read, three times the memory of a model in
    bfloat16; that of 5 does not. The values are the same. Vectors keep their precision, which a few models need.
    """
    from_numpy: Any = torch.from_numpy

    def convert(array: NDArray[Any], /) -> Tensor:
        tensor: Tensor = from_numpy(array)
        return tensor.to(dtype) if tensor.dtype is torch.float32 and tensor.ndim > 1 else tensor

    torch.from_numpy = convert  # type: ignore[assignment]  # its only way from numpy to PyTorch, and it takes no dtype
    try:
        yield
    finally:
        torch.from_numpy = from_numpy
