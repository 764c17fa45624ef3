"""Questions as trees of token runs, and what the branches say as outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from atv_local.answer import Finish, choose_answer
from atv_local.batch.question import BatchQuestion, Outcome
from atv_local.batch.token_tree import Branch, Tree
from atv_local.target import GrammarState, Sampler, Sampling, Vocabulary


def tree_of(question: BatchQuestion, vocabulary: Vocabulary, max_tokens: int, *, keep: bool = False) -> Tree:
    """The runs to evaluate for a question.

    What its ways have in common is evaluated once: the prompt without its last token, except for ways that steer all
    of it.

    Args:
        question: without `error`.
        vocabulary: of the target.
        max_tokens: to write, as far as the context has room.
        keep: keep the distributions before the tokens of options.
    """
    prompt = question.prompt
    after_shared: list[Branch] = []
    from_start: list[Branch] = []
    *prefix, last = prompt.tokens
    for way in question.ways:
        after = way.rows if way.steering.positions.generated else None
        prompt_rows = way.prompt_rows if prefix else None
        begins = way.from_start and prompt_rows is None
        head = Branch(
            prompt.tokens if begins else (last,),
            way.rows,
            children=[Branch(option, after, scored=True, keep=keep) for option in question.options],
            from_start=begins,
            max_tokens=max_tokens,
            after=after,
            sampler=_sampler(question, vocabulary),
            enough=question.enough,
        )
        if prompt_rows is not None:
            head = Branch(prefix, prompt_rows, children=[head], from_start=True)
        (from_start if way.from_start else after_shared).append(head)
    if after_shared and (own := prefix[prompt.shared :]):
        after_shared = [Branch(own, children=after_shared)]
    shared = tuple(prefix[: prompt.shared]) if after_shared else ()
    return Tree(shared, [*after_shared, *from_start], tag=question)


def heads_of(tree: Tree) -> list[Branch]:
    """The branches that end with the prompt's last token, in the order of the question's ways."""
    question: BatchQuestion = tree.tag
    after_shared = iter([head for top in tree.branches if not top.from_start for head in _heads(top)])
    from_start = iter([head for top in tree.branches if top.from_start for head in _heads(top)])
    return [next(from_start if way.from_start else after_shared) for way in question.ways]


def trees_of(
    question: BatchQuestion, tree_of_part: Callable[[BatchQuestion], Tree], fits: Callable[[Tree], bool]
) -> list[Tree]:
    """The question as one tree, or as several if one has more branches or tokens than fit at a time."""
    left, trees = [question], []
    while left:
        part = left.pop()
        tree = tree_of_part(part)
        halves = () if tree.error or fits(tree) else _halves(part)
        left += reversed(halves)
        trees += [] if halves else [tree]
    return trees


def _sampler(question: BatchQuestion, vocabulary: Vocabulary) -> Sampler | None:
    sampling = question.sampling or Sampling()
    if question.grammar is not None:
        return Sampler(sampling, GrammarState(question.grammar, vocabulary))
    return Sampler(sampling) if sampling.temperature > 0 else None


def outcomes_of(question: BatchQuestion, trees: Sequence[Tree], vocabulary: Vocabulary) -> tuple[Outcome, ...]:
    """The outcomes of a question that was evaluated in one or several trees, in the order of its ways.

    Args:
        question: as a whole.
        trees: at least one, with results.
        vocabulary: of the target.
    """
    outcomes: list[Outcome] = []
    for tree in trees:
        part: BatchQuestion = tree.tag
        found = [_outcome(part, head, vocabulary) for head in heads_of(tree)]
        if part.more_options:
            before, (more,) = outcomes.pop(), found
            options, greedy = before.options + more.options, before.greedy + more.greedy
            found = [replace(before, options=options, greedy=greedy)]
        outcomes += found
    return tuple(_chosen(question, outcome) if question.choices else outcome for outcome in outcomes)


def _chosen(question: BatchQuestion, outcome: Outcome) -> Outcome:
    choice, probabilities = choose_answer(question.choices, outcome.options, question.sampling)
    *tokens, _ = question.options[question.choices.index(choice)]
    return replace(outcome, text=choice, tokens=tuple(tokens), finish_reason=Finish.STOP, probabilities=probabilities)


def _halves(question: BatchQuestion) -> tuple[BatchQuestion, ...]:
    """Two questions that ask the same: with half the ways each, or of one way half the options; none if neither."""
    if (middle := len(question.ways) // 2) and not question.more_options:
        return replace(question, ways=question.ways[:middle]), replace(question, ways=question.ways[middle:])
    if middle := len(question.options) // 2:
        first, second = question.options[:middle], question.options[middle:]
        return replace(question, options=first), replace(question, options=second, max_tokens=0, more_options=True)
    return ()


def _outcome(question: BatchQuestion, head: Branch, vocabulary: Vocabulary) -> Outcome:
    finish = None
    if question.max_tokens:
        longest = len(head.written) == question.max_tokens
        finish = Finish.STOP if head.ended else Finish.LENGTH if longest else Finish.CONTEXT
    options = tuple(sum(child.logprobs) for child in head.children)
    greedy = tuple(all(child.greedy) for child in head.children)
    text = vocabulary.text(head.written, special=False)
    if question.prompt.begins_text:
        text = text.removeprefix(" ")
    return Outcome(text, tuple(head.written), finish, options, greedy)


def _heads(top: Branch) -> list[Branch]:
    """The branches below one, itself included, after which an answer or an option begins."""
    return [
        branch
        for branch in top.walk()
        if not branch.scored and (branch.max_tokens or any(child.scored for child in branch.children))
    ]
