"""`atv-local alias`: short names for models and bundles."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from atv_cli.completion import complete_alias
from atv_cli.help_pages import Panel
from atv_local.errors import UsageError
from atv_local.text import one_line


def alias(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The short name; without one, all aliases are listed.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(metavar="VALUE", help="What it stands for: a path, hf:user/repo[:quant] or ollama:name[:tag]."),
    ] = None,
    *,
    model: Annotated[
        str | None,
        Panel.MODEL.option(
            "-m", "--model", metavar="NAME", help="Make it an alias for this target; with -g, for both."
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        Panel.MODEL.option(
            "-g", "--bundle", metavar="NAME", help="Make it an alias for this bundle; with -m, for both."
        ),
    ] = None,
    remove: Annotated[
        str | None,
        Panel.OTHER.option("--remove", metavar="NAME", help="Remove this alias.", autocompletion=complete_alias),
    ] = None,
) -> None:
    """Give a model, a bundle or a pair of them a short name for -m and -g, or list all short names.

    An alias made with both -m and -g stands for the pair: -m ALIAS uses its model and its bundle, unless -g names
    another bundle, and -g ALIAS uses its bundle alone.
    """
    from atv_local.names import add_alias, read_aliases, remove_alias

    if remove is not None:
        if name is not None:
            raise UsageError(f"--remove takes its own name; leave out {name!r}")
        remove_alias(remove)
    elif name is None:
        if model or bundle:
            raise UsageError("an alias needs a name: atv-local alias NAME -m MODEL -g BUNDLE")
        for known, to in sorted(read_aliases().items()):
            print(one_line(f"{known}  {to}"))
    elif target is None and model is None and bundle is None:
        raise UsageError(f"the alias {name!r} needs a value: atv-local alias {name} VALUE")
    else:
        before = add_alias(name, target or "", model=model or "", bundle=bundle or "")
        if before is not None:
            print(one_line(f"atv-local: {name} stood for {before} before"), file=sys.stderr)
