"""What `benchmarks.held_out` compares: ways to make a task vector for a task that is told in words, and rivals."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atv_eval import balanced
from atv_local.data import Row, tell, with_choices
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_local.vectors import Positions
from atv_train import Example, Trainer, TrainingSettings, default_backbone, encode, mean_kl, static_trainer
from atv_train.frozen_target import FrozenTarget, PrefixCache, load_target, target_dtype
from atv_train.vector_sources import AdaptiveVectors, GeneratorModule, StaticVectors, VectorSource, load_backbone
from benchmarks.forced import Asked, Logits, steered, unsteered
from benchmarks.lora import DEVICE, Lora
from benchmarks.lora_answers import RATE
from benchmarks.study_variants import States

RANK, N_SHOTS, N_NEAREST = 32, 16, 3
N_CTX = 4096
_CACHE_BYTES = 0 if DEVICE.type == "cuda" else 8 << 30  # a GPU is as fast without
_QUERY_TOKENS, _ROW_TOKENS = 256, 1024


@dataclass(frozen=True)
class Learner:
    """Rows to learn from, and how.

    Args:
        rows: of the training tasks, each with its instruction and allowed answers.
        pools: rows of every task to show, those that are left out too.
        instructions: by task.
    """

    rows: Sequence[Row]
    pools: Mapping[str, Sequence[Row]]
    instructions: Mapping[str, str]
    settings: TrainingSettings

    @cached_property
    def target(self) -> FrozenTarget:
        """What is steered."""
        model = load_target(embedded_model(), target_dtype(DEVICE), DEVICE)
        return FrozenTarget(model, Positions.DECODE, PrefixCache(_CACHE_BYTES))

    @cached_property
    def prompts(self) -> Any:
        """The form of the target's prompts."""
        return TargetFile.open(embedded_model()).prompts

    def told(self, row: Row) -> str:
        """What is asked for a row."""
        return tell(with_choices(row.instruction, row.choices), row.input)

    def encoded(self, rows: Sequence[Row], *, told: bool = True) -> list[list[Example]]:
        """Rows for training."""
        texts = [row.model_copy(update={"input": self.told(row) if told else row.input}) for row in rows]
        plain = [row.model_copy(update={"instruction": None, "choices": None}) for row in texts]
        return encode(plain, self.prompts, _ROW_TOKENS).rows

    def asked(self, row: Row, *, shots: int = 0, told: bool = True) -> Asked:
        """A test row and its allowed answers.

        Args:
            shots: how many rows of its task come before it.
            told: whether the prompt has the instruction; the generator reads it anyway.
        """
        text = self.told(row)
        if shots:
            prompt, answer = self._after_shots(row, shots)
        else:
            prompt, answer = self.prompts.example(text if told else row.input, row.output)
        options = tuple(self.prompts.answer(text, choice) for choice in row.choices or ())
        right = row.choices.index(row.output) if row.choices else -1
        return Asked(Example(0, text, row.task, prompt, answer), options, right)

    def _after_shots(self, row: Row, shots: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a prompt with demonstrations and of its answer. The instruction is said once, with the choices of
        the row."""
        shown = balanced([one for one in self.pools[row.task] if one.input != row.input], shots, self.settings.seed)
        while True:
            first, *others = [one.input for one in (*shown, row)]
            texts = [tell(with_choices(row.instruction, row.choices), first), *others]
            turns = [(text, one.output) for text, one in zip(texts, shown, strict=False)]
            form = self.prompts.after(turns=turns) if turns else self.prompts
            prompt, answer = form.example(texts[-1], row.output)
            if len(prompt) + len(answer) <= N_CTX:
                return prompt, answer
            del shown[0]

    def generator(self, static_share: float = 0.25) -> AdaptiveVectors:
        """One that is not trained."""
        torch.manual_seed(self.settings.seed)
        backbone, tokenizer = load_backbone(default_backbone())
        module = GeneratorModule(backbone, self.target.n_rows, self.target.n_embd, rank=RANK)
        source = WithStaticShare(module, tokenizer, _QUERY_TOKENS)
        source.static_share = static_share
        return source.to(DEVICE)

    def trained(self, source: VectorSource, rows: Sequence[Sequence[Example]], **settings: Any) -> VectorSource:
        """A source, trained."""
        return _finished(Trainer(source, self.target, replace(self.settings, **settings)), rows)


@dataclass(frozen=True)
class Answering:
    """How a method answers test rows."""

    logits: Logits
    shots: int = 0
    told: bool = True
    target: FrozenTarget | None = None
    """What caches the prompts, where other methods ask the same."""


def base(learner: Learner) -> dict[str, Answering]:
    """The target as it is, with the instruction alone and with rows of the task itself."""
    logits = unsteered(learner.target)
    return {"base": Answering(logits, target=learner.target), "16-shot": Answering(logits, shots=N_SHOTS)}


def static(learner: Learner) -> dict[str, Answering]:
    """One learned vector for all tasks; and for each task its own, of which a query has the mean of those whose
    instructions are most like it, as a backbone reads them that is not trained."""
    rows = learner.encoded(learner.rows)
    tasks = sorted({row.task for row in learner.rows})
    found: dict[str, Answering] = {}
    for name, names in (("static", ["static"]), ("nearest tasks", tasks)):
        source: VectorSource = _finished(static_trainer(names, learner.target, learner.settings), rows)
        if len(names) > 1:
            source = NearestTasks(source, learner.instructions, learner.generator())
        found[name] = Answering(steered(learner.target, source), target=learner.target)
    return found


def adaptive(learner: Learner) -> dict[str, Answering]:
    """The generator with the static share of `general`, and its own static vector."""
    source = learner.trained(learner.generator(), learner.encoded(learner.rows))
    alone = StaticVectors(["static"], learner.target.vector_shape).to(DEVICE)
    alone.vectors.data.copy_(_out(source).bias.detach().unflatten(0, learner.target.vector_shape))
    ways = {"generator": source, "generator's static": alone}
    return {name: Answering(steered(learner.target, way), target=learner.target) for name, way in ways.items()}


def static_first(learner: Learner) -> dict[str, Answering]:
    """The static vector is learned by itself; then the generator learns what to add to it."""
    rows = learner.encoded(learner.rows)
    first = _finished(static_trainer(["static"], learner.target, learner.settings), rows)
    assert isinstance(first, StaticVectors)
    source = learner.generator(0.0)
    bias = _out(source).bias
    bias.data.copy_(first.vectors.detach().flatten())
    bias.requires_grad_(False)
    return _one(learner, "static first", source, rows)


def without_static_share(learner: Learner) -> dict[str, Answering]:
    """Every row trains the vectors of queries."""
    return _one(learner, "no static share", learner.generator(0.0), learner.encoded(learner.rows))


def bare_prompts(learner: Learner) -> dict[str, Answering]:
    """Only the generator reads the instruction."""
    bare = {row[0].index: row[0] for row in learner.encoded(learner.rows, told=False)}
    both = [[replace(bare[row[0].index], query=row[0].query)] for row in learner.encoded(learner.rows)]
    source = learner.trained(learner.generator(), both)
    return {"bare prompts": Answering(steered(learner.target, source), told=False)}


def mixed(learner: Learner) -> dict[str, Answering]:
    """Every other row has no instruction."""
    told, plain = learner.encoded(learner.rows[::2]), learner.encoded(learner.rows[1::2], told=False)
    return _one(learner, "told and untold", learner.generator(), _numbered([*told, *plain]))


def numbered_choices(learner: Learner) -> dict[str, Answering]:
    """Half of the rows with allowed answers ask for the number of one, so that the list has to be read."""
    draw = random.Random(learner.settings.seed)
    rows = [_by_number(row) if row.choices and draw.random() < 0.5 else row for row in learner.rows]
    return _one(learner, "numbered choices", learner.generator(), learner.encoded(rows))


def states(learner: Learner) -> dict[str, Answering]:
    """The target's own states of the prompt in place of a backbone."""
    source = States(learner.target).to(DEVICE)
    rows = learner.encoded(learner.rows)
    source.prepare([row[0] for row in rows])
    trained = learner.trained(source, rows, learning_rate=5e-4)

    def logits(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        source.prepare(examples)
        return steered(learner.target, trained)(examples)

    return {"target's states": Answering(logits)}


def distilled(learner: Learner) -> dict[str, Answering]:
    """Half of the loss is the distance to what the target answers with 16 rows of the task in its prompt."""
    rows = learner.encoded(learner.rows)
    pools: dict[str, list[Row]] = {}
    for row in learner.rows:
        pools.setdefault(row.task, []).append(row)
    taught = replace(learner, pools=pools)  # of the rows that the others learn from, and no more
    teachers = {row[0].index: taught.asked(learner.rows[row[0].index], shots=N_SHOTS).example for row in rows}
    trainer = Distiller(learner.generator(), learner.target, learner.settings)
    trainer.teachers = teachers
    source = _finished(trainer, rows)
    return {"distilled": Answering(steered(learner.target, source), target=learner.target)}


def lora(learner: Learner) -> dict[str, Answering]:
    """One LoRA on the target's own weights, r=8, of all tasks."""
    tuned = Lora(learner.settings, rate=RATE)
    for _ in tuned.epochs(learner.encoded(learner.rows)):
        pass
    tuned.model.eval()
    return {"lora": Answering(tuned.answer_logits)}


METHODS: dict[str, Callable[[Learner], dict[str, Answering]]] = {
    "base": base,
    "static": static,
    "generator": adaptive,
    "lora": lora,
    "static-first": static_first,
    "no-static-share": without_static_share,
    "bare-prompts": bare_prompts,
    "mixed": mixed,
    "numbered": numbered_choices,
    "states": states,
    "distilled": distilled,
}


class WithStaticShare(AdaptiveVectors):
    """A generator of which a share of the rows, drawn anew at each step, trains the static vector alone: its bias."""

    static_share = 0.0

    def forward(self, examples: Sequence[Example]) -> Tensor:
        """From states of which some are zeros while it is trained."""
        pooled = self.pooled([example.query for example in examples])
        if self.training and self.static_share:
            pooled = pooled * (torch.rand(len(examples), 1, device=pooled.device) >= self.static_share)
        return self.generator.expand(pooled)


class NearestTasks(VectorSource):
    """The mean of learned vectors of the training tasks whose instructions are most like a query with its own."""

    def __init__(self, learned: VectorSource, instructions: Mapping[str, str], reader: AdaptiveVectors) -> None:
        super().__init__()
        assert isinstance(learned, StaticVectors)
        self.learned, self.reader = learned, reader.eval()
        self._tasks = _unit(self._read([instructions[name] for name in learned.names]))

    def forward(self, examples: Sequence[Example]) -> Tensor:
        """The nearest three."""
        alike = _unit(self._read([example.query for example in examples])) @ self._tasks.T
        nearest = alike.topk(min(N_NEAREST, len(self.learned.names)), dim=-1).indices
        return self.learned.vectors[nearest].mean(dim=1)

    @torch.no_grad()
    def _read(self, texts: Sequence[str]) -> Tensor:
        return self.reader.pooled(texts)


class Distiller(Trainer):
    """Learns answers, and how likely the target finds them after demonstrations."""

    teachers: Mapping[int, Example]

    def losses(self, batch: Sequence[Example], number: int) -> tuple[Tensor, Tensor]:
        """Half of the cross-entropy and half of the distance, of the same vectors."""
        torch.manual_seed(number)
        with torch.autocast(self.target.device.type, torch.bfloat16, enabled=self.target.dtype is torch.bfloat16):
            vectors = self.source(batch)
        logits, labels = self.target.answer_logits(batch, vectors)
        with torch.no_grad():
            shown = [self.teachers[example.index] for example in batch]
            wanted, _ = self.target.answer_logits(shown, self.target.zeros(len(shown)))
        return cross_entropy(logits, labels) / 2, mean_kl(wanted, logits) / 2


def _finished(trainer: Trainer, rows: Sequence[Sequence[Example]]) -> VectorSource:
    for _ in trainer.epochs(rows, ()):
        pass
    return trainer.source


def _out(source: VectorSource) -> nn.Linear:
    """The last map of a generator's expansion, whose bias all vectors have in common."""
    assert isinstance(source, AdaptiveVectors)
    assert isinstance(source.generator.expansion, nn.Sequential)
    return cast("nn.Linear", source.generator.expansion[-1])


def _one(learner: Learner, name: str, source: VectorSource, rows: Sequence[Sequence[Example]]) -> dict[str, Answering]:
    return {name: Answering(steered(learner.target, learner.trained(source, rows)), target=learner.target)}


def _numbered(rows: Sequence[Sequence[Example]]) -> list[list[Example]]:
    return [[replace(example, index=index) for example in row] for index, row in enumerate(rows)]


def _by_number(row: Row) -> Row:
    """The row with its allowed answers numbered, of which the number is wanted."""
    assert row.choices is not None
    listed = ", ".join(f"{number}: {choice}" for number, choice in enumerate(row.choices, 1))
    said = f"{row.instruction}\nAnswer with the number of one of these: {listed}."
    right = str(row.choices.index(row.output) + 1)
    return row.model_copy(update={"instruction": said, "choices": None, "output": right})


def _unit(states: Tensor) -> Tensor:
    return torch.nn.functional.normalize(states.float(), dim=-1)
