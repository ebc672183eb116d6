"""Paired differences against scipy, numbers worked out by hand, and simulations of many experiments."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from runner.stats import differences, holm, over_seeds, seeds_needed

METRIC = "topk_intersection"


def rows(group_id: str, values: dict[int, dict[float, list[float]]]) -> pd.DataFrame:
    """{seed: {epsilon: [one value an example]}} as rows."""
    records = [
        {"group_id": group_id, "seed": seed, "example_id": 10 + example, "epsilon": epsilon, METRIC: value}
        for seed, curve in values.items()
        for epsilon, examples in curve.items()
        for example, value in enumerate(examples)
    ]
    return pd.DataFrame(records)


def test_tests_over_seeds_are_those_of_scipy() -> None:
    values = pd.DataFrame(np.random.default_rng(0).normal(0.5, 1.0, (4, 6)))
    values.iloc[1, 2] = math.nan
    found = over_seeds(values, 0.9)
    for index, row in values.iterrows():
        known = row.dropna()
        student = stats.ttest_1samp(known, 0.0)
        interval = student.confidence_interval(0.9)
        exact = stats.permutation_test((known,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        assert found.loc[index].tolist() == pytest.approx(
            [known.mean(), interval.low, interval.high, len(known), student.pvalue, exact]
        )


def test_too_few_seeds_and_no_spread() -> None:
    found = over_seeds(pd.DataFrame([[0.5, math.nan], [math.nan, math.nan], [0.0, 0.0], [0.25, 0.25]]))
    assert found["n_seeds"].tolist() == [1, 0, 2, 2]
    assert found["p"].fillna(-1).tolist() == [-1, -1, 1.0, 0.0]
    assert found["p_sign_flip"].fillna(-1).tolist() == [-1, -1, 1.0, 0.5]
    assert found["low"].fillna(-1).tolist() == [-1, -1, 0.0, 0.25]
    with pytest.raises(ValueError, match="confidence=1"):
        over_seeds(pd.DataFrame([[0.0, 1.0]]), 1.0)


def test_the_sign_flip_of_n_seeds_is_never_below_two_of_all_signs() -> None:
    for n in (2, 5, 9):
        assert over_seeds(pd.DataFrame([np.arange(1.0, n + 1)])).p_sign_flip.item() == 2 / 2**n


def test_many_seeds_draw_their_signs() -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, 24)
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=2**16, rng=1).pvalue
    assert over_seeds(pd.DataFrame([values])).p_sign_flip.item() == pytest.approx(exact, abs=0.01)


def test_differences_are_paired_by_seed_image_and_budget() -> None:
    natural = rows(
        "n", {0: {0.0: [1.0, 1.0], 1.0: [0.2, 0.6]}, 1: {0.0: [1.0, 1.0], 1.0: [0.5, 0.7]}, 2: {1.0: [0.0, 0.0]}}
    )
    robust = rows("r", {0: {0.0: [1.0, 1.0], 1.0: [0.4, 0.8]}, 1: {0.0: [1.0, 1.0], 1.0: [0.9, math.nan]}})
    found = differences(pd.concat([natural, robust]), {"r": "n"}, [METRIC]).set_index("epsilon")
    at_one = found.loc[1.0]
    assert at_one["mean"] == pytest.approx((0.2 + 0.4) / 2)
    assert at_one["high"] - at_one["mean"] == pytest.approx(math.tan(0.475 * math.pi) * 0.1)
    assert (at_one["n_seeds"], at_one["n_pairs"]) == (2, 3)
    assert found.loc[0.0, "mean"] == 0.0
    area = found[found.index.isna()].iloc[0]
    assert area["mean"] == pytest.approx((0.1 + 0.2) / 2)
    assert set(found["group_id"]) == {"r"}
    assert set(found["baseline"]) == {"n"}


def test_a_budget_without_a_partner_is_left_out() -> None:
    both = pd.concat([rows("n", {0: {0.5: [0.3]}}), rows("r", {0: {0.5: [0.5], 1.0: [0.1]}})])
    found = differences(both, {"r": "n"}, [METRIC])
    assert found["epsilon"].dropna().tolist() == [0.5]
    assert found["mean"].dropna().tolist() == pytest.approx([0.2])  # no area over one budget


def test_holm_is_the_worked_example_of_its_definition() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03]).tolist() == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("mean", "spread", "level"), [(0.1, 0.1, 0.05), (0.02, 0.05, 0.05 / 22), (-1.0, 0.6, 0.01)])
def test_seeds_needed_reach_the_power_and_one_less_does_not(mean: float, spread: float, level: float) -> None:
    needed = seeds_needed(mean, spread, level)

    def power(n: float) -> float:
        critical, shift = stats.t.ppf(1 - level / 2, n - 1), mean / spread * math.sqrt(n)
        return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))

    assert power(needed - 1) < 0.8 <= power(needed)


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_needed(10.0, 0.0, 0.05) == seeds_needed(10.0, 1e-3, 0.05) == 2.0
    assert seeds_needed(1e-4, 1.0, 0.05) == math.inf
    assert math.isnan(seeds_needed(0.0, 1.0, 0.05))
    assert math.isnan(seeds_needed(0.1, math.nan, 0.05))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("shape", ["normal", "skewed", "clipped"])
def test_intervals_hold_as_often_as_they_say(seeds: int, shape: str) -> None:
    """4,000 experiments of 40 examples a seed: seeds differ by normal effects, examples by skewed or clipped values."""
    rng = np.random.default_rng(seeds)
    examples = rng.normal(0.0, 0.2, (4_000, seeds, 40))
    if shape == "skewed":
        examples = rng.exponential(0.2, examples.shape)
    effects = rng.normal(0.0, 0.05, (4_000, seeds, 1))
    values = examples + effects
    values = (values.clip(-0.1, 0.3) if shape == "clipped" else values).mean(axis=2)
    truth = values.mean()
    found = over_seeds(pd.DataFrame(values))
    assert 0.93 < ((found["low"] <= truth) & (truth <= found["high"])).mean() < 0.97
