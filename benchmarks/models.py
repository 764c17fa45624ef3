"""Train through, export and run the tiny models of `model_makers`, and write results/models.jsonl.

    python -m benchmarks.models FOLDER [NAME ...]

For each: whether off equals the base model bit for bit, whether batches answer as one by one, and after three steps of
training and an export the logits of PyTorch against llama.cpp's, steered at `decode` and at `all` positions. The page
docs/models.md is made of the results (`python -m scripts.models_page`).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as lib
import numpy as np
import torch

from atv_local.answer import Engine
from atv_local.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.errors import AtvError
from atv_local.target import Target
from atv_local.vectors import OFF, Positions, PositionsName, Steering, TaskVector, random_vector
from benchmarks.forked import import_all
from benchmarks.model_families import FAMILIES
from benchmarks.model_makers import folder_name
from tests.tiny import ANSWERS, write_rows
from tests.tiny.backbone import write_backbone

RESULTS = Path(__file__).parent / "results" / "models.jsonl"
_TIME = 600  # seconds for a model
_QUERIES = ("what is a fig", "a cow and a hen")


def check(name: str, folder: Path, work: Path) -> dict[str, Any]:
    """The record of one family."""
    torch.set_num_threads(1)
    gguf, weights = folder / "model.gguf", folder / "weights"
    record: dict[str, Any] = {"name": name, "versions": _versions()}
    run = _measured(partial(_run, gguf))
    if "off" not in run:
        return _without_paths(record | {"run": run}, folder)
    record |= run
    names: tuple[PositionsName, ...] = ("decode", "all")
    for positions in names:
        found = _measured(partial(_train, gguf, None, positions, work / positions))
        if "cosine" not in found and weights.exists():
            record[f"{positions}_gguf"] = found
            found = _measured(partial(_train, gguf, weights, positions, work / f"{positions}-w"))
        record[positions] = found
    return _without_paths(record, folder)


def _without_paths(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    text = json.dumps(record).replace(f"{folder}/", "")
    found: dict[str, Any] = json.loads(text)
    return found


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("llama-cpp-python", "torch", "transformers")}


def _measured(step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a step found, or what stopped it."""
    try:
        return step()
    except AtvError as error:
        return {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"traceback": f"{type(error).__name__}: {error}"}


def _run(gguf: Path) -> dict[str, Any]:
    """Whether off is the base, and whether answers in a batch are those one by one."""
    with Engine(Target(gguf, n_threads=1)) as engine:
        target = engine.target
        tokens = target.prompts(_QUERIES[0]).tokens
        target.prefill(tokens[:-1])
        base = target.evaluate(tokens[-1:]).copy()
        vector = random_vector(target.n_rows, target.n_embd)
        target.apply(vector)
        target.evaluate([tokens[-1]])
        target.prefill(tokens[:-1])
        off = target.evaluate(tokens[-1:]).copy()
        target.clear()
        bare = _bare_logits(gguf, list(tokens), target.n_ctx)
        found = {
            "architecture": target.model.architecture,
            "off": bool(np.array_equal(base, bare) and np.array_equal(off, bare)),
        }
        found["together"] = _measured(partial(_together, engine, vector)) or True
    return found


def _together(engine: Engine, vector: TaskVector) -> dict[str, Any]:
    styles = (OFF, Steering(1.0, None, Positions.DECODE))
    ways = [SteeredPrompt.of(style, vector) for style in styles]
    with Batch(engine) as batch:
        replies = list(batch.ask([BatchQuestion(engine.target.prompts(query), ways, 4) for query in _QUERIES]))
    for query, reply in zip(_QUERIES, replies, strict=True):
        if reply.error:
            raise reply.error
        alone = [engine.answer(query, vector=vector, steering=style, max_tokens=4).text for style in styles]
        if alone != [outcome.text for outcome in reply.outcomes]:
            raise AtvError("other answers in a batch than one by one")
    return {}


def _bare_logits(gguf: Path, tokens: list[int], n_ctx: int) -> Any:
    """llama.cpp's next logits without any code of ours: the last token is evaluated alone, after the others."""
    model = lib.llama_model_load_from_file(str(gguf).encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, 512, 512
    params.n_threads = params.n_threads_batch = 1
    context = lib.llama_init_from_model(model, params)
    for part in (tokens[:-1], tokens[-1:]):
        array = (lib.llama_token * len(part))(*part)  # the batch only points to it
        lib.llama_decode(context, lib.llama_batch_get_one(array, len(part)))
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    logits = np.array(lib.llama_get_logits_ith(context, -1)[:n_vocab], np.float32)
    lib.llama_free(context)
    lib.llama_model_free(model)
    return logits


def _train(gguf: Path, weights: Path | None, positions: PositionsName, work: Path) -> dict[str, Any]:
    """Three steps, an export, and the logits of both."""
    from atv_train import train

    rows, backbone = work.parent / "kinds.jsonl", work.parent / "backbone"
    train(
        rows,
        work / "run",
        model=gguf,
        weights=weights,
        backbone=backbone,
        positions=positions,
        epochs=1,
        batch_size=14,
        hold_out=False,
        learning_rate=0.02,
        dtype="float32",
    )
    if not find_spec("optimum"):  # it does not take transformers 5
        return _compare(work / "run", gguf, weights, positions)
    from atv_export import export

    report = export(work / "run", work / "bundle", precisions=["fp32"], model=gguf, weights=weights)
    check = report.logits["fp32"]
    scores = {"cosine": check.cosine, "base_cosine": check.base_cosine, "agreement": check.agreement}
    return _rounded(scores, weights)


def _rounded(scores: dict[str, float], weights: Path | None) -> dict[str, Any]:
    return {name: round(score, 5) for name, score in scores.items()} | {"weights": weights is not None}


@torch.no_grad()
def _compare(run: Path, gguf: Path, weights: Path | None, positions: PositionsName) -> dict[str, Any]:
    """What an export measures, with the vectors of PyTorch's generator in llama.cpp."""
    from atv_train import Example
    from atv_train.frozen_target import FrozenTarget, load_target
    from atv_train.run_folder import load_checkpoint

    _, generator, tokenizer = load_checkpoint(run)
    name = None if weights is None else str(weights)
    frozen = FrozenTarget(load_target(gguf, torch.float32, torch.device("cpu"), name), Positions(positions))
    found: dict[bool, list[float]] = {True: [], False: []}
    same = []
    target = Target(gguf, n_threads=1)
    for word in (*ANSWERS, *_QUERIES):
        encoded = tokenizer([word], return_tensors="pt")
        vector = generator(encoded["input_ids"], encoded["attention_mask"])
        *head, last = tokens = target.prompts(word).tokens
        for steered in (True, False):
            logits, _ = frozen.answer_logits([Example(0, word, "", tokens, (0,))], vector * steered)
            target.reset()
            if positions != "all":
                target.prefill(head)
            if steered:
                target.apply(TaskVector(vector[0].numpy()))
            expected = torch.from_numpy(target.evaluate(tokens if positions == "all" else [last]).copy())
            found[steered].append(torch.cosine_similarity(logits[0, : len(expected)], expected, dim=0).item())
            if steered:
                same.append(bool(logits[0].argmax() == expected.argmax()))
    target.close()
    scores = {"cosine": min(found[True]), "base_cosine": min(found[False]), "agreement": sum(same) / len(same)}
    return _rounded(scores, weights)


def in_time(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a function called in a fork, within `_TIME`; or how the process ended."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            signal.alarm(_TIME)
            pickle.dump(function(), file)
            file.flush()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            return {"run": {"traceback": f"the process ended with {code}"}}
        file.seek(0)
        result: dict[str, Any] = pickle.load(file)
    return result


def main() -> None:
    """Check all, or those that are named, and keep the others' results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what benchmarks.model_makers wrote")
    parser.add_argument("names", nargs="*", default=list(FAMILIES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if find_spec("optimum"):
        import_all()
    gguf.GGUFReader = cache(gguf.GGUFReader)  # type: ignore[assignment,misc]  # transformers reads a file six times here, for seconds each
    for name in options.names:
        folder = options.folder.resolve() / folder_name(name)
        if not (folder / "model.gguf").exists():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            write_rows(work / "kinds.jsonl")
            write_backbone(work / "backbone")
            record = in_time(partial(check, name, folder, work))
        print(json.dumps(record), file=sys.stderr)
        save(options.results, {"name": name} | record)


def save(path: Path, record: dict[str, Any]) -> None:
    """Replace the record of that name, in the order of `FAMILIES`."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = {found["name"]: found for found in map(json.loads, lines)} | {record["name"]: record}
    ordered = [records[name] for name in FAMILIES if name in records]
    path.write_text("".join(json.dumps(found) + "\n" for found in ordered))


if __name__ == "__main__":
    main()
