"""`atv-local lm-eval`: the command line of lm-evaluation-harness, in which the model `atv-local` is known."""

from __future__ import annotations

import sys

import typer

from atv_cli.extras import need
from atv_local.errors import AtvError, UsageError

AS_THEY_ARE = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
"""Settings of a verb whose arguments are another program's."""


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness, all of whose arguments this takes, with the model `atv-local`.

    For example: --model atv-local --model_args model=x.gguf,generator=bundle --tasks arc_easy

    Other model arguments: strength, layers, positions, off, n_ctx, n_threads, n_gpu_layers, max_gen_toks, batch, seed.
    What lm_eval takes itself is said by: atv-local lm-eval run --help
    """
    with need("harness"):
        from lm_eval.__main__ import cli_evaluate

        import atv_eval.lm_eval.harness_model  # noqa: F401  # registers the model

    sys.argv = ["lm-eval", *context.args]
    try:
        cli_evaluate()
    except AtvError:
        raise
    except ValueError as error:  # how lm_eval refuses arguments, such as an unknown task
        raise UsageError(f"lm_eval: {error}") from error
