"""The models of a run: the backbone that reads queries, and the target that is steered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from atv_train.frozen_target import FrozenTarget, load_target, target_dtype
from atv_train.hub_models import default_backbone
from atv_train.job import TrainingJob
from atv_train.start import Start
from atv_train.vector_sources import AdaptiveVectors, GeneratorModule, load_backbone, query_limit


@dataclass(frozen=True)
class LoadedModels:
    """Both models; `max_query` is the number of query tokens that the backbone reads, `generator` what is trained
    already."""

    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_query: int
    target: PreTrainedModel
    generator: GeneratorModule | None = None


def load_models(job: TrainingJob, device: torch.device, start: Start | None = None) -> LoadedModels:
    """Load both with their weights.

    Args:
        start: whose generator is used in place of a backbone of its own.

    Raises:
        ModelError, BundleError: one that cannot be loaded.
    """
    generator = None
    if start is None:
        backbone, tokenizer = load_backbone(job.backbone or default_backbone())
    else:
        generator, tokenizer = start.load(job.backbone)
        backbone = generator.backbone
    target = load_target(job.model, target_dtype(device, job.dtype), device, job.weights)
    return LoadedModels(backbone, tokenizer, query_limit(backbone, job.max_query_tokens), target, generator)


def new_generator(job: TrainingJob, models: LoadedModels, target: FrozenTarget) -> AdaptiveVectors:
    """The generator that the job trains, at its start, on the target's device."""
    shape = target.n_rows, target.n_embd
    generator = models.generator or GeneratorModule(
        models.backbone, *shape, job.pooling, job.scale, job.rank, job.layers, target.n_vectors
    )
    source = AdaptiveVectors(generator, models.tokenizer, models.max_query, job.tuning)
    return source.to(target.device)
