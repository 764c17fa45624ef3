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
            "--epochs", metavar="N", min=0, help="Train for this many epochs; 0 chooses by the number of rows."
        ),
    ] = 0
    batch_size: Annotated[
        int,
        Panel.TRAINING.option(
            "--batch-size",
            metavar="N",
            min=0,
            help="Use this many rows per step and process; 0 chooses by the number of rows.",
        ),
    ] = 0
    learning_rate: Annotated[
        float | None,
        Panel.TRAINING.option(
            "--learning-rate",
            metavar="FLOAT",
            min=0,
            help="Set the learning rate of the expansion, the layer that writes vectors.",
            show_default="0.002, or 0.0004 with --from",
        ),
    ] = None
    backbone_learning_rate: Annotated[
        float | None,
        Panel.TRAINING.option(
            "--backbone-learning-rate",
            metavar="FLOAT",
            min=0,
            help="Set the learning rate of the backbone.",
            show_default="0.0001, or 0.00002 with --from",
        ),
    ] = None
    patience: Annotated[
        int,
        Panel.TRAINING.option(
            "--patience", metavar="N", min=1, help="Stop after this many epochs without an improvement in validation."
        ),
    ] = 4
    strength_range: Annotated[
        tuple[float, float],
        Panel.TRAINING.option(
            "--strength-range",
            metavar="MIN MAX",
            help="Train with random strengths from this range, so that run --strength can vary in it.",
            show_default="1 1, a fixed strength",
        ),
    ] = (1.0, 1.0)
    harmless: Annotated[
        float,
        Panel.TRAINING.option(
            "--harmless",
            metavar="FLOAT",
            min=0,
            help="Add a loss for changed answers to unrelated queries, with this weight.",
        ),
    ] = 0.0
    contrastive: Annotated[
        float,
        Panel.TRAINING.option(
            "--contrastive",
            metavar="FLOAT",
            min=0,
            help="Weigh the loss that draws queries of one task together, for the gate; 0 makes none.",
        ),
    ] = 0.3
    seed: Annotated[
        int,
        Panel.TRAINING.option(
            "--seed",
            metavar="N",
            min=0,
            max=(1 << 32) - 1,
            help="Use this seed for the order of rows and all random numbers.",
        ),
    ] = 0
