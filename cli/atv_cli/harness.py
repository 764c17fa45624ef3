"""`atv-local lm-eval`: the command line of lm-evaluation-harness, in which the model `atv-local` is known."""

from __future__ import annotations

import sys

import typer

from atv_cli.extras import need

AS_THEY_ARE = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a verb whose arguments are another program's."""


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness; all arguments are its own, and `--model atv-local` is steered by a bundle.

    atv-local lm-eval --model atv-local --model_args model=x.gguf,generator=bundle --tasks sciq
    """
    with need("harness"):
        from lm_eval.__main__ import cli_evaluate

        import atv_eval.harness  # noqa: F401  # registers the model

    sys.argv = ["lm-eval", *context.args]
    cli_evaluate()
