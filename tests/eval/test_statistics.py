"""Intervals cover the true value as often as they say, also near 0 and 1; scores and tests are the textbook's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

# scipy and scikit-learn are imported where they are used: every worker reads this file
from atv_eval.statistics import difference, macro_f1, mcnemar, mean_over_tasks, permutation

EDGES = (0.02, 0.5, 0.98)
Rng = np.random.Generator


def rows(n: int, right: int) -> NDArray[np.float64]:
    return (np.arange(n) < right).astype(np.float64)


def drawn(rng: Rng, n: int, p: float) -> NDArray[np.float64]:
    return rng.binomial(1, p, n).astype(np.float64)


@pytest.mark.parametrize("n", [1, 2, 30, 111, 150])
def test_the_interval_of_one_task_is_wilsons(n: int) -> None:
    from scipy.stats import binomtest

    for right in range(n + 1):
        estimate = mean_over_tasks({"a": rows(n, right)})
        low, high = binomtest(right, n).proportion_ci(method="wilson")
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((right / n, low, high), abs=1e-12)


@pytest.mark.parametrize("p", EDGES)
@pytest.mark.parametrize("n", [30, 111, 150])
def test_coverage_of_one_task(p: float, n: int) -> None:
    """Exact: the probability of all counts whose interval holds `p`."""
    from scipy.stats import binom

    held = [k for k in range(n + 1) if (e := mean_over_tasks({"a": rows(n, k)})).low <= p <= e.high]
    assert 0.93 <= binom.pmf(held, n, p).sum() <= 0.99


@pytest.mark.parametrize(
    "shares", [(0.02, 0.02, 0.02), (0.5, 0.5, 0.5), (0.98, 0.98, 0.98), (0.02, 0.5, 0.98), (0.0, 0.7, 1.0)]
)
@pytest.mark.parametrize("n", [30, 150])
def test_coverage_of_a_mean_over_tasks(shares: Sequence[float], n: int) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        estimate = mean_over_tasks({str(task): drawn(rng, n, p) for task, p in enumerate(shares)})
        held += estimate.low <= np.mean(shares) <= estimate.high
    assert 360 <= held <= 399


@pytest.mark.parametrize("n", [2, 8])
def test_coverage_of_a_mean_over_many_small_tasks(n: int) -> None:
    rng, shares, held = np.random.default_rng(0), np.linspace(0.05, 0.9, 20), 0
    for _ in range(400):
        estimate = mean_over_tasks({str(p): drawn(rng, n, p) for p in shares})
        held += estimate.low <= shares.mean() <= estimate.high
    assert 360 <= held <= 395


@pytest.mark.parametrize("p", EDGES)
def test_coverage_of_rows_that_are_means_over_seeds(p: float) -> None:
    """Rows differ in how hard they are, so that the seeds of a row agree more than chance."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        hard = rng.beta(2 * p, 2 * (1 - p), 150)
        estimate = mean_over_tasks({"a": rng.binomial(3, hard) / 3})
        held += estimate.low <= p <= estimate.high
    assert 360 <= held <= 399


@pytest.mark.parametrize(("wins", "losses"), [(0.02, 0.02), (0.5, 0.1), (0.9, 0.02), (0.0, 0.02)])
@pytest.mark.parametrize(("n_tasks", "n"), [(1, 111), (3, 111), (20, 2), (20, 8)])
def test_coverage_of_a_difference(wins: float, losses: float, n_tasks: int, n: int) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        draws = [rng.choice(3, n, p=[1 - wins - losses, wins, losses]) for _ in range(n_tasks)]
        ours = {str(task): (draw == 1) * 1.0 for task, draw in enumerate(draws)}
        theirs = {str(task): (draw == 2) * 1.0 for task, draw in enumerate(draws)}
        estimate = difference(ours, theirs)
        held += estimate.low <= wins - losses <= estimate.high
    assert held >= 368


def test_no_interval_is_a_point() -> None:
    for right in (0, 30):
        tasks = {"a": rows(30, right), "b": rows(60, 2 * right)}
        estimate = mean_over_tasks(tasks)
        assert estimate.value in (0, 1)
        assert 0.03 < estimate.high - estimate.low < 0.1
        assert estimate.low <= estimate.value <= estimate.high
    same = difference(tasks, tasks)
    assert same.value == 0
    assert -0.05 < same.low < -0.01 < 0.01 < same.high < 0.05
    assert same.p == 1
    every = difference({"a": np.ones(30)}, {"a": np.zeros(30)})
    assert (every.value, every.high) == (1, 1)
    assert 0.8 < every.low < 0.99
    for said in ("x", "y"):
        estimate = macro_f1(["x"] * 30, [said] * 30)
        assert estimate.value == (said == "x")
        assert 0.05 < estimate.high - estimate.low < 0.2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["x", "y", "z"]), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_f1_is_that_of_the_textbook(gold: list[str], random: Random) -> None:
    from sklearn.metrics import f1_score

    predicted = [random.choice(["x", "y", "z", None]) for _ in gold]
    labels = sorted(set(gold))
    wanted = f1_score(gold, [p or "?" for p in predicted], labels=labels, average="macro", zero_division=0)
    estimate = macro_f1(gold, predicted)
    assert estimate.value == pytest.approx(wanted)
    assert 0 <= estimate.low <= estimate.high <= 1


def test_p_and_interval_are_of_the_same_mean() -> None:
    """A long task where we lose and a short one where we win as much: their mean is 0, that of all rows is not."""
    ours = {"long": np.repeat([0.0, 1.0], [40, 160]), "short": np.repeat([1.0, 0.0], [4, 16])}
    theirs = {"long": np.ones(200), "short": np.repeat([0.0], 20)}
    found = difference({"long": ours["long"], "short": ours["short"]}, theirs)
    assert found.low < 0 < found.high
    assert found.p > 0.5


@pytest.mark.parametrize("behind", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("n", [30, 111, 1000])
def test_a_difference_of_shares_is_found_in_four_of_five_tries(behind: float, n: int) -> None:
    """That of rows where nothing differs in truth, when as many rows are lost and so many more are won."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(200):
        wins, losses, _ = map(int, rng.multinomial(n, [behind, behind, 1 - 2 * behind]))
        least = difference({"a": rows(n, wins)}, {"a": 1 - rows(n, n - losses)}).detectable
        assert least is not None
        wins, losses, _ = map(int, rng.multinomial(n, [behind + least, behind, 1 - 2 * behind - least]))
        found += mcnemar(wins, losses) < 0.05
    assert 0.65 <= found / 200 <= 0.95  # McNemar's exact test is a cautious one


@pytest.mark.parametrize("sizes", [(100,), (20, 40, 120)])
def test_a_difference_of_scores_is_found_in_four_of_five_tries(sizes: Sequence[int]) -> None:
    rng, found = np.random.default_rng(0), 0

    def drawn_scores(better: float) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """Half of the rows differ, and of ours so large a part becomes right."""
        theirs = {str(n): rng.beta(1, 1, n) for n in sizes}
        ours = {task: np.where(rng.random(len(x)) < 0.5, x, rng.beta(1, 1, len(x))) for task, x in theirs.items()}
        return {task: np.where(rng.random(len(x)) < better, 1.0, x) for task, x in ours.items()}, theirs

    for _ in range(60):
        least = difference(*drawn_scores(0)).detectable
        assert least is not None
        found += difference(*drawn_scores(2 * least)).clear
    assert 0.7 <= found / 60 <= 0.97


def test_eight_rows_that_are_answered_alike_say_little() -> None:
    least = difference({"a": rows(8, 4)}, {"a": rows(8, 4)}).detectable
    assert least is not None
    assert 0.9 < least < 1
    assert difference({"a": rows(8, 4)}, {"a": 1 - rows(8, 4)}).detectable is None


def test_mcnemar_is_a_sign_test() -> None:
    from scipy.stats import binomtest

    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(6, 0) == mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(8, 2) == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 1024)
    assert mcnemar(8, 2) == pytest.approx(binomtest(8, 10).pvalue)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.98])
@pytest.mark.parametrize(("n_tasks", "n"), [(1, 30), (1, 100), (3, 60)])
def test_coverage_of_scores_between_0_and_1(p: float, n_tasks: int, n: int) -> None:
    """As F1 and chrF have them: many rows at the ends, the others anywhere between."""
    rng, held, held_gap = np.random.default_rng(0), 0, 0
    for _ in range(400):
        ours, theirs = (
            {
                str(task): np.where(rng.random(n) < 0.5, drawn(rng, n, q), rng.beta(4 * q, 4 * (1 - q), n))
                for task in range(n_tasks)
            }
            for q in (p, 0.5)
        )
        estimate = mean_over_tasks(ours)
        held += estimate.low <= p <= estimate.high
        gap = difference(ours, theirs)
        held_gap += gap.low <= p - 0.5 <= gap.high
    assert held >= (320 if p == 0.98 else 360)  # the half that is near 1 hides how far the others can be
    assert held_gap >= 364


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_intervals_of_scores_that_vary_little_are_narrow(p: float) -> None:
    """As those of chrF; a share's interval would be twice to four times as wide as needed."""
    rng = np.random.default_rng(0)
    draws = [(rng.beta(12 * p, 12 * (1 - p), 100), rng.beta(6, 6, 100)) for _ in range(200)]
    estimates = [mean_over_tasks({"a": ours}) for ours, _ in draws]
    gaps = [difference({"a": ours}, {"a": theirs}) for ours, theirs in draws]
    for found, mean in ((estimates, p), (gaps, p - 0.5)):
        assert sum(e.low <= mean <= e.high for e in found) >= 182
        needed = 3.92 * np.std([e.value for e in found])
        assert np.mean([e.high - e.low for e in found]) < 1.5 * needed


def test_a_permutation_test_is_the_textbooks() -> None:
    from scipy.stats import permutation_test

    rng = np.random.default_rng(0)
    for shift in (0.02, 0.1):
        scores = rng.normal(shift, 0.3, 60)
        wanted = permutation_test((scores,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1).pvalue
        assert permutation([scores]) == pytest.approx(wanted, abs=0.02)
    assert permutation([np.zeros(9)]) == 1
    assert permutation([np.full(40, 0.5), np.full(40, 0.1)]) < 0.001


def test_false_alarms_are_as_rare_as_p_says() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        ours, theirs = ({"a": rng.beta(0.5, 0.5, 40), "b": rng.beta(2, 1, 80)} for _ in range(2))
        alarms += difference(ours, theirs).p < 0.1
    assert 8 <= alarms <= 34
