"""The options of `train` that say how to optimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from atv_cli.help_pages import Panel


@dataclass(frozen=True)
class TrainingOptions:
    """How to optimise. The fields are options of `atv_train.train`."""

    epochs: Annotated[
        int,
        Panel.TRAINING.option(
            "--epochs", metavar="N", min=0, help="Pass over the rows this many times; 0 chooses by their number."
        ),
    ] = 0
    batch_size: Annotated[
        int,
        Panel.TRAINING.option(
            "--batch-size", metavar="N", min=0, help="Take this many rows per step and process; 0 chooses a number."
        ),
    ] = 0
    learning_rate: Annotated[
        float,
        Panel.TRAINING.option(
            "--learning-rate", metavar="FLOAT", min=0, help="Train the expansion with this learning rate."
        ),
    ] = 2e-3
    backbone_learning_rate: Annotated[
        float,
        Panel.TRAINING.option(
            "--backbone-learning-rate", metavar="FLOAT", min=0, help="Train the backbone with this learning rate."
        ),
    ] = 1e-4
    patience: Annotated[
        int,
        Panel.TRAINING.option(
            "--patience", metavar="N", min=1, help="Stop after this many epochs without a better validation."
        ),
    ] = 4
    strengths: Annotated[
        tuple[float, float],
        Panel.TRAINING.option(
            "--strengths", metavar="FLOAT FLOAT", help="Draw the strength of each row from this range."
        ),
    ] = (1.0, 1.0)
    harmless: Annotated[
        float,
        Panel.TRAINING.option(
            "--harmless", metavar="FLOAT", min=0, help="Weigh the loss for harm to unrelated queries by this factor."
        ),
    ] = 0.0
    contrastive: Annotated[
        float,
        Panel.TRAINING.option(
            "--contrastive", metavar="FLOAT", min=0, help="Weigh the contrastive loss between tasks by this factor."
        ),
    ] = 0.0
    seed: Annotated[
        int,
        Panel.TRAINING.option(
            "--seed",
            metavar="N",
            min=0,
            max=(1 << 32) - 1,
            help="Shuffle the rows and draw random numbers by this seed.",
        ),
    ] = 0
