"""One export from checkpoint to bundle: what `atv-local export` does, without the terminal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from atv_export import layer0, model_card, paper_checkpoint, verify_logits
from atv_export.graph import write_graph
from atv_export.probe_queries import N_QUERIES, examples_of, own_queries, pooled_states, task_vectors
from atv_export.quantize import KEPT, Processor, quantize_graph
from atv_export.verify_graph import GraphCheck, Probes, faults, require
from atv_local.answer import check_query
from atv_local.data import read_unrelated_queries, reading, replacing_folder
from atv_local.errors import BundleError, ModelError, UsageError
from atv_local.generator import GRAPHS, MANIFEST, TOKENIZER, FileEntry, Manifest, Precision, Spec
from atv_local.target import TargetFile
from atv_local.vectors import Positions
from atv_train import Example
from atv_train.frozen_target import load_target, target_dtype
from atv_train.run_folder import load_checkpoint
from atv_train.vector_sources import GeneratorModule, Pooling

_CARD = "README.md"
_MAX_QUERIES = 2000
_MAX_GRAPH = (2 << 30) - (16 << 20)  # protobuf's limit, less the nodes
CPU = torch.device("cpu")


@dataclass(frozen=True)
class PaperOptions:
    """What the authors' file does not say of itself. `layer0` is what becomes of it; None chooses the best measured."""

    backbone: str = "gpt2"
    positions: Positions = Positions.ALL
    pooling: Pooling = "last"
    layer0: layer0.Remedy | None = None


@dataclass
class ExportReport:
    """What was written and how it was verified."""

    manifest: Manifest
    checked: dict[Precision, GraphCheck] = field(default_factory=dict)
    kept: str | None = None
    """Which of the backbone's matrices the int8 graph computes in float."""
    logits: dict[Precision, verify_logits.Logits] | None = None
    layer0: layer0.Layer0 | None = None


def run(
    source: Path,
    output: Path,
    *,
    precisions: Sequence[Precision] = ("int8", "fp32"),
    processor: Processor = "any",
    model: Path | None = None,
    through_target: bool = True,
    from_authors: PaperOptions | None = None,
    queries: Sequence[str] = (),
    text: Path | None = None,
) -> ExportReport:
    """Write the bundle of a checkpoint, or nothing.

    Args:
        source: a run or checkpoint of `atv-local train`, or the paper authors' .pt.
        output: bundle folder; an earlier bundle there is replaced.
        precisions: graphs to write.
        processor: what the int8 graph is for.
        model: GGUF of the target. Needed for the authors' file; with it graphs are checked through to the logits.
        through_target: whether to load the target for that check.
        from_authors: for the authors' file alone.
        queries: real ones to verify with; by default rows of the run's own data where they still are, else the
            unrelated queries of the package.
        text: Markdown for the bundle's README.md; by default `card.write`.

    Raises:
        BundleError: the checkpoint is damaged, or a graph is further from PyTorch than its bound.
        UsageError: no graph is wanted, the model is missing, or the output cannot be written.
        ModelError: the target cannot be read.
    """
    wanted = [precision for precision in GRAPHS if precision in precisions]
    _check(source, output, wanted, queries)
    given = _read(text) if text else None
    target_file = TargetFile.open(model) if model else None
    theirs = _read_authors(source, target_file, from_authors or PaperOptions()) if source.is_file() else None
    spec, generator, tokenizer = (
        (theirs.spec, theirs.generator, theirs.tokenizer) if theirs else _read_ours(source, target_file, from_authors)
    )
    if (size := 4 * sum(parameter.numel() for parameter in generator.parameters())) > _MAX_GRAPH:
        raise BundleError(f"the generator of {source} has {size} bytes of weights; an ONNX graph holds {_MAX_GRAPH}")
    queries = queries or (own_queries(source) or read_unrelated_queries(None))[:N_QUERIES]
    examples = examples_of(target_file, queries) if target_file else []
    target: PreTrainedModel | None = None
    with replacing_folder(output, marker=MANIFEST) as temporary:
        if model and through_target:
            target = load_target(model, torch.float32 if theirs else target_dtype(CPU), CPU)
        lost = _mend(theirs, target, examples, from_authors) if theirs else None
        probes = Probes(generator, tokenizer, spec.generator.query_template, spec.generator.max_tokens, queries)
        report = ExportReport(Manifest(**spec.model_dump(), files={}), layer0=lost)
        _graphs(temporary, wanted, generator, probes, processor, report)
        tokenizer.backend_tokenizer.save(str(temporary / TOKENIZER))
        _seal(temporary, spec, report, given or model_card.write(output.name, spec, report.checked, None, lost))
        if model and target is not None:
            expected = list(zip(examples, task_vectors(generator, tokenizer, spec, examples), strict=True))
            report.logits = verify_logits.check(temporary, target, model, expected)
            if given is None:
                _seal(temporary, spec, report, model_card.write(output.name, spec, report.checked, report.logits, lost))
    return report


def _check(source: Path, output: Path, wanted: Sequence[Precision], queries: Sequence[str]) -> None:
    """Everything a user can get wrong that is cheap to see."""
    if not wanted:
        raise UsageError("nothing to export: name a precision")
    if not source.exists():
        raise BundleError(f"{source} is neither a checkpoint of `atv-local train` nor a file of the paper's authors")
    if output.suffix == ".zip":
        raise UsageError(f"{output} would be a folder; name one, and zip its content")
    if len(queries) > _MAX_QUERIES:
        raise UsageError(f"{len(queries)} queries are more than the {_MAX_QUERIES} that graphs are verified with")
    for query in queries:
        check_query(query)


def _read_authors(
    source: Path, target_file: TargetFile | None, options: PaperOptions
) -> paper_checkpoint.PaperCheckpoint:
    if target_file is None:
        raise UsageError(f"{source} is a file, as the paper authors' are; name the target's GGUF with -m")
    return paper_checkpoint.read(source, target_file, options.backbone, options.positions, options.pooling)


def _read_ours(
    source: Path, target_file: TargetFile | None, from_authors: PaperOptions | None
) -> tuple[Spec, GeneratorModule, PreTrainedTokenizerFast]:
    if from_authors is not None:
        raise UsageError(f"{source} is a checkpoint of ours, which says itself how it was trained")
    spec, generator, tokenizer = load_checkpoint(source)
    if target_file and (mismatch := spec.target.mismatch(target_file.spec)):
        raise ModelError(f"the checkpoint {source} was {mismatch}; name the model it was trained for")
    return spec, generator, tokenizer


def _graphs(
    folder: Path,
    wanted: Sequence[Precision],
    generator: GeneratorModule,
    probes: Probes,
    processor: Processor,
    report: ExportReport,
) -> None:
    """Write the graphs that are wanted, each verified."""
    (folder / "onnx").mkdir()
    full = folder / GRAPHS["fp32"]
    write_graph(generator, full)
    found = probes.check(full)
    require(found, "fp32")
    if "int8" in wanted:
        small = folder / GRAPHS["int8"]
        for kept in KEPT:  # the first that is exact enough is the fastest
            quantize_graph(full, small, generator.backbone.config, processor, kept)
            report.checked["int8"], report.kept = probes.check(small), kept
            if not faults(report.checked["int8"], "int8"):
                break
        require(report.checked["int8"], "int8")
    if "fp16" in wanted:
        half = convert_float_to_float16(onnx.load(full), keep_io_types=True)
        onnx.save(half, folder / GRAPHS["fp16"])
        report.checked["fp16"] = probes.check(folder / GRAPHS["fp16"])
        require(report.checked["fp16"], "fp16")
    if "fp32" in wanted:
        report.checked["fp32"] = found
    else:
        full.unlink()


def _seal(folder: Path, spec: Spec, report: ExportReport, text: str) -> None:
    """Write card and manifest, which lists every file."""
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / _CARD).write_text(text, encoding="utf-8")
    files = {path.relative_to(folder).as_posix(): _entry(path) for path in sorted(folder.rglob("*.*"))}
    fidelity = {name: found.fidelity for name, found in report.checked.items()}
    report.manifest = Manifest(**spec.model_dump(), files=files, fidelity=fidelity)
    (folder / MANIFEST).write_text(report.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _mend(
    theirs: paper_checkpoint.PaperCheckpoint,
    target: PreTrainedModel | None,
    examples: Sequence[Example],
    from_authors: PaperOptions | None,
) -> layer0.Layer0:
    """Fold layer 0 into layer 1 as far as it goes."""
    remedy = from_authors.layer0 if from_authors else None
    pooled = pooled_states(theirs.generator, theirs.tokenizer, theirs.spec, examples)
    if target is not None:
        return layer0.choose(theirs, target, examples, pooled, remedy)
    if remedy == "carry":
        raise UsageError("carrying layer 0 through block 1 needs the target; leave out --no-through")
    if remedy != "drop":
        layer0.fold(theirs, theirs.weight, theirs.bias)
    return layer0.Layer0(layer0.share(theirs, pooled), remedy or "add", {})


def _read(text: Path) -> str:
    with reading(f"the model card {text}", UsageError):
        return text.read_text(encoding="utf-8")


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(size=path.stat().st_size, sha256=digest)
