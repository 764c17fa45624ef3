"""`atv-local config`: the default target and bundle."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from atv_cli.completion import NAME
from atv_cli.help_pages import Panel
from atv_local.errors import UsageError
from atv_local.text import one_line


def config(
    key: Annotated[
        Literal["model", "bundle"] | None,
        typer.Argument(metavar="KEY", help="model or bundle; without a key, both are shown."),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="The new default: anything that -m or -g takes.", **NAME)] = None,
    *,
    unset: Annotated[bool, Panel.OTHER.option("--unset", help="Remove this default from the config file.")] = False,
) -> None:
    """Show or set the model and bundle that commands use if -m or -g is not given.

    The environment variables ATV_MODEL and ATV_BUNDLE override the config file; without either, the embedded pair is
    used. If the model is an alias for a pair, its bundle is the default too.
    """
    from atv_local.names import choose_bundle, choose_model, config_file, set_default

    if unset and (key is None or name is not None):
        raise UsageError("--unset takes a key and no name: atv-local config model --unset")
    if key is not None and (unset or name is not None):
        set_default(key, name)
        return
    choices = {"model": choose_model, "bundle": choose_bundle}
    if key is not None:
        print(one_line(str(choices[key]().name)))
        return
    for kind, choose in choices.items():
        choice = choose()
        print(one_line(f"{kind:8}{choice.name}  ({choice.set_by})"))
    file = config_file()
    print(one_line(f"{'file':8}{file}") + ("" if file.exists() else "  (does not exist)"))
