"""Loading a checkpoint, of `atv-local train` or of the paper's authors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from atv_export.paper_checkpoint import PaperCheckpoint, PaperOptions, read_paper_checkpoint
from atv_local.errors import ModelError, UsageError
from atv_local.generator import Spec
from atv_local.target import TargetFile
from atv_train.run_folder import load_checkpoint
from atv_train.vector_sources import GeneratorModule


@dataclass(frozen=True)
class CheckpointSource:
    """A generator with what a manifest says about it; `paper` is set for a checkpoint of the paper's authors."""

    spec: Spec
    generator: GeneratorModule
    tokenizer: PreTrainedTokenizerFast
    paper: PaperCheckpoint | None = None


def load_source(path: Path, target_file: TargetFile | None, options: PaperOptions) -> CheckpointSource:
    """The checkpoint at `path`: a folder of `atv-local train`, or the authors' file.

    Args:
        options: for the authors' file, which also needs the target.

    Raises:
        BundleError: it is damaged.
        ModelError: it was trained for another target.
        UsageError: the authors' file without a target.
    """
    if path.is_file():
        if target_file is None:
            raise UsageError(
                f"{path} is a file, as the paper's authors write; name the GGUF it was trained for with `model=...`"
            )
        paper = read_paper_checkpoint(path, target_file, options)
        return CheckpointSource(paper.spec, paper.generator, paper.tokenizer, paper)
    spec, generator, tokenizer = load_checkpoint(path)
    if target_file and (mismatch := spec.target.mismatch(target_file.spec)):
        raise ModelError(f"the checkpoint {path} was {mismatch}; name the model it was trained for")
    return CheckpointSource(spec, generator, tokenizer)
