"""One ONNX graph from a PyTorch generator: backbone, pooling and expansion together, through optimum."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from optimum.exporters.onnx import export
from optimum.exporters.onnx.base import OnnxConfig
from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig
from torch import Tensor, nn

from atv_train.vector_sources import GeneratorModule

OPSET = 17


class _GeneratorOnnxConfig(OnnxConfig):  # type: ignore[misc]  # optimum is not typed
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator,)

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        axes = {0: "batch", 1: "sequence"}
        return {"input_ids": axes, "attention_mask": axes}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"task_vector": {0: "batch"}, "pooled": {0: "batch"}}


class _Exported(nn.Module):
    """The generator as optimum wants a model: with a config, and outputs by name."""

    def __init__(self, generator: GeneratorModule) -> None:
        super().__init__()
        self.generator = generator
        self.config = generator.backbone.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        pooled = self.generator.pooled(input_ids, attention_mask)
        return {"task_vector": self.generator.expand(pooled), "pooled": pooled}


def write_graph(generator: GeneratorModule, path: Path) -> None:
    """Export to `path`: input_ids, attention_mask int64 [batch, seq] -> task_vector float32 [batch, rows, n_embd], and
    pooled float32 [batch, d_s], the backbone's state that it is made from."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tracing cannot know, the verification that follows does
        model = _Exported(generator.eval())
        export(model, _GeneratorOnnxConfig(model.config), path, opset=OPSET)
