"""`atv-local pull`: fetch a model or a bundle before it is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from atv_cli import options


def pull(
    name: Annotated[str, typer.Argument(help="hf:user/repo for a bundle or GGUF, or an alias.", **options.NAME)],
    offline: Annotated[bool, typer.Option("--offline", help="Only say where it is.")] = False,
) -> None:
    """Download a model or bundle from the Hugging Face Hub, or what has changed of it, and print its path."""
    from atv_local.names import pull_name

    print(pull_name(name, offline=offline))
