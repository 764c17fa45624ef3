"""What is read for a query: the query alone, or after the instruction of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from atv_local.answer.queries import check_text
from atv_local.answer.router import Route, Router
from atv_local.data import MAX_INSTRUCTION_CHARS, tell, with_choices
from atv_local.errors import UsageError
from atv_local.text import shown, some_of
from atv_local.vectors import Steering


@dataclass(frozen=True)
class Asked:
    """A query as it is read.

    Attributes:
        text: what generator and target read.
        steering: how the answer is steered. Where somebody said what is asked, the gate does not decide.
        instruction: what comes before the query in `text`, None for the query alone.
        route: the vector and the decision of the gate, where they are known already.
        route_ms: the milliseconds that took.
    """

    text: str
    steering: Steering
    instruction: str | None = None
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
) -> Asked:
    """What is read for a query; see `Engine.asked`.

    Args:
        query: the user's words, not empty.
        router: of the bundles, None without one.
        steering: as it is wanted.
        task: of the bundle.
        instruction: in words.
        choices: allowed answers.

    Raises:
        UsageError: as `said_instruction`.
    """
    instructions = router.instructions if router else {}
    said = said_instruction(task, instruction, choices, instructions)
    started = perf_counter()
    if said is not None:
        text, how = tell(said, query), replace(steering, gate=0.0)
        unlike = None if task is not None or router is None or steering.off else router.route_of_words(text)
        return Asked(text, how, said, unlike, 1000 * (perf_counter() - started))
    if router is None or router.only_instruction is None or steering.off:
        return Asked(query, steering)
    only = router.only_instruction
    route = router.route(tell(only, query), steering.gate)
    milliseconds = 1000 * (perf_counter() - started)
    if route.accepted:
        return Asked(tell(only, query), steering, only, route, milliseconds)
    return Asked(query, steering, None, route, milliseconds)


def said_instruction(
    task: str | None, instruction: str | None, choices: Sequence[str], known: Mapping[str, str]
) -> str | None:
    """The instruction of a task by its name, or one in words with the answers that it allows; None for neither.

    Args:
        task: one of `known`.
        instruction: what to do, in words.
        choices: allowed answers, which are listed after an instruction in words.
        known: the instructions of the bundle's tasks.

    Raises:
        UsageError: both, a task that is not known, or an instruction that is blank, too long or no text.
    """
    if task is not None and instruction is not None:
        raise UsageError("`task` names an instruction of the bundle, so leave out either `task` or `instruction`")
    if task is not None:
        check_text("`task`", task)
        if task not in known:
            are = f"are {some_of([*known])}" if known else "have no instructions, so none can be named"
            raise UsageError(f"`task` {shown(task)} is not one of the bundle's tasks, which {are}")
        return known[task]
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
