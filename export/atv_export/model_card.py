"""The model card of a bundle: its manifest and how it was verified, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from atv_export.paper_checkpoint import Layer0Report
from atv_export.verify_graph import GraphCheck
from atv_export.verify_logits import LogitsCheck
from atv_local.generator import NEIGHBOURS, OUTSIDE_STEERED, VALID_RECALL, GateSpec, Precision, Spec
from atv_local.text import one_line

_BEST = {
    "valid_accuracy": "the highest accuracy on validation rows, and of several the smallest loss",
    "valid_loss": "the smallest loss per answer token on validation rows, the mean over tasks",
    "valid_unseen_loss": "the smallest loss per answer token on validation rows of tasks that were not trained on, the "
    "mean over tasks",
}

_GATE_METRICS = (VALID_RECALL, OUTSIDE_STEERED)


def model_card(
    name: str,
    spec: Spec,
    graphs: Mapping[Precision, GraphCheck],
    logits: Mapping[Precision, LogitsCheck],
    layer0: Layer0Report | None,
) -> str:
    """The model card: what the generator is for, what it was trained on, and how exact its graphs are."""
    target, generator = spec.target, spec.generator
    lines = [
        f"# {name}",
        "",
        "A task-vector generator for atv-local: it reads a query and writes one vector for each of the "
        f"{target.n_layer - 1} steerable layers of **{target.name}** ({target.architecture}, width {target.n_embd}"
        + (f", {target.licence}" if target.licence else "")
        + f"). Backbone {generator.backbone}, pooling {generator.pooling}, positions {spec.injection.positions}"
        + (", with a vector for the prompt." if spec.injection.prompt_vector else "."),
    ]
    if spec.provenance.data:
        lines += ["", "## Trained on", ""]
        lines += [f"- `{file.name}`: {file.rows} rows" for file in spec.provenance.data]
    if spec.instructions:
        lines += _told_lines(spec.instructions, alone=spec.only_task is not None)
    lines += (
        _gate_lines(spec.gate, spec.provenance.metrics) if spec.gate else ["", "It has no gate: it steers every query."]
    )
    if metrics := {name: value for name, value in spec.provenance.metrics.items() if name not in _GATE_METRICS}:
        lines += ["", "## Measured on validation rows", ""]
        lines += [f"- {key}: {value:.4g}" for key, value in metrics.items()]
    if measure := spec.provenance.measure:
        lines += ["", f"The checkpoint is the epoch with {_BEST[measure]}."]
    lines += [
        "",
        "## Graphs",
        "",
        "| graph | smallest cosine of a layer | largest error of a vector |",
        "|---|---:|---:|",
    ]
    for precision, graph in graphs.items():
        lines.append(f"| {precision} | {graph.fidelity.cosine:.5f} | {graph.fidelity.error:.2g} |")
    for precision, check in logits.items():
        lines += [
            "",
            f"Through llama.cpp with the {precision} graph, KL from PyTorch's next token {check.divergence:.3g} nats "
            f"({check.base_divergence:.3g} without steering), the same token for {check.agreement:.0%} of "
            f"{check.prompts} prompts.",
        ]
    if layer0:
        lines += ["", "## Layer 0", "", str(layer0)]
    return "\n".join([*lines, ""])


def _told_lines(instructions: Mapping[str, str], *, alone: bool) -> list[str]:
    """The words that the tasks are named by, and those that are read for them."""
    how = "it is read before every query of the task" if alone else "name one with `--task`"
    lines = ["", "## What its tasks ask", "", f"Queries are read after an instruction; {how}:", ""]
    return [*lines, *(f"- `{one_line(name)}`: {one_line(said)}" for name, said in instructions.items())]


def _gate_lines(gate: GateSpec, metrics: Mapping[str, float]) -> list[str]:
    """What the gate is, and what happens to the queries that it does not let through."""
    against = f"Similarity to {gate.outside} queries that belong to none counts against it. " if gate.outside else ""
    lines = [
        "",
        "## Which queries it steers",
        "",
        f"A query is steered if it is similar enough to training rows of a task: the mean cosine with the {NEIGHBOURS} "
        "nearest, between the states that vectors are made from, reaches the threshold of the task. "
        f"{against}Any other query gets the target's own answer, token for token. `--gate off` steers every query, "
        "and `atv-local calibrate` fits the thresholds to other rows.",
        "",
        "| task | rows to compare with | threshold, as trained |",
        "|---|---:|---:|",
        *(f"| {one_line(task.name)} | {task.prototypes} | {task.threshold:.3f} |" for task in gate.tasks),
    ]
    shares = [
        f"{metrics[name]:.1%} of the {queries}"
        for name, queries in zip(_GATE_METRICS, ("validation rows", "unrelated queries"), strict=True)
        if name in metrics
    ]
    return [*lines, "", f"Steered: {' and '.join(shares)}, measured in training."] if shares else lines
