"""A bundle with other defaults, in a folder of its own or in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atv_eval.gate_refit import GateRefit
from atv_local.data import replacing, replacing_folder
from atv_local.generator import MANIFEST, OUTSIDE_STEERED, VALID_RECALL, Bundle
from atv_local.vectors import Steering


def write_calibrated(
    bundle: Bundle,
    steering: Steering | None,
    output: Path,
    *,
    gate: GateRefit | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle with this strength and these layers as its defaults, and the thresholds of this gate.

    In place only the manifest is replaced. It keeps all else, also what this version does not know.

    Raises:
        UsageError: `output` cannot be written, or is a folder of something else.
        BundleError: the bundle is damaged.
    """
    manifest = json.loads(bundle.manifest_bytes)
    if steering is not None:
        layers = None if steering.layers == bundle.trained_layers else steering.layers
        manifest["calibration"] = {"strength": steering.strength, "layers": layers}
    if gate is not None:
        _set_thresholds(manifest, gate)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    if output.is_dir() and output.samefile(bundle.path):
        with replacing(output / MANIFEST) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        with replacing_folder(output, marker=MANIFEST, overwrite=overwrite) as folder:
            for name in bundle.manifest.files:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(bundle.read(name))
            (folder / MANIFEST).write_text(text, encoding="utf-8")
    return Bundle(output)


def _set_thresholds(manifest: dict[str, Any], gate: GateRefit) -> None:
    for task, moved in zip(manifest["gate"]["tasks"], gate.spec.tasks, strict=True):
        task["threshold"] = moved.threshold
    metrics = manifest.setdefault("provenance", {}).setdefault("metrics", {})
    metrics[VALID_RECALL] = gate.rows.after / gate.rows.n
    metrics[OUTSIDE_STEERED] = gate.outside.after / gate.outside.n
