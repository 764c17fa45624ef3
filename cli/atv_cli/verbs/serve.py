"""`atv-local serve`: an OpenAI-compatible server in which every request says how it is steered."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from atv_cli import options
from atv_cli.error_messages import for_command_line
from atv_cli.help_pages import Panel
from atv_cli.optional_packages import require_extra
from atv_local.errors import UsageError


def serve(
    context: typer.Context,
    *,
    model: options.ModelOption = None,
    bundle: Annotated[
        list[str] | None,
        Panel.MODEL.option(
            "-g",
            "--bundle",
            metavar="[ID=]NAME",
            help="Serve this bundle under the model name ID; repeatable: the model auto chooses among all.",
            show_default="ATV_BUNDLE, then the config file, then embedded",
        ),
    ] = None,
    off: options.OffOption = False,
    control_vector: Annotated[
        list[str] | None,
        Panel.STEERING.option(
            "--control-vector",
            metavar="[ID=]FILE",
            help="Let requests steer with this control-vector GGUF, by the name ID, beside a bundle that is named, "
            "else alone; repeatable.",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        Panel.SAMPLING.option(
            "-n",
            "--max-tokens",
            metavar="N",
            help="Limit every answer to this many tokens, whatever the request asks for.",
            show_default="the rest of the context",
        ),
    ] = None,
    host: Annotated[
        str,
        Panel.SERVER.option(
            "--host", metavar="ADDRESS", help="Listen on this address; any but a loopback address needs --api-key."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        Panel.SERVER.option("--port", metavar="N", min=0, max=65535, help="Listen on this port; 0 picks a free port."),
    ] = 8080,
    api_key: Annotated[
        str | None,
        Panel.SERVER.option(
            "--api-key", metavar="TEXT", envvar="ATV_API_KEY", help="Require this bearer token in every request."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        Panel.SERVER.option("--allow-host", metavar="NAME", help="Accept requests for this host name too; repeatable."),
    ] = None,
    queue: Annotated[
        int,
        Panel.SERVER.option(
            "--queue", metavar="N", min=0, max=10000, help="Let at most this many requests wait; others get status 429."
        ),
    ] = 32,
    timeout: Annotated[
        float,
        Panel.SERVER.option(
            "--timeout",
            metavar="SECONDS",
            min=1,
            max=86400,
            help="End a request with status 504 after this many seconds.",
        ),
    ] = 600,
    parallel: Annotated[
        int,
        Panel.PERFORMANCE.option("--parallel", metavar="N", min=1, max=64, help="Answer this many requests at a time."),
    ] = 4,
    performance: options.EngineOptions,
) -> None:
    """Serve an OpenAI-compatible API in which each request is steered by its own vector, with a web page at /."""
    if api_key is None and "ATV_API_KEY" in os.environ:  # click takes an empty variable for none
        raise UsageError("ATV_API_KEY is empty; set it to a key, or unset it to serve without one")
    from atv_local.vectors import ControlVector, split_files

    by_id = dict(_split_id(text) for text in bundle or [])
    if len(by_id) < len(bundle or []):
        raise UsageError("two bundles have the same ID; give each its own with -g ID=NAME")
    files = [file for given in control_vector or [] for file in split_files(given)]
    vectors = {vector_id: Path(name) for vector_id, name in map(_split_id, files)}
    if len(vectors) < len(files):
        raise UsageError("two control vectors have the same ID; give each its own with --control-vector ID=FILE")

    with require_extra("serve"):
        from atv_serve import Server, ServerOptions, check_bundle_ids
    from atv_local.names import check_bundle_name, choose_bundle, choose_model, explain_defaults

    check_bundle_ids(by_id)
    settings = ServerOptions(host, port, api_key, allow_host or (), parallel, queue, timeout, max_tokens)
    chosen = choose_model(model)
    bundles = {bundle_id: choose_bundle(name) for bundle_id, name in by_id.items()}
    if off:
        for name in by_id.values():
            check_bundle_name(name)
        for file in vectors.values():
            ControlVector.load(file)
        if vectors:
            print(f"--off serves the base model alone, without {', '.join(vectors)}", file=sys.stderr, flush=True)
        bundles, vectors = {}, {}
    elif not bundles:
        default = choose_bundle(None, model)
        if not (default.source and vectors):  # control vectors replace a bundle that is only the default
            bundles = {_split_id(str(default.name))[0]: default}
    path = chosen.path()
    paths = {bundle_id: bundle.path() for bundle_id, bundle in bundles.items()}
    with explain_defaults(chosen, next(iter(bundles.values()), None)):
        server = Server(path, paths, settings, control_vectors=vectors, **performance.arguments())
    models = server.models

    def say(url: str) -> None:
        vectors = f"; control vectors {', '.join(models.control_vectors)}" if models.control_vectors else ""
        what = f"{models.name}, {', '.join(models.names)}{vectors}; {parallel} at a time, {models.n_ctx} tokens each"
        print(f"{url}  ({what})", file=sys.stderr, flush=True)
        if models.unrouted:
            problem = for_command_line(models.unrouted, context)
            print(f"the bundles are served without the model auto: {problem}", file=sys.stderr, flush=True)

    def finish(running: int) -> None:
        if running:
            print(
                f"finishing running requests ({running}); press Ctrl-C again to stop now", file=sys.stderr, flush=True
            )

    n_cut = server.run(say, finish)
    if n_cut:
        sys.exit(f"atv-local: answers that were cut off: {n_cut}")


def _split_id(text: str) -> tuple[str, str]:
    """`ID=NAME` in two. What is there by the whole name has no ID; it is called by its folder or its file."""
    bundle_id, equals, name = text.partition("=")
    if not equals or "/" in bundle_id or "\\" in bundle_id or os.path.exists(text):  # noqa: PTH110  # never raises
        path = Path(text).resolve()
        bundle_id, name = (path.stem if path.suffix.lower() in (".zip", ".gguf") else path.name), text
    if not bundle_id or not name or len(bundle_id) > 256 or not bundle_id.isprintable():
        raise UsageError(f"{text!r} is not ID=NAME, such as spam=bundles/spam")
    return bundle_id, name
