"""`atv-local export`: checkpoint to bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that `atv-local train` wrote.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    int8: Annotated[bool, typer.Option("--int8/--no-int8", help="Write an 8-bit graph (smaller, faster).")] = True,
    fp32: Annotated[bool, typer.Option("--fp32/--no-fp32", help="Write the float32 graph.")] = True,
    card: Annotated[Path | None, typer.Option(help="Markdown file to use as the model card.")] = None,
) -> None:
    """Export a checkpoint to an ONNX bundle, verified against PyTorch before it is written."""
    from atv_cli.extras import need

    with need("export"):
        from atv_export.run import run
    run(checkpoint, bundle, int8=int8, fp32=fp32, card=card)
    print(bundle)
