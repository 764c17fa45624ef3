"""`atv-local`: the application, and how every verb fails."""

from __future__ import annotations

import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from atv_cli.error_messages import explain_bad_value, for_command_line, refuse_empty_paths, refuse_stdout
from atv_cli.foreign_options import refuse_foreign_options, refuse_seed_as_system
from atv_cli.given_options import refuse_second_bundle
from atv_cli.help_pages import help_page
from atv_cli.interrupts import was_interrupted
from atv_cli.option_groups import expand_groups
from atv_cli.verbs import CONTEXT_SETTINGS, VERBS
from atv_local.errors import AtvError


class _Group(TyperGroup):
    def get_help(self, ctx: Any) -> str:
        return help_page(self, ctx)


class _Command(TyperCommand):
    """A verb; its errors become one line on stderr and exit code 1 or 2, Ctrl-C 130, and a closed pipe 141."""

    def get_help(self, ctx: Any) -> str:
        return help_page(self, ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, empty = list(args), "" in args
        if CONTEXT_SETTINGS.get(str(self.name)) is None:  # else it passes options on that it does not know
            refuse_foreign_options(ctx, args)
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            explain_bad_value(error)
            raise
        if empty:
            refuse_empty_paths(ctx)
        refuse_stdout(ctx)
        refuse_second_bundle(ctx, self.make_parser(ctx).parse_args(given)[2])
        refuse_seed_as_system(ctx)
        return rest

    def invoke(self, ctx: Any) -> None:
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except AtvError as error:
            if was_interrupted(error):
                sys.exit(130)
            print(f"atv-local: {for_command_line(str(error), ctx)}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print(file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # the program that read our output has ended, as `head` does
            _discard_output()
            sys.exit(141)
        except OSError as error:
            _discard_output()
            print(f"atv-local: {error.strerror or error}", file=sys.stderr)
            sys.exit(1)


def _discard_output() -> None:
    """Let nothing that is still buffered fail again when Python flushes it on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="atv-local",
    cls=_Group,
    help="Teach a GGUF model your own tasks, per query, without touching its weights or its prompt.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("atv-local"))
        raise typer.Exit


@app.callback()
def _before_any_verb(
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Never download anything; the same as HF_HUB_OFFLINE=1 in the environment."),
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported, inside the command


for name, verb in VERBS.items():
    summary = (verb.__doc__ or "").partition("\n")[0]
    settings = CONTEXT_SETTINGS.get(name)
    app.command(name, cls=_Command, short_help=summary, context_settings=settings)(expand_groups(verb))


def main() -> None:
    """Entry point of the `atv-local` script."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123  # closed by the caller
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # as above
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what the terminal's encoding does not
    warnings.formatwarning = lambda message, *_: f"atv-local: {message}\n"
    try:
        app()
    except ImportError as error:
        if was_interrupted(error):
            sys.exit(130)
        # a damaged installation; a missing extra is a UsageError of `require_extra`
        fix = "run atv-local doctor; if it does not start: pip install --force-reinstall atv-local"
        print(f"atv-local: cannot import a package: {error}; {fix}", file=sys.stderr)
        sys.exit(1)
