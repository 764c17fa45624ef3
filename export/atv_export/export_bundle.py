"""Exporting a checkpoint as a bundle, with the options of `atv-local export`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import InstanceOf

from atv_export.checkpoint_source import CheckpointSource, load_source
from atv_export.export_choices import Layer0Method, PaperPooling, Processor
from atv_export.export_options import check_paths, check_processor, check_test_queries, paper_options, parse_precisions
from atv_export.export_report import ExportReport
from atv_export.gate_of_graphs import gate_of_graphs
from atv_export.model_card import model_card
from atv_export.paper_checkpoint import fold_layer0
from atv_export.probe_queries import N_QUERIES, pooled_states, prompt_examples, run_queries, task_vectors
from atv_export.verify_graph import Probes
from atv_export.verify_logits import LogitsCheck, verify_logits
from atv_export.write_graphs import check_size, write_graphs
from atv_local.data import (
    Expected,
    FilePath,
    PathOrName,
    Switch,
    checked_arguments,
    read_unrelated_queries,
    reading,
    replacing_folder,
)
from atv_local.errors import UsageError
from atv_local.generator import GATE, MANIFEST, STATIC, TOKENIZER, Bundle, FileEntry, GateSpec, Manifest, Precision
from atv_local.names import resolve_model
from atv_local.target import TargetFile
from atv_local.vectors import PositionsName
from atv_train import TrainingResult
from atv_train.frozen_target import load_target, target_dtype
from atv_train.run_folder import read_part

_CARD = "README.md"
CPU = torch.device("cpu")


CheckpointOrResult = Annotated[
    FilePath | InstanceOf[TrainingResult], Expected("the path of a run or a .pt file, or what `train` returns")
]
Precisions = Annotated[
    str | Sequence[Precision], Expected("one or more of int8, fp16 and fp32, such as ['int8', 'fp32']")
]
Queries = Annotated[Sequence[str], Expected("a list of texts")]


@checked_arguments
def export(
    checkpoint: CheckpointOrResult,
    output: FilePath,
    *,
    precisions: Precisions = ("int8", "fp32"),
    processor: Processor = "any",
    card: FilePath | None = None,
    model: PathOrName | None = None,
    weights: PathOrName | None = None,
    through: Switch = True,
    queries: Queries = (),
    backbone: PathOrName | None = None,
    positions: PositionsName | None = None,
    pooling: PaperPooling | None = None,
    layer0: Layer0Method | None = None,
    overwrite: Switch = False,
) -> ExportReport:
    """Write the bundle of a checkpoint, verified against PyTorch. It is whole or absent.

    Args:
        checkpoint: the folder of a run, the result of `train`, or a .pt of the paper's authors.
        output: folder for the bundle.
        precisions: graphs to write, of int8, fp16 and fp32; also as one string, separated by commas.
        processor: what the int8 graph is quantised for.
        card: Markdown file for the bundle's README.md; by default it is generated.
        model: GGUF of the target, a path or a name. With it graphs are also verified in the target's logits.
        weights: for that, the target's unquantised weights, a folder or hub id; by default the GGUF, dequantised.
        through: whether to load the target for that; if not, the checkpoint is only compared with its metadata.
        queries: texts to verify with; by default the run's own inputs if its data is still there, else packaged ones.
        backbone: for a .pt file: folder or hub id of its tokenizer and config; by default gpt2.
        positions: for a .pt file: tokens that it was trained to steer; by default all.
        pooling: for a .pt file: how a query's states become one; by default the last.
        layer0: of a .pt: how to handle layer 0, which llama.cpp cannot steer; by default the most exact way.
        overwrite: replace an earlier bundle, on success only.

    Raises:
        NotFoundError: a checkpoint, model or backbone that does not exist.
        BundleError: the checkpoint is damaged, or a graph is further from PyTorch than its bound.
        UsageError: an option that is invalid or has no effect, or an output that cannot be written.
        ModelError: the target cannot be read, or the checkpoint was trained for another one.
    """
    source = checkpoint.folder if isinstance(checkpoint, TrainingResult) else Path(checkpoint)
    output = Path(output)
    graphs_to_write = parse_precisions(precisions)
    check_paths(source, output, overwrite=overwrite)
    check_processor(processor, graphs_to_write)
    check_test_queries(queries)
    if not through and model is None:
        raise UsageError("`through=False` has no effect without `model`; leave it out")
    if weights is not None and (model is None or not through):
        raise UsageError("`weights` has no effect unless `model` is compared; leave it out")
    name = None if backbone is None else str(backbone)
    weights_name = None if weights is None else str(weights)
    options = paper_options(source, backbone=name, positions=positions, pooling=pooling, layer0=layer0)
    card_text = _read_card(Path(card)) if card is not None else None
    target_file = TargetFile.open(resolve_model(model)) if model is not None else None
    loaded = load_source(source, target_file, options)
    check_size(loaded.generator, source)
    queries = queries or (run_queries(source) or read_unrelated_queries(None))[:N_QUERIES]
    spec, generator, tokenizer = loaded.spec, loaded.generator, loaded.tokenizer
    if target_file:
        target_file = replace(target_file, template_variables=spec.template_variables)
    examples = prompt_examples(target_file, queries) if target_file else []
    with replacing_folder(output, marker=MANIFEST, overwrite=overwrite) as folder:
        target = None
        if target_file and through:
            # in float32 if logits are to be compared with small differences
            dtype = torch.float32 if loaded.paper else target_dtype(CPU)
            target = load_target(target_file.path, dtype, CPU, weights_name)
        layer0_report = None
        if loaded.paper:
            pooled = pooled_states(generator, tokenizer, spec, [example.query for example in examples])
            layer0_report = fold_layer0(loaded.paper, target, examples, pooled, options.layer0)
        probes = Probes(generator, tokenizer, spec.generator.query_template, spec.generator.max_tokens, queries)
        graphs, float_matrices = write_graphs(folder, graphs_to_write, generator, probes, processor)
        _write_parts(folder, loaded, source)
        (folder / TOKENIZER).write_bytes(tokenizer.backend_tokenizer.to_str(pretty=True).encode())
        fidelity = {name: check.fidelity for name, check in graphs.items()}
        manifest = Manifest(**spec.model_dump(), files=_entries(folder), fidelity=fidelity)
        logits: dict[Precision, LogitsCheck] = {}
        unsealed = Bundle(folder, manifest=_json(manifest))  # it has no card yet
        manifest = manifest.model_copy(update={"gate": _gate(unsealed, loaded, queries)})
        if target_file and target is not None:
            expected = list(zip(examples, task_vectors(generator, tokenizer, spec, examples), strict=True))
            logits = verify_logits(unsealed, target, target_file.path, expected, weights_name)
        card_text = card_text or model_card(output.name, manifest, graphs, logits, layer0_report)
        (folder / _CARD).write_text(card_text, encoding="utf-8")
        manifest = manifest.model_copy(update={"files": _entries(folder)})
        (folder / MANIFEST).write_bytes(_json(manifest))
    return ExportReport(manifest, graphs, logits, float_matrices, layer0_report)


def _write_parts(folder: Path, loaded: CheckpointSource, source: Path) -> None:
    """What a bundle has beside its graphs: the static vector and the prototypes of the gate."""
    for name, present in ((STATIC, loaded.spec.static), (GATE, loaded.spec.gate is not None)):
        if present:
            (folder / name).write_bytes(read_part(source, name))


def _gate(bundle: Bundle, source: CheckpointSource, queries: Sequence[str]) -> GateSpec | None:
    if source.spec.gate is None:
        return None
    states = pooled_states(source.generator, source.tokenizer, source.spec, queries)
    return gate_of_graphs(bundle, queries, states.numpy())


def _read_card(path: Path) -> str:
    with reading(path, UsageError):
        return path.read_text(encoding="utf-8")


def _json(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=2).encode() + b"\n"


def _entries(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file in it."""
    return {path.relative_to(folder).as_posix(): _entry(path) for path in sorted(folder.rglob("*.*"))}


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(size=path.stat().st_size, sha256=digest)
