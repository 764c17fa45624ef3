"""The folder of a run. Every file in it is written whole or not at all.

- `run.json`: the job, with which resuming needs no other option, and warnings about the rows
- `metrics.jsonl`: one line per epoch; `curves.png`: the same as a picture, where matplotlib is installed
- `samples.jsonl`: answers to validation rows after each epoch, beside the wanted ones
- `checkpoint/`: the best epoch
- `state.safetensors`: the last step, to continue from
- `replay.jsonl`: rows for later runs that start from this one
- `baselines/`: with `baselines`, their metrics, and static vectors as llama.cpp control-vector GGUFs
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from atv_local.data import Row, replacing, replacing_folder
from atv_local.generator import MAX_METRICS, Spec
from atv_train.job import RunRecord
from atv_train.replay import save_replay
from atv_train.run_folder.checkpoint import save_checkpoint
from atv_train.run_folder.curves import draw_curves
from atv_train.run_folder.run_record import CHECKPOINT, CURVES, METRICS, RUN, SAMPLES, STATE
from atv_train.run_folder.saved_state import save_state
from atv_train.trainer import SampleAnswer, Trainer, TrainingMetrics
from atv_train.vector_sources import AdaptiveVectors


class RunFolder:
    """Writes a run. An earlier run at the same path stays until this one has something to save.

    Args:
        kept: training and validation rows to keep, if any.
        begun: whether the folder is already this run's.
        overwrite: whether an earlier run may be replaced, once this one has a checkpoint.
    """

    def __init__(
        self,
        path: Path,
        record: RunRecord,
        spec: Spec,
        kept: tuple[Sequence[Row], Sequence[Row]] | None = None,
        *,
        begun: bool,
        overwrite: bool = False,
    ) -> None:
        self.path, self.record, self.spec, self._begun, self._overwrite = path, record, spec, begun, overwrite
        self._kept = kept

    def save_epoch(self, trainer: Trainer) -> None:
        """After an epoch, save everything; the checkpoint only if the epoch is the best so far."""
        history = trainer.state.history
        if not self._begun:
            self._begin(trainer, history[-1])
        elif trainer.state.best is history[-1]:
            self._save_checkpoint(self.path, trainer, history[-1])
        with replacing(self.path / METRICS) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
        self._save_samples(history[-1]["epoch"], trainer.validator.samples)
        draw_curves(history, self.path / CURVES)
        save_state(self.path / STATE, trainer)  # last: an epoch that it does not have is trained, and saved, again

    def _save_samples(self, epoch: float, samples: Sequence[SampleAnswer]) -> None:
        """Add those of an epoch; an epoch that is trained again after a crash replaces its own."""
        if not samples:
            return
        file = self.path / SAMPLES
        before = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        before = [line for line in before if json.loads(line)["epoch"] < epoch]
        with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as opened:
            opened.writelines(before)
            for sample in samples:
                record = {name: value for name, value in asdict(sample).items() if value or name != "references"}
                opened.write(json.dumps({"epoch": int(epoch)} | record, ensure_ascii=False) + "\n")

    def save_state(self, trainer: Trainer) -> None:
        """Within an epoch, save what resuming needs, and a checkpoint if there is none yet."""
        metrics: TrainingMetrics = {"epoch": round(trainer.epochs_done, 2)}
        if not self._begun:
            self._begin(trainer, metrics)
        elif not trainer.state.history:  # else the best epoch's stands
            self._save_checkpoint(self.path, trainer, metrics)
        save_state(self.path / STATE, trainer)

    def _save_checkpoint(self, folder: Path, trainer: Trainer, metrics: TrainingMetrics) -> None:
        measured = {"epochs": metrics["epoch"], "metrics": dict(islice(metrics.items(), MAX_METRICS))}
        spec = self.spec.model_copy(update={"provenance": self.spec.provenance.model_copy(update=measured)})
        if isinstance(source := trainer.source, AdaptiveVectors):
            save_checkpoint(folder / CHECKPOINT, spec, source.merged(), source.tokenizer)

    def _begin(self, trainer: Trainer, metrics: TrainingMetrics) -> None:
        with replacing_folder(self.path, marker=RUN, overwrite=self._overwrite) as temporary:
            (temporary / RUN).write_text(self.record.model_dump_json(indent=2) + "\n", encoding="utf-8")
            self._save_checkpoint(temporary, trainer, metrics)
            if self._kept is not None:
                save_replay(temporary, *self._kept, self.record.job.settings.seed)
        self._begun = True
