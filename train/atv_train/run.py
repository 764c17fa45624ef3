"""One training run from files to checkpoint: what `atv-local train` does, without the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from atv_local.files import check_replaceable
from atv_local.llama import Model
from atv_local.manifest import DataFile, GeneratorSpec, InjectionSpec, Provenance, Spec, TargetSpec
from atv_local.steering import Positions
from atv_local.vocabulary import Vocabulary
from atv_train import checkpoint
from atv_train.backbone import backbone_name, default_backbone, load_backbone
from atv_train.data import read_rows, sha256
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
        The metrics of the last epoch.

    Raises:
        AtvError: bad data, an unreadable model or backbone, an output that cannot be written.
    """
    torch.manual_seed(job.settings.seed)
    check_replaceable(output, marker=checkpoint.CONFIG)
    vocabulary = Vocabulary.from_gguf(job.model)
    examples = _examples(job.data, vocabulary, job.max_tokens)
    valid = _examples(job.valid, vocabulary, job.max_tokens) if job.valid else []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone, tokenizer = load_backbone(job.backbone or default_backbone())
    target = FrozenTarget(
        load_target(job.model, fast_dtype(device), device),
        job.positions,
        cache_bytes=psutil.virtual_memory().available // 2 if device.type == "cpu" else 8 << 30,
    )
    generator = Generator(backbone, target.n_rows, target.n_embd, job.pooling, job.scale).to(device)
    trainer = Trainer(generator, tokenizer, target, job.settings)
    history: list[dict[str, float]] = []
    for metrics in trainer.epochs(examples, valid, on_step, stopped):
        history.append(metrics)
        spec = _spec(job, vocabulary, target, metrics)
        checkpoint.save(output, spec, generator, tokenizer, history)
        on_epoch(metrics)
    return history[-1]


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    found = torch.cpu.get_capabilities()
    return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else torch.float32


def _examples(paths: Sequence[Path], vocabulary: Vocabulary, max_tokens: int) -> list[Example]:
    return encode(read_rows(paths), vocabulary, max_tokens)


def _spec(job: Job, vocabulary: Vocabulary, target: FrozenTarget, metrics: dict[str, float]) -> Spec:
    model = Model(job.model, vocab_only=True)
    return Spec(
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
            max_tokens=job.settings.max_query_tokens,
        ),
        injection=InjectionSpec(positions=job.positions, scale=job.scale),
        provenance=Provenance(
            data=[DataFile(name=path.name, rows=len(read_rows([path])), sha256=sha256(path)) for path in job.data],
            seed=job.settings.seed,
            epochs=metrics["epoch"],
            versions={name: version(name) for name in ("torch", "transformers", "llama_cpp_python")},
            metrics=metrics,
        ),
    )
