"""The description of a generator: its target, its shape, how it was trained. Checkpoints and bundles have it.

Every field is bounded, so a hostile manifest cannot make a reader allocate without limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from atv_local.data import MAX_INSTRUCTION_CHARS, MAX_LABEL_CHARS, MAX_LABELS, TemplateVariables, with_choices
from atv_local.generator.pooling import Pooling
from atv_local.generator.providers import Precision
from atv_local.text import shorten
from atv_local.vectors import MAX_STRENGTH, BoundedText, Positions, Sha256, Steering, TargetSpec

FORMAT_VERSION: Literal[1] = 1
"""What bundles are written as, unless they have what only later versions have."""
GATED_VERSION: Literal[3] = 3
"""What bundles with a gate are written as."""
TOLD_VERSION: Literal[4] = 4
"""What bundles with instructions or a static vector are written as."""
FormatVersion = Literal[1, 2, 3, 4]
"""The versions that are read. Version 2 has prompt vectors and template variables, version 3 also a gate, version 4
instructions of tasks and static vectors."""

MAX_METRICS = 1000


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class GeneratorSpec(_Section):
    """The small model: `query_template` has `{query}` where the user's words go; longer inputs are cut at the end.

    `rank` is the width of the expansion's bottleneck, if it has one.
    """

    backbone: BoundedText
    pooling: Pooling
    rank: int | None = Field(default=None, ge=1, le=1 << 20)
    query_template: BoundedText = Field(default="{query}", pattern=r"\{query\}")
    max_tokens: int = Field(ge=2, le=1 << 20)


class InjectionSpec(_Section):
    """How the vectors were injected in training; the defaults at run time. `scale` is part of the graph already.

    With `prompt_vector` the graph gives two vectors for a query, the second for the prompt's tokens before the last.
    """

    positions: Positions
    layers: tuple[int, int] | None = None
    scale: float = 1.0
    prompt_vector: bool = False

    @property
    def n_vectors(self) -> int:
        """Vectors that the graph gives for a query."""
        return 2 if self.prompt_vector else 1


class Calibration(_Section):
    """Defaults at run time that `atv-local calibrate` found to be better than those of training."""

    strength: float = Field(gt=0, le=MAX_STRENGTH)
    layers: tuple[int, int] | None = None


class DataFile(_Section):
    """One file of training rows."""

    name: BoundedText
    rows: int = Field(ge=0)
    sha256: Sha256


MAX_TASKS = 1000
"""As many as files of training rows."""


class TaskSpec(_Section):
    """One task that the generator was trained on; a task whose outputs are `labels` lists them all, sorted.

    `instruction` is what generator and target read before a query, and after it `choices`, the answers that all its
    rows allow; see `data.tell` and `data.with_choices`.
    """

    name: BoundedText
    kind: Literal["labels", "text"]
    instruction: str | None = Field(default=None, min_length=1, max_length=MAX_INSTRUCTION_CHARS)
    choices: list[Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARS)]] = Field(
        default=[], max_length=MAX_LABELS
    )
    labels: list[Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARS)]] = Field(
        default=[], max_length=MAX_LABELS
    )

    def told(self, choices: Sequence[str] = ()) -> str | None:
        """What is read before a query, with these choices or those of the task; None without an instruction."""
        return with_choices(self.instruction, choices or self.choices) if self.instruction else None


class GateTask(_Section):
    """One task of a gate: how many of its rows are prototypes, and from their similarity to a query, a cosine, to the
    score: sigmoid((similarity - threshold) / scale). At 0.5, the threshold, a query is just similar enough.
    """

    name: BoundedText
    prototypes: int = Field(ge=1, le=1 << 20)
    threshold: float = Field(allow_inf_nan=False)
    scale: float = Field(gt=0, allow_inf_nan=False)


class GateSpec(_Section):
    """Which queries belong to the tasks, by the nearest of the prototypes in gate.f16: those of each task in turn, then
    those of `outside` queries that belong to none.
    """

    tasks: list[GateTask] = Field(min_length=1, max_length=MAX_TASKS)
    outside: int = Field(default=0, ge=0, le=1 << 20)

    @property
    def n_prototypes(self) -> int:
        """All of them."""
        return sum(task.prototypes for task in self.tasks) + self.outside

    @model_validator(mode="after")
    def _names_differ(self) -> GateSpec:
        name, count = Counter(task.name for task in self.tasks).most_common(1)[0]
        if count > 1:
            raise ValueError(f"the gate has {count} tasks named {shorten(name)!r}")
        return self


class Provenance(_Section):
    """Where the weights come from. `measure` names the metric by which their epoch was the best."""

    data: list[DataFile] = Field(default=[], max_length=MAX_TASKS)
    seed: int = 0
    epochs: float = 0
    versions: dict[BoundedText, BoundedText] = Field(default={}, max_length=100)
    metrics: dict[BoundedText, float] = Field(default={}, max_length=MAX_METRICS)
    measure: Literal["valid_accuracy", "valid_loss", "valid_unseen_loss"] | None = None


class Spec(_Section):
    """All of it, as in a checkpoint's config.json."""

    format_version: FormatVersion
    target: TargetSpec
    generator: GeneratorSpec
    injection: InjectionSpec
    provenance: Provenance = Provenance()
    tasks: list[TaskSpec] = Field(default=[], max_length=MAX_TASKS)
    """None in a checkpoint or bundle that was made before tasks were listed."""
    template_variables: TemplateVariables = {}
    """What training set in the chat template; the defaults at run time."""
    static: bool = False
    """Whether there is a static vector, for tasks that the generator is told of and was not trained on."""
    gate: GateSpec | None = None
    """Whether a query belongs to the tasks; None steers every query."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all tasks, each once, in the order of the tasks."""
        return tuple(dict.fromkeys(label for task in self.tasks for label in task.labels))

    @property
    def instructions(self) -> dict[str, str]:
        """What is read before the queries of the tasks that have an instruction."""
        return {task.name: said for task in self.tasks if (said := task.told())}

    @property
    def only_task(self) -> TaskSpec | None:
        """The task of a bundle with one, if it has an instruction; nobody needs to name it."""
        return self.tasks[0] if len(self.tasks) == 1 and self.tasks[0].instruction else None

    @model_validator(mode="after")
    def _layers_exist(self) -> Spec:
        first, last = self.injection.layers or (1, 1)
        if not 1 <= first <= last < self.target.n_layer:
            raise ValueError(f"layers {first}-{last} are not within 1-{self.target.n_layer - 1}")
        return self

    @model_validator(mode="after")
    def _prompt_vector_fits(self) -> Spec:
        if self.injection.prompt_vector and (self.format_version < 2 or not self.injection.positions.prefix):
            raise ValueError("a prompt vector needs format_version 2 and positions 'all'")
        return self

    @model_validator(mode="after")
    def _version_has_variables(self) -> Spec:
        if self.template_variables and self.format_version < 2:
            raise ValueError("template_variables need format_version 2")
        return self

    @model_validator(mode="after")
    def _gate_fits(self) -> Spec:
        if self.gate is not None and self.format_version < 3:
            raise ValueError("a gate needs format_version 3")
        return self

    @model_validator(mode="after")
    def _version_has_instructions(self) -> Spec:
        if (self.instructions or self.static) and self.format_version < TOLD_VERSION:
            raise ValueError(f"instructions and a static vector need format_version {TOLD_VERSION}")
        return self


class FileEntry(_Section):
    """Size in bytes and SHA-256 of one file of a bundle."""

    size: int = Field(ge=0, le=2 << 30)
    sha256: Sha256


class Fidelity(_Section):
    """How near a graph is to the generator in PyTorch, over the queries it was verified with.

    `error` is the largest |difference| of a query's vector, in parts of its norm or of the typical norm if that is
    larger; `cosine` the smallest of any layer, over vectors at least half as long as is typical. A generator that
    leaves queries outside its tasks alone gives them vectors near zero, whose direction means nothing.
    """

    queries: int = Field(ge=1)
    cosine: float
    error: float = Field(ge=0)


class Manifest(Spec):
    """As in a bundle's atv.json: the spec, every file beside it by POSIX path, and how exact its graphs are."""

    files: dict[BoundedText, FileEntry] = Field(max_length=100)
    fidelity: dict[Precision, Fidelity] = {}
    calibration: Calibration | None = None

    @property
    def steering(self) -> Steering:
        """How its vectors are applied by default: as trained, or as calibrated since."""
        found = self.calibration or Calibration(strength=1)
        return Steering(found.strength, found.layers or self.injection.layers, self.injection.positions)

    @model_validator(mode="after")
    def _calibrated_layers_exist(self) -> Manifest:
        first, last = (self.calibration and self.calibration.layers) or (1, 1)
        if not 1 <= first <= last < self.target.n_layer:
            raise ValueError(f"layers {first}-{last} are not within 1-{self.target.n_layer - 1}")
        return self
