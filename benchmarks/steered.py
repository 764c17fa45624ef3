"""Adaptive and static vectors on the paper's tasks: trained in PyTorch, answered through ONNX Runtime and llama.cpp.

python -m benchmarks.steered --data FOLDER --rows N --output FILE.jsonl [--seed 42] [--positions decode] [--instruction]

One generator for all 20 tasks, 90 training rows each, its last epoch; and on the same rows one learned vector for each
task, the mean of the adaptive vectors for each task, and no vector. Test rows are answered with the bare query, freely
and among their choices, as `benchmarks.prompted` does, whose `--summary` reads the output. On tasks that were never
trained on, only the adaptive generator can answer. With --instruction generator and target read the task's first
wording instead of the bare query, in training too, and only adaptive vectors are measured. Each row's unsteered prefix
is evaluated once for all vectors.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from atv_export import export
from atv_local import Bundle, Positions, Target, TaskVector
from atv_local import Generator as OnnxGenerator
from atv_local.data import Row as TrainingRow
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_train import Example, Trainer, TrainingJob, TrainingSettings, default_backbone, encode, static_trainer
from atv_train.frozen_target import FrozenTarget, PrefixCache, load_target, target_dtype
from atv_train.run_folder import checkpoint_spec, save_checkpoint
from atv_train.vector_sources import (
    AdaptiveVectors,
    GeneratorModule,
    StaticVectors,
    averaged_vectors,
    load_backbone,
)
from benchmarks.paper_tasks import DATA, N_POOL, Row, Task, conversation, load
from benchmarks.prompted import says
from benchmarks.prompting import restricted

CPU = torch.device("cpu")
N_CTX, MAX_ANSWER = 4096, 8


@dataclass(frozen=True)
class Method:
    """A name for the table, the rule of injection, and a vector for a task's query (None: no vector)."""

    name: str
    positions: Positions
    vector: Callable[[str, str], TaskVector | None]


def train(arguments: argparse.Namespace, work: Path) -> list[Method]:
    """All methods, trained on the pool of the seed; prefixes are evaluated once for all of them."""
    pool = load("atv20", "train", N_POOL, arguments.seed, arguments.data)
    asking = query_of(arguments.instruction)
    rows = [
        TrainingRow(input=asking(task, row), output=row.output, task=task.name) for task in pool for row in task.rows
    ]
    target_file = TargetFile.open(embedded_model())
    encoded = encode(rows, target_file.prompts, N_CTX)
    model = load_target(embedded_model(), target_dtype(CPU), CPU)
    cache = PrefixCache(16 << 30)
    settings = TrainingSettings(epochs=arguments.epochs, seed=arguments.seed)
    methods: list[Method] = []
    if not arguments.instruction:
        methods.append(Method("none", Positions.DECODE, lambda *_: None))
    for positions in map(Positions, arguments.positions):
        target = FrozenTarget(model, positions, cache)
        target.cache_prefixes(encoded.first)
        torch.manual_seed(settings.seed)
        backbone, tokenizer = load_backbone(default_backbone())
        source = AdaptiveVectors(GeneratorModule(backbone, target.n_rows, target.n_embd), tokenizer, 256)
        fit(positions, Trainer(source, target, settings), encoded.rows)
        job = TrainingJob(embedded_model(), [], positions=positions)
        spec = checkpoint_spec(job, target_file.spec, [], 256, settings.seed)
        save_checkpoint(work / f"{positions}", spec, source.generator.eval(), tokenizer)
        export(work / f"{positions}", work / f"{positions}-bundle", precisions="int8")
        generator = OnnxGenerator(Bundle(work / f"{positions}-bundle"), n_threads=2)
        name = f"atv-{positions}" + ("-instruction" if arguments.instruction else "")
        methods.append(Method(name, positions, of_query(generator)))
        if positions is Positions.DECODE and not arguments.instruction:
            means = averaged_vectors(source, encoded.first)
            methods.append(Method("averaged", positions, of_task(means)))
            learner = static_trainer([task.name for task in pool], target, settings)
            fit("per-task", learner, encoded.rows)
            assert isinstance(learner.source, StaticVectors)
            methods.append(Method("per-task", positions, of_task(learner.source)))
    return methods


def fit(name: str, trainer: Trainer, rows: Sequence[Sequence[Example]]) -> None:
    """Train to the end, saying how it goes."""
    for metrics in trainer.epochs(rows, ()):
        print(name, {key: round(value, 3) for key, value in metrics.items()}, file=sys.stderr, flush=True)


def query_of(instruction: bool) -> Callable[[Task, Row], str]:
    """What the models read of a row."""
    return (lambda task, row: conversation(task, 0, (), row)[0]["content"]) if instruction else lambda _, row: row.input


def of_query(generator: OnnxGenerator) -> Callable[[str, str], TaskVector | None]:
    """The vector of a query, whatever its task."""
    return lambda _, query: generator(query)


def of_task(static: StaticVectors) -> Callable[[str, str], TaskVector | None]:
    """The vector of a task; None for one that was not trained on."""
    vectors = static.vectors.detach().float().numpy()
    return lambda task, _: TaskVector(vectors[static.names[task]]) if task in static.names else None


class Answers:
    """Greedy and restricted answers to one query under several vectors."""

    def __init__(self) -> None:
        self.target = Target(embedded_model(), n_ctx=N_CTX)
        self.format = self.target.prompts

    def begin(self, query: str, vector: TaskVector | None, positions: Positions) -> None:
        """Evaluate the prompt; its unsteered part only if the cache does not have it."""
        prompt = self.format(query)
        shared, own = prompt.tokens[: prompt.shared], prompt.tokens[prompt.shared : -1]
        if vector is not None and positions.prefix:
            self.target.reset()
            self.target.apply(vector)
            self.target.evaluate(prompt.tokens)
        else:
            self.target.prefill(shared, own)
            if vector is not None:
                self.target.apply(vector)
            self.target.evaluate(prompt.tokens[-1:])
        if not positions.generated:
            self.target.clear()

    def free(self) -> str:
        """What the target goes on to write."""
        text, logits = b"", self.target.logits()
        for _ in range(MAX_ANSWER):
            token = int(logits.argmax())
            if self.target.vocabulary.ends(token):
                break
            text += self.target.vocabulary.piece(token)
            logits = self.target.evaluate([token])
        return text.decode("utf-8", "replace")

    def choice(self, query: str, labels: Sequence[str]) -> str:
        """What it writes when every token must continue one of the labels, as it was trained to write them."""
        options = [self.format.answer(query, label) for label in labels]
        first = self.target.logits()
        return labels[restricted(options, lambda written: self.target.evaluate(written[-1:]) if written else first)]


def answers(methods: list[Method], rows: list[tuple[str, str, int, Row]]) -> Iterator[dict[str, object]]:
    """A line for each row and method, in the form of `benchmarks.prompted`."""
    answering = Answers()
    for group, task, index, row in rows:
        for method in methods:
            vector = method.vector(task, row.input)
            if vector is None and method.name != "none":
                continue
            answering.begin(row.input, vector, method.positions)
            text = answering.free()
            answering.begin(row.input, vector, method.positions)
            choice = answering.choice(row.input, row.choices)
            yield {
                **{"method": method.name, "group": group, "task": task, "wording": 0, "index": index, "shots": 0},
                **{"free": says(text, row.choices) == row.output, "choice": choice == row.output, "answer": text},
                **{"tokens": len(answering.format(row.input).tokens), "dropped": 0},
            }


def main() -> None:
    """Train, then answer the test rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of tasks; by default $ATV_TASKS")
    parser.add_argument("--rows", type=int, default=150, help="test rows per task")
    parser.add_argument("--seed", type=int, default=42, help="draws the training rows")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--positions", nargs="+", choices=[p.value for p in Positions], default=["decode", "last"])
    parser.add_argument("--instruction", action="store_true", help="the task's first wording instead of the bare query")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        methods = train(arguments, Path(work))
    tasks = [
        task for group in ("atv20", "unseen_dev") for task in load(group, "test", arguments.rows, 0, arguments.data)
    ]
    asking = query_of(arguments.instruction)
    rows = [
        (task.group, task.name, index, row._replace(input=asking(task, row)))
        for task in tasks
        for index, row in enumerate(task.rows)
    ]
    rows.sort(key=lambda row: row[2])  # row 0 of every task first: an interrupted run is a fair sample
    with arguments.output.open("a", encoding="utf-8") as file:
        for line in answers(methods, rows):
            file.write(json.dumps(line | {"seed": arguments.seed}) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
