"""Certificates against attacks: p-values against scipy, what counts as a violation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from runner.stats.claims import SIGNIFICANCE, Claim, summary, verdicts


def rows_with(beyond: int, examples: int = 60, epsilons: int = 2) -> pd.DataFrame:
    values = np.tile(np.arange(examples) < beyond, epsilons)
    frame = pd.DataFrame({"epsilon": np.repeat(np.arange(epsilons) / 10, examples), "cosine_distance": values * 1.0})
    return frame.assign(certificate=0.5)


@pytest.mark.parametrize("beyond", [0, 3, 9, 12, 60])
def test_the_p_value_is_that_of_the_binomial_test(beyond: int) -> None:
    claim = Claim("uniform_cosine", "cosine_distance", "lower", 0.95)
    found = verdicts(rows_with(beyond), claim)
    p_value = binomtest(beyond, 60, 0.05, alternative="greater").pvalue
    assert found["violations"].tolist() == [beyond] * 2
    assert found["expected"].tolist() == pytest.approx([3.0] * 2)
    assert found["p_value"].tolist() == pytest.approx([p_value] * 2)
    assert found["beaten"].tolist() == [p_value < SIGNIFICANCE / 2] * 2
    assert (summary(rows_with(beyond), claim) or {})["beaten"] == (beyond >= 12)


def test_certain_bounds_allow_nothing_and_estimates_everything() -> None:
    certain = Claim("exact", "cosine_distance", "lower", 1.0)
    assert [verdicts(rows_with(beyond), certain)["beaten"].any() for beyond in (0, 1)] == [False, True]
    estimate = Claim("first_order", "cosine_distance", "lower", None)
    assert not verdicts(rows_with(60), estimate)["beaten"].any()
    assert summary(rows_with(60), estimate) is None


def test_rounding_and_undefined_values_are_no_violations() -> None:
    claim = Claim("exact", "topk_intersection", "higher", 1.0)
    frame = pd.DataFrame({"epsilon": [0.0] * 3, "topk_intersection": [0.5 - 1e-9, np.nan, 0.7], "certificate": 0.5})
    found = verdicts(frame, claim).iloc[0]
    assert (found["examples"], found["violations"], found["beaten"]) == (2, 0, False)
