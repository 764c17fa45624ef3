"""`atv-local lm-eval`: the command line of lm-evaluation-harness, in which the model `atv-local` is known."""

from __future__ import annotations

import sys

import typer

from atv_cli.optional_packages import require_extra
from atv_local.errors import AtvError, UsageError

PASS_ARGUMENTS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
"""Context settings of a verb that passes its arguments on to another program."""


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness (lm_eval) with the model atv-local added to it.

    All arguments are those of lm_eval; see: atv-local lm-eval run --help

    For example: --model atv-local --model_args model=x.gguf,bundle=bundle --tasks arc_easy

    Other model arguments: strength, layers, positions, off, n_ctx, n_threads, n_gpu_layers, max_tokens, parallel, seed.
    """
    with require_extra("harness"):
        from lm_eval.__main__ import cli_evaluate

        from atv_eval.lm_eval import AtvLocal  # noqa: F401  # registers the model

    sys.argv = ["lm-eval", *context.args]
    try:
        cli_evaluate()
    except AtvError:
        raise
    except ValueError as error:  # how lm_eval refuses arguments, such as an unknown task
        raise UsageError(f"lm_eval: {error}") from error
