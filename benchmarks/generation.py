"""Tasks whose answers are text: steering beside prompting, learned static vectors and LoRA, on the same rows.

python -m benchmarks.generation --data FOLDER --work FOLDER --output FILE.jsonl [--seeds 0 1 2] [--method NAME ...]

Each seed draws 200 training rows a task; test rows are the same for all. Steered and static answers come from llama.cpp
and have no demonstrations in the prompt; LoRA changes the target's own weights and answers in PyTorch. Models and
answers stay in the work folder, so that the command can be repeated after an interruption. A line of the output has the
scores of all test rows of a task under one method and seed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import atv_local
from atv_eval import Method, Task, evaluate, read_tasks
from atv_local.answer import Engine
from atv_local.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.data import Row, read_rows
from atv_local.errors import AtvError
from atv_local.names import embedded_model
from atv_local.target import PromptFormat, TargetFile
from atv_local.vectors import Positions, Steering, TaskVector
from benchmarks.json_lines import append_lines, json_lines, text_lines

N_VALID, N_CTX = 30, 4096
PROMPTED = (Method.ZERO_SHOT, Method.SHOTS, Method.BM25, Method.NEAREST)
SHOWING = (Method.SHOTS, Method.BM25)
"""Those with demonstrations in their prompts."""
TOLD = (Method.ZERO_SHOT, *SHOWING)
"""Those whose prompts have an instruction."""
STEERED = {"steered": False, "steered, two vectors": True}
"""Names of our methods, and whether a query has a prompt vector too."""
STATIC = {"static": False, "static, two vectors": True}
"""The same of learned vectors, one for each task."""
METHODS = (Method.BASE.value, *(method.value for method in PROMPTED), *STATIC, *STEERED, "lora")
Answers = dict[str, list[str]]
"""The answers to the test rows of each task."""


@dataclass(frozen=True)
class Draw:
    """The rows of one seed, as files."""

    data: Path
    work: Path
    seed: int
    n_rows: int
    n_tests: int | None
    epochs: int
    lora_epochs: int
    in_pytorch: bool = False

    @property
    def folder(self) -> Path:
        """Of what is drawn and made."""
        return self.work / f"seed{self.seed}-{self.n_rows}"

    def runtime(self, method: str) -> str:
        """What answers."""
        return "PyTorch" if method == "lora" or (self.in_pytorch and method in SHOWING) else "llama.cpp"

    def answers_file(self, method: str) -> Path:
        """Of a method, with all that its answers depend on in the name."""
        parts = [method.replace(", ", "-").replace(" ", "-"), str(self.n_tests or "all")]
        epochs = {"lora": self.lora_epochs, **dict.fromkeys((*STEERED, *STATIC), self.epochs)}.get(method)
        parts += [] if epochs is None else [f"{epochs}-epochs"]
        return self.folder / f"answers-{'-'.join([*parts, self.runtime(method)])}.json"

    @cached_property
    def names(self) -> list[str]:
        """The tasks whose group is `generation`."""
        index = json.loads((self.data / "index.json").read_text())
        return sorted(name for name, entry in index.items() if entry.get("group") == "generation")

    def files(self, split: str) -> list[Path]:
        """A file for each task, written once."""
        limit = {"train": self.n_rows, "valid": N_VALID, "test": self.n_tests}[split]
        made = []
        for name in self.names:
            path = self.folder / (split if split != "test" else f"test-{limit or 'all'}") / f"{name}.jsonl"
            if not path.exists():
                lines = text_lines(self.data / name / f"{split}.jsonl")
                if split == "train":
                    random.Random(f"{name}/{self.seed}").shuffle(lines)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(lines[:limit]) + "\n", encoding="utf-8")
            made.append(path)
        return made

    @cached_property
    def tasks(self) -> list[Task]:
        """Test rows, and how their answers are scored."""
        return read_tasks(self.files("test"), self.files("train"), {}, None, labels=False)


def prompted(draw: Draw, method: str) -> Answers:
    """What `atv-local eval` finds without steering."""
    told = method in TOLD
    if draw.runtime(method) == "PyTorch":
        from benchmarks.prompted_answers import prompted_answers

        instructions = json.loads((draw.data / "instructions.json").read_text())
        return prompted_answers(draw.tasks, method, instructions, draw.seed, N_CTX)
    result = evaluate(
        draw.files("test"),
        shots_from=draw.files("train") if Method(method).needs_pool else (),
        instructions=draw.data / "instructions.json" if told else None,
        methods=[method],
        output=draw.folder / f"eval-{method}",
        n_ctx=N_CTX,
        seed=draw.seed,
        timed=0,
        harm=False,
    )
    return {task.name: [r.answer for r in result.records if r.task == task.name] for task in draw.tasks}


def steered(draw: Draw, *, prompt_vector: bool) -> Answers:
    """Answers under the vectors that a generator makes."""
    from atv_export import export

    bundle = draw.folder / ("two-bundle" if prompt_vector else "one-bundle")
    if not bundle.exists():
        export(trained(draw, prompt_vector=prompt_vector), bundle, precisions="int8")
    with atv_local.load(embedded_model(), bundle) as engine:
        return answers(draw, engine, engine.steering, lambda _, row: engine.vector(row.input))


def static(draw: Draw, *, prompt_vector: bool) -> Answers:
    """Answers under one learned vector for each task."""
    import torch
    from safetensors.torch import load_file, save_file

    from atv_train import TrainingSettings, encode, static_trainer
    from atv_train.frozen_target import FrozenTarget, PrefixCache, load_target, target_dtype
    from benchmarks.lora import DEVICE

    file = draw.folder / f"static{2 if prompt_vector else 1}.safetensors"
    positions = Positions.ALL if prompt_vector else Positions.DECODE
    engine = atv_local.load(embedded_model(), off=True)
    if not file.exists():
        model = load_target(embedded_model(), target_dtype(DEVICE), DEVICE)
        target = FrozenTarget(model, positions, PrefixCache(8 << 30), n_vectors=1 + prompt_vector)
        train, valid = (encode(rows_of(draw.files(split)), engine.target.prompts, 1024) for split in ("train", "valid"))
        target.cache_prefixes([*train.first, *valid.first])
        trainer = static_trainer(draw.names, target, TrainingSettings(epochs=draw.epochs, seed=draw.seed))
        best: dict[str, torch.Tensor] = {}
        for metrics in trainer.epochs(train.rows, valid.first):
            if trainer.state.best is metrics:
                best = {name: tensor.clone() for name, tensor in trainer.source.state_dict().items()}
        save_file(best, file)
    rows = load_file(file)["vectors"].float().cpu().numpy()
    halves = rows.reshape(len(rows), 1 + prompt_vector, engine.target.n_rows, engine.target.n_embd)
    vectors = {name: TaskVector(*halves[index]) for index, name in enumerate(draw.names)}
    with engine:
        return answers(draw, engine, Steering(positions=positions), lambda task, _: vectors[task.name])


def lora(draw: Draw) -> Answers:
    """Answers of one LoRA for all tasks."""
    from benchmarks.lora_answers import LoraAnswers

    prompts = TargetFile.open(embedded_model()).prompts
    answered = LoraAnswers(rows_of(draw.files("train")), draw.lora_epochs, draw.seed)
    return {t.name: answered([row.input for row in t.rows], max_tokens(prompts, t.rows)) for t in draw.tasks}


def trained(draw: Draw, *, prompt_vector: bool) -> Path:
    """The folder of a run with these rows."""
    from atv_train import TrainingHooks, resume, train

    run = draw.folder / ("two" if prompt_vector else "one")
    hooks = TrainingHooks(on_epoch=lambda metrics: print(json.dumps(metrics), flush=True))
    if run.exists():
        resume(run, hooks)
    else:
        train(
            draw.files("train"),
            run,
            valid=draw.files("valid"),
            prompt_vector=prompt_vector,
            epochs=draw.epochs,
            seed=draw.seed,
            hooks=hooks,
        )
    return run


def answers(draw: Draw, engine: Engine, steering: Steering, vector: Callable[[Task, Row], TaskVector]) -> Answers:
    """Greedy answers to all test rows."""
    prompts, found = engine.target.prompts, {task.name: [""] * len(task.rows) for task in draw.tasks}

    def questions() -> Iterator[BatchQuestion]:
        for task in draw.tasks:
            limit = max_tokens(prompts, task.rows)
            for index, row in enumerate(task.rows):
                way = SteeredPrompt.of(steering, vector(task, row))
                yield BatchQuestion(prompts(row.input), [way], limit, tag=(task.name, index))

    with Batch(engine) as batch:
        for reply in batch.ask(questions()):
            name, index = reply.question.tag
            found[name][index] = "" if reply.error else reply.outcomes[0].text
    return found


def max_tokens(prompts: PromptFormat, rows: Sequence[Row]) -> int:
    """A quarter more than the longest right answer has."""
    longest = max(len(prompts.answer(row.input, row.output)) for row in rows)
    return longest + longest // 4 + 4


def rows_of(files: Sequence[Path]) -> list[Row]:
    """All rows, by the names of their files."""
    return [row.model_copy(update={"task": file.stem}) for file in files for row in read_rows(file).rows]


def answered(draw: Draw, method: str) -> Answers:
    """The answers of a method, from the work folder if they are there."""
    file = draw.answers_file(method)
    if not file.exists():
        if method == "lora":
            found = lora(draw)
        elif method in STEERED:
            found = steered(draw, prompt_vector=STEERED[method])
        elif method in STATIC:
            found = static(draw, prompt_vector=STATIC[method])
        else:
            found = prompted(draw, method)
        file.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def lines(draw: Draw, method: str) -> Iterator[dict[str, object]]:
    """The scores of one method, a line for each task."""
    found = answered(draw, method)
    for task in draw.tasks:
        rows = [task.score(row, answer, None) for row, answer in zip(task.rows, found[task.name], strict=True)]
        scores = {metric.value: [round(row[metric], 4) for row in rows] for metric in rows[0]}
        place: dict[str, object] = {"method": method, "seed": draw.seed, "train_rows": draw.n_rows, "task": task.name}
        place["runtime"] = draw.runtime(method)
        if method == "lora":
            place["epochs"] = draw.lora_epochs
        yield place | {"main": task.main.value, "scores": scores}


def main() -> None:
    """Run what is missing and append it to the output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--work", type=Path, required=True, help="folder for rows, models and answers")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=200, help="training rows a task")
    parser.add_argument("--tests", type=int, help="test rows a task; by default all")
    parser.add_argument("--epochs", type=int, default=4, help="of steered and static vectors")
    parser.add_argument("--lora-epochs", type=int, default=4, help="of the LoRA, which take far longer")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--in-pytorch", action="store_true", help="answer prompts with demonstrations there, on a GPU")
    arguments = parser.parse_args()
    every = json_lines(arguments.output)
    done = {(line["method"], line["seed"], line["train_rows"], line["runtime"]) for line in every}
    for seed in arguments.seeds:
        sizes = arguments.rows, arguments.tests, arguments.epochs, arguments.lora_epochs
        draw = Draw(arguments.data, arguments.work, seed, *sizes, arguments.in_pytorch)
        for method in arguments.method:
            if (method, seed, arguments.rows, draw.runtime(method)) in done:
                continue
            try:
                found = list(lines(draw, method))
            except AtvError as error:
                raise SystemExit(f"{method}: {error}") from error
            append_lines(arguments.output, found)


if __name__ == "__main__":
    main()
