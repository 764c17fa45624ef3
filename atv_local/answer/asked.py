"""What is read for a query: the query alone, or after the instruction of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from atv_local.answer.queries import check_text
from atv_local.answer.router import Route, Router
from atv_local.data import MAX_INSTRUCTION_CHARS, tell, with_choices
from atv_local.errors import UsageError
from atv_local.generator import TaskSpec
from atv_local.text import shown, some_of
from atv_local.vectors import GATES, Steering


@dataclass(frozen=True)
class Asked:
    """A query as it is read.

    Attributes:
        text: what generator and target read.
        steering: how the answer is steered. The gate of a bundle that was trained with instructions does not decide
            where somebody said what is asked, unless a score was set or `route` has its decision.
        instruction: what comes before the query in `text`, None for the query alone.
        task: of the bundle, whose instruction that is.
        route: the vector and the decision of the gate, where they are known already.
        route_ms: the milliseconds that took.
    """

    text: str
    steering: Steering
    instruction: str | None = None
    task: str | None = None
    route: Route | None = None
    route_ms: float = 0.0

    @property
    def static(self) -> bool:
        """Whether the bundle's static vector steers."""
        return self.route is not None and self.route.static


def ask(
    query: str,
    router: Router | None,
    steering: Steering,
    *,
    task: str | None = None,
    instruction: str | None = None,
    choices: Sequence[str] = (),
    listed: Sequence[str] = (),
) -> Asked:
    """What is read for a query; see `Engine.asked`.

    Args:
        query: the user's words, not empty.
        router: of the bundles, None without one.
        steering: as it is wanted.
        task: of the bundle.
        instruction: in words.
        choices: allowed answers, of which the answer is one.
        listed: allowed answers that are only said.

    Raises:
        UsageError: as `said_instruction`.
    """
    started = perf_counter()
    allowed = choices or listed
    said = said_instruction(task, instruction, allowed, router.tasks if router else ())
    if said is not None:
        text, unlike = tell(said, query), None
        if router is not None and router.told and steering.gate == GATES["auto"]:
            steering = replace(steering, gate=GATES["off"])
            named = task is not None or steering.off
            unlike = None if named else router.route_of_words(text, restricted=bool(choices))
        return Asked(text, steering, said, task, unlike, 1000 * (perf_counter() - started))
    only = router.only_task if router else None
    told = only.told(allowed) if only else None
    if router is None or only is None or told is None or steering.off:
        return Asked(query, steering)
    route = router.route(tell(told, query), steering.gate)
    milliseconds = 1000 * (perf_counter() - started)
    if route.accepted:
        return Asked(tell(told, query), steering, told, only.name, route, milliseconds)
    return Asked(query, steering, None, None, route, milliseconds)


def said_instruction(
    task: str | None, instruction: str | None, choices: Sequence[str], tasks: Sequence[TaskSpec]
) -> str | None:
    """The instruction of a task by its name, or one in words, with the answers that it allows; None for neither.

    Args:
        task: the name of one of `tasks`.
        instruction: what to do, in words.
        choices: allowed answers, listed after it; of a task, in place of its own.
        tasks: of the bundle.

    Raises:
        UsageError: both, a task that is not known, or an instruction that is blank, too long or no text.
    """
    if task is not None and instruction is not None:
        raise UsageError("`task` names an instruction of the bundle, so leave out either `task` or `instruction`")
    if task is not None:
        check_text("`task`", task)
        told = {one.name: said for one in tasks if (said := one.told(choices))}
        if task not in told:
            are = f"are {some_of([*told])}" if told else "have no instructions, so none can be named"
            raise UsageError(f"`task` {shown(task)} is not one of the bundle's tasks, which {are}")
        return told[task]
    if instruction is None:
        return None
    check_text("`instruction`", instruction)
    if not instruction.strip():
        raise UsageError("`instruction` is blank; leave it out")
    if len(instruction) > MAX_INSTRUCTION_CHARS:
        raise UsageError(
            f"`instruction` has {len(instruction)} characters, more than {MAX_INSTRUCTION_CHARS}; put texts to work on "
            "into the query"
        )
    return with_choices(instruction.strip(), choices)
