"""The result of an export."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from atv_export.paper_checkpoint import Layer0Report
from atv_export.quantize import FloatMatrices
from atv_export.verify_graph import GraphCheck
from atv_export.verify_logits import LogitsCheck
from atv_local.generator import Manifest, Precision


@dataclass(frozen=True)
class ExportReport:
    """The bundle's manifest, and how its graphs were verified.

    Args:
        graphs: each graph against PyTorch.
        logits: each graph in the target's logits, if there was a target.
        float_matrices: which of the backbone's matrices the int8 graph computes in float, if there is one.
        layer0: how layer 0 of a checkpoint of the paper's authors was handled.
    """

    manifest: Manifest
    graphs: dict[Precision, GraphCheck]
    logits: dict[Precision, LogitsCheck]
    float_matrices: FloatMatrices | None = None
    layer0: Layer0Report | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; a layer that is never steered has no cosine."""
        graphs = {}
        for precision, check in self.graphs.items():
            graphs[precision] = {
                "queries": check.fidelity.queries,
                "lengths": list(check.lengths),
                "cosine": check.fidelity.cosine,
                "cosine_by_layer": [None if math.isnan(value) else value for value in check.layers],
                "largest_error": check.fidelity.error,
                "largest_error_in_a_batch": check.batch,
                "largest_difference": check.largest_difference,
            }
        return {
            "target": self.manifest.target.model_dump(),
            "files": {name: entry.model_dump() for name, entry in self.manifest.files.items()},
            "graphs": graphs,
            "int8_float_matrices": self.float_matrices,
            "logits": {precision: asdict(check) for precision, check in self.logits.items()} or None,
            "layer0": asdict(self.layer0) if self.layer0 else None,
        }
