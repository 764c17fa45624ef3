"""The description of a checkpoint, which export writes into the bundle's manifest."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from pydantic import ValidationError

from atv_local.data import RowFile
from atv_local.errors import UsageError, first_problem
from atv_local.generator import FORMAT_VERSION, DataFile, GeneratorSpec, InjectionSpec, Provenance, Spec
from atv_local.vectors import Steering, TargetSpec
from atv_train.job import TrainingJob
from atv_train.training_choices import EpochMeasure
from atv_train.vector_sources import QUERY_TEMPLATE, backbone_name, default_backbone


def checkpoint_spec(
    job: TrainingJob,
    target: TargetSpec,
    data: Sequence[RowFile],
    max_query: int,
    seed: int,
    measure: EpochMeasure | None = None,
) -> Spec:
    """The spec of a run's checkpoint, without metrics.

    Raises:
        UsageError: something that a manifest cannot hold, such as layers the target does not have.
    """
    Steering(layers=job.layers).range(target.n_layer - 1)  # raises if the target lacks a layer
    try:
        return Spec(
            format_version=2 if job.prompt_vector else FORMAT_VERSION,
            target=target,
            generator=GeneratorSpec(
                backbone=backbone_name(job.backbone or default_backbone()),
                pooling=job.pooling,
                rank=job.rank,
                query_template=QUERY_TEMPLATE,
                max_tokens=max_query,
            ),
            injection=InjectionSpec(
                positions=job.positions, layers=job.layers, scale=job.scale, prompt_vector=job.prompt_vector
            ),
            provenance=Provenance(
                data=[DataFile(name=file.name, rows=len(file.rows), sha256=file.sha256) for file in data],
                seed=seed,
                measure=measure,
                versions={name: version(name) for name in ("torch", "transformers", "llama_cpp_python")},
            ),
        )
    except ValidationError as error:
        raise UsageError(f"this run cannot be described in a manifest: {first_problem(error)}") from error
