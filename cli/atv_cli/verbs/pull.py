"""`atv-local pull`: fetch a model or a bundle before it is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from atv_cli.completion import NAME
from atv_cli.help_pages import Panel


def pull(
    name: Annotated[str, typer.Argument(help="hf:user/repo of a bundle or GGUF, or an alias.", **NAME)],
    *,
    offline: Annotated[
        bool, Panel.OTHER.option("--offline", help="Download nothing; only print the path in the cache.")
    ] = False,
) -> None:
    """Download or update a model or bundle from the Hugging Face Hub, and print its path."""
    from atv_local.names import pull_name

    for path in pull_name(name, offline=offline):
        print(path)
