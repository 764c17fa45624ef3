"""`atv-local chat`: a conversation in which each turn is steered by a vector of its own."""

from __future__ import annotations

from atv_cli import options
from atv_cli.constraint_options import ConstraintOptions


def chat(
    *,
    model: options.ModelOption = None,
    bundle: options.BundlesOption = None,
    steering: options.SteeringOptions,
    off: options.OffOption = False,
    vectors: options.ControlVectorOptions,
    told: options.TaskOptions,
    sampling: options.SamplingOptions,
    constraint: ConstraintOptions,
    performance: options.EngineOptions,
) -> None:
    """Hold a conversation in which each turn is steered by its own task vector.

    Type /? in a chat for its commands. In a pipe, each line of the input is a turn, and stdout has the answers only.
    """
    from atv_cli.chat import run_chat
    from atv_cli.load_engine import check_task_options, load_engine
    from atv_local.answer import Conversation

    settings = told.arguments() | sampling.arguments() | constraint.arguments()
    check_task_options(told, off=off)
    engine, how = load_engine(model, bundle, steering, off, vectors, performance)
    run_chat(Conversation(engine, steering=how, **settings))
