"""Scores of one text beside its references, from 0 to 1; the best reference counts."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def text_exact(answer: str, references: Sequence[str]) -> float:
    """1 if the answer is a reference to the letter, with any white space for any other."""
    return float(" ".join(answer.split()) in {" ".join(reference.split()) for reference in references})


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the words in common, as SQuAD counts them: without case, punctuation and English articles.

    Where nothing is left of a text, such as the answer `a`, all its words count as they are.
    """
    return max(_overlap(_words(answer, reference), _words(reference, reference)) for reference in references)


def chrf(answer: str, references: Sequence[str]) -> float:
    """ChrF2 of sacrebleu."""
    return float(_chrf().sentence_score(answer, list(references)).score) / 100


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F-measure of ROUGE-L from rouge-score, which reads ASCII letters and digits alone."""
    return float(_rouge().score_multi(list(references), answer)["rougeL"].fmeasure)


def _words(text: str, reference: str) -> list[str]:
    return _normalised(text).split() if _normalised(reference) else text.lower().split()


def _normalised(text: str) -> str:
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def _overlap(answer: Sequence[str], reference: Sequence[str]) -> float:
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference)) if common else 0.0


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])
