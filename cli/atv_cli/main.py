"""`atv-local`: the application and what all verbs share about failing."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from atv_cli.error_messages import for_command_line
from atv_cli.verbs import (
    alias,
    batch,
    bench,
    calibrate,
    chat,
    doctor,
    export,
    inspect,
    lm_eval,
    ls,
    pull,
    run,
    serve,
    train,
    vector,
)
from atv_cli.verbs import eval as evaluation
from atv_local.errors import AtvError

app = typer.Typer(
    name="atv-local",
    help="Teach a GGUF model your own tasks, per query, without touching its weights or its prompt.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("atv-local"))
        raise typer.Exit


@app.callback()
def _everywhere(
    offline: Annotated[
        bool, typer.Option("--offline", help="Download nothing, whatever the command; as HF_HUB_OFFLINE=1.")
    ] = False,
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported, inside the command


class Command(TyperCommand):
    """Reports an error in one sentence on stderr; exit code 1 is failure, 2 usage, 130 Ctrl-C, 141 a closed pipe."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer has a class of its own
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except AtvError as error:
            print(f"atv-local: {for_command_line(str(error), ctx)}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print(file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # the reader of our output has gone, as `head` does
            _discard_output()
            sys.exit(141)
        except OSError as error:
            _discard_output()
            print(f"atv-local: {error.strerror or error}", file=sys.stderr)
            sys.exit(1)
        return result


def _discard_output() -> None:
    """Let nothing that is still buffered fail again when Python flushes it on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


VERBS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "chat": chat.chat,
    "serve": serve.serve,
    "batch": batch.batch,
    "train": train.train,
    "export": export.export,
    "eval": evaluation.evaluate,
    "calibrate": calibrate.calibrate,
    "bench": bench.bench,
    "vector": vector.vector,
    "inspect": inspect.inspect,
    "ls": ls.ls,
    "pull": pull.pull,
    "alias": alias.alias,
    "doctor": doctor.doctor,
}
for name, verb in VERBS.items():
    app.command(name, cls=Command)(verb)
app.command("show", cls=Command, hidden=True, help="The same as inspect.")(inspect.inspect)
app.command("lm-eval", cls=Command, context_settings=lm_eval.AS_THEY_ARE)(lm_eval.lm_eval)


def main() -> None:
    """Entry point of the `atv-local` script."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123  # closed by the caller
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # as above
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what the terminal's encoding does not
    warnings.formatwarning = lambda message, *_: f"atv-local: {message}\n"
    try:
        app()
    except ImportError as error:  # a damaged installation; one that lacks an extra is `extras.need`'s
        mend = "atv-local doctor says what is broken; if it does not run: pip install --force-reinstall atv-local"
        print(f"atv-local: cannot import a package: {error}; {mend}", file=sys.stderr)
        sys.exit(1)
