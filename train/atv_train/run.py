"""One training run from files to checkpoint: what `atv-local train` does, without the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import psutil
import torch
from pydantic import ValidationError

from atv_local.errors import UsageError
from atv_local.files import check_replaceable
from atv_local.llama import Model
from atv_local.manifest import (
    FORMAT_VERSION,
    MAX_METRICS,
    DataFile,
    GeneratorSpec,
    InjectionSpec,
    Provenance,
    Spec,
    TargetSpec,
)
from atv_local.steering import Positions
from atv_local.vocabulary import Vocabulary
from atv_train import checkpoint
from atv_train.backbone import backbone_name, default_backbone, load_backbone, query_limit
from atv_train.data import RowFile, read_rows
from atv_train.examples import Example, encode
from atv_train.generator import Generator, Pooling
from atv_train.target import FrozenTarget, load_target
from atv_train.trainer import QUERY_TEMPLATE, Progress, Settings, Trainer


@dataclass(frozen=True)
class Job:
    """What to train on what. `valid` rows are measured after every epoch and never trained on.

    `backbone` is a model folder or hub id, by default all-MiniLM-L6-v2.
    """

    model: Path
    data: Sequence[Path]
    valid: Sequence[Path] = ()
    positions: Positions = Positions.DECODE
    backbone: str | None = None
    pooling: Pooling = "mean"
    scale: float = 1.0
    max_tokens: int = 1024
    settings: Settings = field(default_factory=Settings)


def run(
    job: Job,
    output: Path,
    *,
    on_step: Callable[[Progress], None] = lambda _: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Train and write the checkpoint after every epoch, and once more when `stopped` turns true.

    Returns:
        The metrics of the last epoch, empty if stopped before the first step.

    Raises:
        AtvError: bad data, an unreadable model or backbone, an output that cannot be written.
    """
    torch.manual_seed(job.settings.seed)
    check_replaceable(output, marker=checkpoint.CONFIG)
    vocabulary = Vocabulary.from_gguf(job.model)
    data = [read_rows(path) for path in job.data]
    examples = _examples(data, vocabulary, job.max_tokens)
    valid = _examples([read_rows(path) for path in job.valid], vocabulary, job.max_tokens)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone, tokenizer = load_backbone(job.backbone or default_backbone())
    settings = replace(job.settings, max_query_tokens=query_limit(backbone, job.settings.max_query_tokens))
    model = load_target(job.model, fast_dtype(device), device)
    target = FrozenTarget(model, job.positions, cache_bytes=_free_memory(device) // 2)
    target.check([*examples, *valid])
    spec = _spec(job, vocabulary, target, data, settings)
    generator = Generator(backbone, target.n_rows, target.n_embd, job.pooling, job.scale).to(device)
    trainer = Trainer(generator, tokenizer, target, settings)
    history: list[dict[str, float]] = []
    for metrics in trainer.epochs(examples, valid, on_step, stopped):
        history.append(metrics)
        measured = {"epochs": metrics["epoch"], "metrics": dict(islice(metrics.items(), MAX_METRICS))}
        now = spec.model_copy(update={"provenance": spec.provenance.model_copy(update=measured)})
        checkpoint.save(output, now, generator, tokenizer, history)
        on_epoch(metrics)
    return history[-1] if history else {}


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    found = torch.cpu.get_capabilities()
    return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else torch.float32


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _examples(files: Sequence[RowFile], vocabulary: Vocabulary, max_tokens: int) -> list[Example]:
    return encode([row for file in files for row in file.rows], vocabulary, max_tokens)


def _spec(job: Job, vocabulary: Vocabulary, target: FrozenTarget, data: Sequence[RowFile], settings: Settings) -> Spec:
    model = Model(job.model, vocab_only=True)
    try:
        return Spec(
            format_version=FORMAT_VERSION,
            target=TargetSpec(
                architecture=model.architecture,
                n_layer=target.n_rows + 1,
                n_embd=target.n_embd,
                vocabulary_sha256=vocabulary.sha256,
                name=job.model.stem,
                licence=model.meta("general.license"),
            ),
            generator=GeneratorSpec(
                backbone=backbone_name(job.backbone or default_backbone()),
                pooling=job.pooling,
                query_template=QUERY_TEMPLATE,
                max_tokens=settings.max_query_tokens,
            ),
            injection=InjectionSpec(positions=job.positions, scale=job.scale),
            provenance=Provenance(
                data=[DataFile(name=file.name, rows=len(file.rows), sha256=file.sha256) for file in data],
                seed=settings.seed,
                versions={name: version(name) for name in ("torch", "transformers", "llama_cpp_python")},
            ),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"this run cannot be described in a manifest: {first['loc'][-1]}: {first['msg']}") from error
