"""`atv-local serve`: an OpenAI-compatible server in which every request says how it is steered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from atv_cli import options
from atv_cli.extras import need
from atv_local.errors import UsageError


def serve(
    model: options.Model = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            "-g",
            "--bundle",
            metavar="[ID=]NAME",
            help="Bundle, and its name for clients; repeatable [default: the demo].",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; others than loopback need a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="ATV_API_KEY", help="What clients must send as bearer token.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name that requests may address it by; repeatable.")
    ] = None,
    parallel: Annotated[int, typer.Option("--parallel", min=1, max=64, help="Requests answered at a time.")] = 2,
    queue: Annotated[int, typer.Option("--queue", min=0, max=10000, help="Requests that may wait.")] = 32,
    timeout: Annotated[float, typer.Option("--timeout", min=1, max=86400, help="Seconds a request may take.")] = 600,
    max_tokens: Annotated[
        int | None, typer.Option("-n", "--max-tokens", min=1, help="Longest answer [default: the context].")
    ] = None,
    ctx_size: options.CtxSize = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    off: options.Off = False,
    provider: options.Provider = None,
    precision: options.Precision = None,
) -> None:
    """Serve the target over HTTP as OpenAI does, each request steered by itself; a page to try it is at `/`."""
    if off and bundle:
        raise UsageError("--off steers by nothing; drop it or the bundles")
    named = dict(_named(given) for given in bundle or [])
    if len(named) < len(bundle or []):
        raise UsageError("two bundles have the same name; write -g ID=NAME")

    with need("serve"):
        from atv_serve import Options, Server
    from atv_local.names import resolve_bundle, resolve_model

    settings = Options(host, port, api_key, allow_host or (), parallel, queue, timeout, max_tokens)
    bundles: dict[str, str | None] = {} if off else {**named} or {"demo": None}
    server = Server(
        resolve_model(model),
        {called: resolve_bundle(name) for called, name in bundles.items()},
        settings,
        n_ctx=ctx_size,
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        provider=provider,
        precision=precision,
    )
    served = server.served

    def say(url: str) -> None:
        what = f"{served.name}, {', '.join(served.models)}; {parallel} contexts of {served.n_ctx} tokens"
        print(f"{url}  ({what})", file=sys.stderr, flush=True)

    def finish(running: int) -> None:
        if running:
            print(f"finishing what runs ({running}); told again, it ends at once", file=sys.stderr, flush=True)

    n_cut = server.run(say, finish)
    if n_cut:
        sys.exit(f"atv-local: answers that were cut off: {n_cut}")


def _named(given: str) -> tuple[str, str]:
    """`ID=NAME`, or a bundle that is called as its folder is."""
    called, equals, name = given.partition("=")
    if not equals:
        called, name = Path(given).resolve().stem, given
    if not called or not name or len(called) > 256 or not called.isprintable() or "/" in called:
        raise UsageError(f"-g {given!r} is not ID=NAME, such as spam=bundles/spam")
    return called, name
