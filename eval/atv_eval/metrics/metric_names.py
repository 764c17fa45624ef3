"""The metrics by name. It imports nothing heavy, for the command line."""

from __future__ import annotations

from enum import StrEnum


class Metric(StrEnum):
    """Ways to score answers; each value is from 0 to 1. With several right answers the best one counts."""

    EXACT = "exact"
    CHOICE = "choice"
    MACRO_F1 = "macro_f1"
    TOKEN_F1 = "token_f1"
    CHRF = "chrf"
    BLEU = "bleu"
    ROUGE_L = "rouge_l"
    JSON_VALID = "json_valid"
    SLOT_F1 = "slot_f1"

    @property
    def of_rows(self) -> bool:
        """Whether each row has a score, of which the metric is the mean. Two metrics are of all rows together."""
        return self not in (Metric.MACRO_F1, Metric.BLEU)

    @property
    def heading(self) -> str:
        """As tables call it."""
        return _HEADINGS[self]


_HEADINGS = {
    Metric.EXACT: "exact match",
    Metric.CHOICE: "among the choices",
    Metric.MACRO_F1: "macro-F1",
    Metric.TOKEN_F1: "token F1",
    Metric.CHRF: "chrF",
    Metric.BLEU: "BLEU",
    Metric.ROUGE_L: "ROUGE-L",
    Metric.JSON_VALID: "valid JSON",
    Metric.SLOT_F1: "slot F1",
}
