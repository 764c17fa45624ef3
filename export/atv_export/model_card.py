"""The model card of a bundle that was given none: what the manifest knows, for people."""

from __future__ import annotations

from collections.abc import Mapping

from atv_export.layer0 import Layer0
from atv_export.verify_graph import GraphCheck
from atv_export.verify_logits import Logits
from atv_local.generator import Precision, Spec


def write(
    name: str,
    spec: Spec,
    checked: Mapping[Precision, GraphCheck],
    logits: Mapping[Precision, Logits] | None,
    layer0: Layer0 | None,
) -> str:
    """Markdown: what it is for, made of and trained on, and how exact its graphs are."""
    target, generator = spec.target, spec.generator
    lines = [
        f"# {name}",
        "",
        "A task-vector generator for atv-local: it reads a query and writes one vector for each of the "
        f"{target.n_layer - 1} steerable layers of **{target.name}** ({target.architecture}, width {target.n_embd}"
        + (f", {target.licence}" if target.licence else "")
        + f"). Backbone {generator.backbone}, pooling {generator.pooling}, positions {spec.injection.positions}.",
    ]
    if spec.provenance.data:
        lines += ["", "## Trained on", ""]
        lines += [f"- `{file.name}`: {file.rows} rows" for file in spec.provenance.data]
    if metrics := spec.provenance.metrics:
        lines += ["", "## Measured on validation rows", ""]
        lines += [f"- {key}: {value:.4g}" for key, value in metrics.items()]
    lines += [
        "",
        "## Graphs",
        "",
        "| graph | smallest cosine of a layer | largest error of a vector |",
        "|---|---:|---:|",
    ]
    for precision, found in checked.items():
        lines.append(f"| {precision} | {found.fidelity.cosine:.5f} | {found.fidelity.error:.2g} |")
    for precision, through in (logits or {}).items():
        lines += [
            "",
            f"Through llama.cpp with the {precision} graph, KL from PyTorch's next token {through.divergence:.3g} nats "
            f"({through.base_divergence:.3g} without steering), the same token for {through.agreement:.0%} of "
            f"{through.prompts} prompts.",
        ]
    if layer0:
        lines += ["", "## Layer 0", "", describe(layer0)]
    return "\n".join([*lines, ""])


def describe(layer0: Layer0) -> str:
    """What became of layer 0, in a sentence or two."""
    said = (
        f"The checkpoint has a vector for layer 0, which llama.cpp cannot steer: {layer0.share:.1%} of the vectors' "
        "squared norm."
    )
    remedies = {
        "drop": "It is left out.",
        "add": "It is added to the vector of layer 1.",
        "carry": "Carried through block 1 by its mean derivative, it is added to the vector of layer 1.",
    }
    if not layer0.divergence:
        return f"{said} {remedies[layer0.remedy]} The effect on logits was not measured."
    measured = ", ".join(f"{name} {value:.3g}" for name, value in layer0.divergence.items())
    return f"{said} {remedies[layer0.remedy]} KL from the logits with all layers, in nats: {measured}."
