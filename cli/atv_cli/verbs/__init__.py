"""One file for each verb of the command line, and the table of all verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atv_cli.verbs import (
    alias,
    batch,
    bench,
    calibrate,
    chat,
    config,
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
    "config": config.config,
    "doctor": doctor.doctor,
    "lm-eval": lm_eval.lm_eval,
}
"""Functions by name, in the order of `atv-local --help`."""

CONTEXT_SETTINGS: dict[str, dict[str, Any]] = {"lm-eval": lm_eval.PASS_ARGUMENTS_ON}
"""How click reads the arguments of a verb, where that is not as usual."""
