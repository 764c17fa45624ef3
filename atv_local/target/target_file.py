"""Metadata of a target's GGUF: shape, vocabulary, chat template. Loads no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from atv_local.errors import ModelError, first_problem
from atv_local.target.model import Model
from atv_local.target.prompt import PromptFormat
from atv_local.target.vocabulary import Vocabulary
from atv_local.vectors import TargetSpec


@dataclass(frozen=True)
class TargetFile:
    """What a command needs to know about a target without running it. Open it once and pass it on.

    `model` has the metadata and the vocabulary, no weights. `template_variables` are values for variables of the chat
    template.
    """

    model: Model
    vocabulary: Vocabulary
    spec: TargetSpec
    template_variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> TargetFile:
        """Read the GGUF at `path`.

        Raises:
            ModelError: not a loadable GGUF, or one that cannot be steered.
        """
        model = Model(path, vocab_only=True)
        vocabulary = Vocabulary(model)
        return cls(model, vocabulary, target_spec(model, vocabulary))

    @property
    def path(self) -> Path:
        """The GGUF."""
        return self.model.path

    @cached_property
    def prompts(self) -> PromptFormat:
        """The target's chat template.

        Raises:
            ModelError: the template cannot be used.
        """
        return PromptFormat(self.vocabulary).with_variables(self.template_variables)


def target_spec(model: Model, vocabulary: Vocabulary) -> TargetSpec:
    """What a bundle for this model must agree with.

    Raises:
        ModelError: one with fewer than two layers, or sizes beyond any model's.
    """
    try:
        return TargetSpec(
            architecture=model.architecture,
            n_layer=model.n_layer,
            n_embd=model.n_embd,
            vocabulary_sha256=vocabulary.sha256,
            name=_name(model),
            licence=model.meta("general.license"),
        )
    except ValidationError as error:
        raise ModelError(f"{model.path} cannot be steered: {first_problem(error)}") from error


def _name(model: Model) -> str:
    """The file's name; for a file named by its hash, as in Ollama's folder, the name in its metadata."""
    return model.path.stem if model.path.suffix else model.meta("general.name") or model.path.stem
