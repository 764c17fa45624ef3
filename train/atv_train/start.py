"""What a run starts from: an earlier run or a bundle, whose generator it goes on with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atv_local.data import as_path
from atv_local.errors import MismatchError, UsageError
from atv_local.generator import STATIC, Bundle, Spec
from atv_local.vectors import TargetSpec
from atv_train.hub_models import HUB_DEFAULT
from atv_train.job import TrainingJob
from atv_train.replay import Replay, read_replay
from atv_train.run_folder import CHECKPOINT, RUN, WEIGHTS, load_checkpoint, read_part, read_run_record, read_spec
from atv_train.trainer import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from atv_train.vector_sources import GeneratorModule


@dataclass(frozen=True)
class Start:
    """A trained generator.

    Attributes:
        path: of the run or bundle.
        spec: what it is and was trained on.
        job: how a run was trained; None for a bundle.
        replay: the rows that a run kept.
    """

    path: Path
    spec: Spec
    job: TrainingJob | None
    replay: Replay

    @classmethod
    def open(cls, path: Path) -> Start:
        """Read all but the weights.

        Raises:
            NotFoundError: nothing there.
            BundleError: neither a run nor a bundle, or a damaged one.
        """
        path = as_path("start", path, exists=True)
        if (path / RUN).exists():
            record = read_run_record(path)
            return cls(path, read_spec(path), record.job, read_replay(path))
        return cls(path, Bundle(path).manifest, None, Replay())

    def continued(self, job: TrainingJob) -> TrainingJob:
        """The job with what the generator is made of, and what it was trained with where the job does not say.

        Raises:
            UsageError: the job asks for another generator.
        """
        spec, earlier = self.spec, self.job
        own: dict[str, Any] = {
            "positions": spec.injection.positions,
            "prompt_vector": spec.injection.prompt_vector,
            "layers": spec.injection.layers,
            "scale": spec.injection.scale,
            "pooling": spec.generator.pooling,
            "rank": spec.generator.rank,
            "static_vector": spec.static or job.static_vector,
            "max_query_tokens": spec.generator.max_tokens,
        }
        defaults = {field.name: field.default for field in fields(TrainingJob)}
        for name, value in own.items():
            if getattr(job, name) not in (defaults[name], value):
                raise UsageError(f"`{name}` is {value} in {self.path}, which training goes on from; leave it out")
        if earlier is None:
            hub = None if spec.generator.backbone == HUB_DEFAULT else spec.generator.backbone
            own["backbone"] = job.backbone or hub
            own["template_variables"] = job.template_variables or spec.template_variables
        else:
            if job.backbone not in (None, earlier.backbone):
                raise UsageError(f"`backbone` is that of {self.path}, which training goes on from; leave it out")
            own["backbone"], own["weights"] = earlier.backbone, job.weights or earlier.weights
            own["template_variables"] = job.template_variables or earlier.template_variables
            own["templates"] = {**(earlier.templates or {}), **(job.templates or {})} or None
            if job.settings.strength_range == TrainingSettings().strength_range:
                own["settings"] = replace(job.settings, strength_range=earlier.settings.strength_range)
            own["instructions"] = {**(earlier.instructions or {}), **(job.instructions or {})} or None
        return replace(job, start=self.path, earlier={task.name: task for task in spec.tasks}, **own)

    def check_target(self, target: TargetSpec) -> None:
        """Raise MismatchError for another target than that of the generator."""
        if problem := self.spec.target.mismatch(target):
            raise MismatchError(f"{self.path} cannot be trained on for this target: it was {problem}")

    @property
    def sha256(self) -> str:
        """Of the weights, so that a run is resumed from the same."""
        if self.job is None:
            return hashlib.sha256(Bundle(self.path).manifest_bytes).hexdigest()
        with (self.path / CHECKPOINT / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def warnings(self) -> list[str]:
        """Sentences on what training may lose."""
        if self.replay.train or not self.spec.tasks:
            return []
        kind = "this run kept no rows" if self.job else "a bundle has no rows"
        return [
            f"{kind} to go on with, so its tasks may be forgotten: name their rows beside the new ones, or start from "
            "the run"
        ]

    def static_values(self) -> bytes:
        """Of its static vector, as `save_static` takes them.

        Raises:
            BundleError: it cannot be read, or is not of this generator.
        """
        if self.job is not None:
            return read_part(self.path, STATIC)
        return Bundle(self.path).read(STATIC)

    def load(self, backbone: str | None = None) -> tuple[GeneratorModule, PreTrainedTokenizerFast]:
        """The generator and its tokenizer.

        Args:
            backbone: of a bundle, where its manifest does not say where to find it.

        Raises:
            BundleError: damaged.
            ModelError: a bundle whose backbone cannot be loaded.
        """
        if self.job is not None:
            _, generator, tokenizer = load_checkpoint(self.path)
            return generator, tokenizer
        from atv_train.bundle_weights import load_bundle

        return load_bundle(Bundle(self.path), backbone)
