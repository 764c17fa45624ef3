"""`atv-local bench`: what steering costs on this machine, with any GGUF."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from atv_cli import options
from atv_local.errors import UsageError

_OURS = (b"# Cost of steering\n", b'{"benchmark": "atv-local bench"')


def bench(
    model: options.Model = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            "-g", "--bundle", help="Bundle [default: the demo's if it fits, else a random vector].", **options.NAME
        ),
    ] = None,
    threads: options.Threads = None,
    ctx_size: options.CtxSize = None,
    gpu_layers: options.GpuLayers = -1,
    provider: options.Provider = None,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Rounds of each part [default: 7].")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="3 rounds, and short ones.")] = False,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="PARTS", help="Some of memory,generator,vector,first-token,decode,batch."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON record instead of Markdown tables.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write it here, not on stdout.")] = None,
) -> None:
    """Measure what steering costs: ratios of times taken in turn, then medians."""
    from atv_eval.bench import BenchOptions, parse_parts, run, tables
    from atv_local.data import replacing
    from atv_local.names import resolve_bundle, resolve_model

    if output is not None:
        _check_replaceable(output)
    chosen = BenchOptions(
        resolve_model(model),
        resolve_bundle(bundle) if bundle else None,
        n_ctx=ctx_size,
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        provider=provider,
        rounds=rounds,
        quick=quick,
        parts=parse_parts(only) if only is not None else (),
    )

    def measured() -> str:
        record = run(chosen, lambda line: print(line, file=sys.stderr))
        return json.dumps(record) + "\n" if as_json else tables.bench(record)

    if output is None:
        print(measured(), end="")
    else:
        with replacing(output) as temporary:  # says now if it cannot be written
            temporary.write_text(measured(), encoding="utf-8")


def _check_replaceable(output: Path) -> None:
    """Raise UsageError rather than replace something else, such as the model."""
    if not output.exists():
        return
    if output.is_file():
        with output.open("rb") as file:
            if file.read(64).startswith(_OURS):
                return
    raise UsageError(f"{output} exists and is no result of this command; choose another output")
