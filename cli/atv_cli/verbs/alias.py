"""`atv-local alias`: short names for models and bundles."""

from __future__ import annotations

from typing import Annotated

import typer

from atv_cli import options
from atv_cli.help_pages import Panel
from atv_local.errors import UsageError
from atv_local.text import one_line


def alias(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The short name; without one, all aliases are listed.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="What it stands for: a path, hf:user/repo[:quant] or ollama:name[:tag]."),
    ] = None,
    *,
    remove: Annotated[str | None, Panel.OTHER.option("--remove", help="Remove this alias.", **options.NAME)] = None,
) -> None:
    """Give a model or bundle a short name for -m and -g, or list all short names."""
    from atv_local.names import absolute_name, add_alias, read_aliases, remove_alias

    if remove is not None:
        if name is not None:
            raise UsageError(f"--remove takes one name; drop {name!r}")
        remove_alias(remove)
    elif name is None:
        for known, to in sorted(read_aliases().items()):
            print(one_line(f"{known}  {to}"))
    elif target is None:
        raise UsageError(f"say what {name!r} stands for: atv-local alias {name} TARGET")
    else:
        add_alias(name, absolute_name(target))
