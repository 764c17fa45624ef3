"""What task vectors are compared with that changes the target: peft LoRA on its weights, or prefix tuning.

Trained on the same rows, prompts and answers, in PyTorch, where it is measured too: it is no longer the GGUF.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig, get_peft_model
from torch.nn.functional import cross_entropy

from atv_local.names import embedded_model
from atv_train import Example, TrainingMetrics, TrainingSettings, epoch_batches, mean_kl, pad
from atv_train.examples import padding_mask
from atv_train.frozen_target import load_target, target_dtype

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LORA_RATE = 1e-3
MAX_TOKENS = 8192 if DEVICE.type == "cuda" else 2560  # of one backward pass, padding included


class Lora:
    """peft LoRA on the target itself, trained and measured on the same examples.

    Args:
        settings: of training, less the learning rate.
        rate: learning rate.
        config: another LoRA, or prefix tuning.
    """

    def __init__(self, settings: TrainingSettings, rate: float = LORA_RATE, config: PeftConfig | None = None) -> None:
        torch.manual_seed(settings.seed)
        model = load_target(embedded_model(), target_dtype(DEVICE), DEVICE)
        self.half = model.dtype is torch.bfloat16
        config = config or LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
        self.n_prefix = config.num_virtual_tokens if isinstance(config, PrefixTuningConfig) else 0
        self.model = get_peft_model(model, config)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        self.optimizer = torch.optim.AdamW(trained, lr=rate, fused=True)
        self.settings, self.rate = settings, rate

    def epochs(self, rows: Sequence[Sequence[Example]]) -> Iterator[float]:
        """Train on all rows with a cosine schedule; the mean loss of each epoch."""
        settings, done = self.settings, 0
        total = settings.epochs * math.ceil(len(rows) / settings.batch_size)
        for epoch in range(settings.epochs):
            losses = []
            for batch in epoch_batches(rows, settings.batch_size, settings.seed, epoch):
                losses.append(self.step(batch, 0.5 + 0.5 * math.cos(math.pi * done / total)))
                done += 1
            yield sum(losses) / len(losses)

    def step(self, batch: Sequence[Example], factor: float = 1.0) -> float:
        """One update at `factor` times the learning rate; the loss."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, n_labels = 0.0, sum(len(example.answer) for example in batch)
        for part in bounded(batch, self.n_prefix):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.half):
                logits, labels = self.answer_logits(part)
            loss = cross_entropy(logits, labels, reduction="sum") / n_labels
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.rate
        self.optimizer.step()
        return total

    def answer_logits(self, batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the answer tokens alone, as in our loop."""
        rows = [example.prompt + example.answer[:-1] for example in batch]
        mask = padding_mask([len(row) for row in rows], DEVICE).long()
        inputs: dict[str, Any] = {"input_ids": pad(rows, 0, DEVICE), "attention_mask": mask}
        if self.n_prefix:
            before = mask.new_ones(len(rows), self.n_prefix)
            inputs["attention_mask"] = torch.cat([before, mask], dim=1)
            inputs["past_key_values"] = self.model.get_prompt(len(rows))
        base: Any = self.model.get_base_model()
        hidden = base.model(**inputs).last_hidden_state
        parts = [row[len(e.prompt) - 1 :][: len(e.answer)] for row, e in zip(hidden, batch, strict=True)]
        labels = torch.tensor([token for example in batch for token in example.answer], device=DEVICE)
        return base.lm_head(torch.cat(parts)).float(), labels

    def bounded_logits(self, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for any number of examples."""
        parts = [self.answer_logits(part) for part in bounded(examples, self.n_prefix)]
        return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])

    @torch.no_grad()
    def answers(self, prompts: Sequence[Sequence[int]], n_tokens: int, ends: Sequence[int]) -> list[list[int]]:
        """Greedy answers of at most so many tokens, with the one that ends them."""
        width = max(map(len, prompts))
        tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=DEVICE)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=DEVICE)
        model: Any = self.model.eval()
        found = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=n_tokens,
            do_sample=False,
            eos_token_id=list(ends),
            pad_token_id=ends[0],
        )
        return [answer[width:] for answer in found.tolist()]

    @torch.no_grad()
    def accuracy(self, examples: Sequence[Example]) -> float:
        """Share of rows whose greedy answer is exactly right."""
        self.model.eval()
        right = 0
        for start in range(0, len(examples), 16):
            batch = examples[start : start + 16]
            logits, labels = self.answer_logits(batch)
            hits = (logits.argmax(dim=-1) == labels).split([len(example.answer) for example in batch])
            right += sum(bool(hit.all()) for hit in hits)
        return right / len(examples)

    @torch.no_grad()
    def loss(self, examples: Sequence[Example]) -> float:
        """Per answer token, as `Validator.evaluate` measures one task."""
        self.model.eval()
        found = (self.answer_logits(examples[start : start + 16]) for start in range(0, len(examples), 16))
        total = sum(float(cross_entropy(logits, labels, reduction="sum")) for logits, labels in found)
        return total / sum(len(example.answer) for example in examples)

    @torch.no_grad()
    def harm(self, examples: Sequence[Example]) -> TrainingMetrics:
        """What it does to unrelated queries, as `Trainer.harm` measures it."""
        self.model.eval()
        changed, _ = self.answer_logits(examples)
        with self.model.disable_adapter():
            base, _ = self.answer_logits(examples)
        same = (base.argmax(dim=-1) == changed.argmax(dim=-1)).float().mean()
        return {"unrelated_kl": float(mean_kl(base, changed)), "unrelated_agreement": float(same)}


def bounded(batch: Sequence[Example], n_prefix: int = 0) -> Iterator[Sequence[Example]]:
    """A batch in parts whose activations fit the memory; their gradients add up to that of the whole.

    Args:
        n_prefix: tokens before each example.
    """

    def size(examples: Sequence[Example]) -> int:
        return len(examples) * (n_prefix + max(example.length for example in examples))

    start = 0
    while start < len(batch):
        end = start + 1
        while end < len(batch) and size(batch[start : end + 1]) <= MAX_TOKENS:
            end += 1
        yield batch[start:end]
        start = end
