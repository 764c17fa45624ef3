"""Not a test: one batch's gradient, from however many processes `accelerate launch` starts. Used by test_training_loop.

python tests/train/gradient_of_a_batch.py MODEL BACKBONE OUTPUT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from atv_local import Positions
from atv_train.examples import Example
from atv_train.frozen_target.frozen_target import FrozenTarget
from atv_train.frozen_target.weights import load_target
from atv_train.trainer import Trainer
from atv_train.trainer.training_settings import TrainingSettings
from atv_train.training_run import end_processes
from atv_train.vector_sources.backbone import load_backbone
from atv_train.vector_sources.generator_module import GeneratorModule
from atv_train.vector_sources.sources import AdaptiveVectors


def main() -> Accelerator:
    """Rows of different lengths, so that a mean of the processes' means would be wrong; an odd number of them."""
    model, backbone, output = map(Path, sys.argv[1:])
    target = FrozenTarget(load_target(model, torch.float32, torch.device("cpu")), Positions.DECODE)
    torch.manual_seed(0)
    reader, tokenizer = load_backbone(str(backbone))
    generator = GeneratorModule(reader, target.n_rows, target.n_embd)
    for parameter in generator.expansion.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    rows = [Example(n, "word " * (n + 1), "t", tuple(range(60, 64 + n)), tuple(range(70, 72 + n))) for n in range(7)]
    unrelated = [Example(n, "other", "g", tuple(range(80, 90)), tuple(range(71, 73 + n))) for n in range(8)]
    batch_size = 64 // int(os.environ.get("WORLD_SIZE", "1"))
    settings = TrainingSettings(batch_size=batch_size, harmless=0.5, strength_range=(0.5, 2.0))
    trainer = Trainer(
        AdaptiveVectors(generator, tokenizer, 64), target, settings, unrelated, accelerator=Accelerator(cpu=True)
    )
    assert trainer.accelerator.num_processes == int(os.environ.get("WORLD_SIZE", "1"))
    loss, terms = trainer.losses(rows, 3)
    trainer.accelerator.backward(loss + terms)
    found = {name: p.grad.contiguous() for name, p in generator.named_parameters() if p.grad is not None}
    if trainer.accelerator.is_main_process:
        save_file(found, output)
    trainer.accelerator.wait_for_everyone()
    return trainer.accelerator


if __name__ == "__main__":
    end_processes(main())
