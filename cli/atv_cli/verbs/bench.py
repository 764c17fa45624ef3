"""`atv-local bench`: what steering costs on this machine, with any GGUF."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from atv_cli import options
from atv_cli.completion import BUNDLE_NAME
from atv_cli.help_pages import Panel

_OURS = (b"# Cost of steering\n", b'{"benchmark": "atv-local bench"')


def bench(
    *,
    model: options.ModelOption = None,
    bundle: Annotated[
        str | None,
        Panel.MODEL.option(
            "-g",
            "--bundle",
            help="Measure with this bundle's generator.",
            show_default="the default bundle if it fits the model, else a random vector",
            **BUNDLE_NAME,
        ),
    ] = None,
    template_variable: Annotated[list[str] | None, options.template_variable("the bundle's")] = None,
    performance: options.TargetOptions,
    rounds: Annotated[
        int | None,
        Panel.MEASURING.option(
            "--rounds",
            metavar="N",
            help="Repeat each part this many times.",
            show_default="7",
        ),
    ] = None,
    quick: Annotated[
        bool,
        Panel.MEASURING.option("--quick", help="Repeat each part 3 times, with shorter answers."),
    ] = False,
    only: Annotated[
        str | None,
        Panel.MEASURING.option(
            "--only",
            metavar="PART,...",
            help="Measure only these parts: memory, generator, vector, first-token, decode, batch.",
        ),
    ] = None,
    as_json: options.AsJson = False,
    output: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write the result to this file instead of stdout.",
        ),
    ] = None,
    overwrite: Annotated[bool, Panel.OUTPUT.option("--overwrite", help="Replace the result that is there.")] = False,
) -> None:
    """Measure what steering costs on this machine, in time and memory.

    Steered and unsteered runs alternate, so that their ratios hold on a busy machine too.
    """
    from atv_eval.bench import BenchOptions, bench_markdown, parse_parts, run_benchmark
    from atv_local.data import check_replaceable_file, parse_template_variables, replacing

    if output is not None:
        check_replaceable_file(output, _is_ours, "result that this command wrote", overwrite=overwrite)
    chosen = BenchOptions(
        model,
        bundle,
        **asdict(performance),
        template_variables=parse_template_variables(template_variable or ()),
        rounds=rounds,
        quick=quick,
        only=parse_parts(only) if only is not None else (),
    )

    def measured() -> str:
        record = run_benchmark(chosen, lambda line: print(line, file=sys.stderr))
        return json.dumps(record) + "\n" if as_json else bench_markdown(record)

    if output is None:
        print(measured(), end="")
    else:
        with replacing(output) as temporary:  # says now if it cannot be written
            temporary.write_text(measured(), encoding="utf-8")


def _is_ours(output: Path) -> bool:
    with output.open("rb") as file:
        return file.read(64).startswith(_OURS)
