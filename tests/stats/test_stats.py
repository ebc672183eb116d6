"""Means, intervals and areas against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from runner.stats import (
    Level,
    area_under_curve,
    areas,
    critical,
    critical_radii,
    halfway,
    seed_interval,
    summarise,
)
from runner.stats.critical import radii_of_curves

T1, T2 = math.tan(0.475 * math.pi), 0.95 * math.sqrt(2.0 / (1.0 - 0.95**2))
"""Student-t 97.5 % points at 1 and 2 degrees of freedom, in closed form: 12.706 and 4.303."""


def make_rows(
    values: dict[int, dict[float, list[float]]], group_id: str | None = "g", defense: str = "none"
) -> pd.DataFrame:
    """{seed: {epsilon: [one value an example]}} as rows; odd examples are never moved."""
    records = []
    for seed, curve in values.items():
        for epsilon, examples in curve.items():
            for example, value in enumerate(examples):
                record = {"example_id": example, "epsilon": epsilon, "norm": "l2", "label_preserved": example != 3}
                record |= {"perturbation_norm": 0.0 if example % 2 else epsilon, "spearman": value, "seed": seed}
                record |= {"dataset": "d", "model": "m", "defense": defense, "attribution": "a", "attack": "t"}
                records.append(record if group_id is None else {**record, "group_id": group_id})
    return pd.DataFrame(records)


def test_seed_interval_is_student_t_with_n_minus_one_degrees_of_freedom() -> None:
    three = seed_interval([1.0, 2.0, 3.0])
    assert (three.mean, three.n) == (2.0, 3)
    assert three.low == pytest.approx(2.0 - T2 / math.sqrt(3), abs=1e-12)
    assert three.high == pytest.approx(2.0 + T2 / math.sqrt(3), abs=1e-12)
    two = seed_interval([0.4, 0.6])
    assert two.high - two.mean == pytest.approx(T1 * 0.1, abs=1e-12)  # s = 0.2/sqrt(2), so s/sqrt(2) = 0.1


def test_a_narrower_confidence_gives_a_narrower_interval() -> None:
    assert seed_interval([0.0, 1.0], confidence=0.5).high == pytest.approx(1.0)  # t(1) at 75 % is exactly 1
    with pytest.raises(ValueError, match="confidence=95"):
        seed_interval([0.0, 1.0], confidence=95)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    one = seed_interval([0.25])
    assert one.mean == 0.25
    assert one.n == 1
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_undefined_seeds_do_not_count() -> None:
    assert seed_interval([float("nan"), 1.0, 3.0]).n == 2
    assert seed_interval([float("nan"), 1.0, 3.0]).mean == 2.0
    empty = seed_interval([])
    assert empty.n == 0
    assert math.isnan(empty.mean)


def test_summarise_averages_within_the_seed_first() -> None:
    """Seed 0 has four examples and seed 1 has two: pooled mean would be 2/6, mean of seed means is 1/2."""
    rows = make_rows({0: {0.5: [0.0, 0.0, 0.0, 0.0]}, 1: {0.5: [1.0, 1.0]}})
    row = summarise(rows, ["spearman"]).iloc[0]
    assert row["mean"] == 0.5
    assert row["high"] == pytest.approx(0.5 + T1 * 0.5)
    assert (row["n_seeds"], row["n_examples"]) == (2, 4)


def test_summarise_reports_the_spread_over_examples_and_the_shares() -> None:
    rows = make_rows({0: {0.0: [1.0] * 4, 0.5: [0.0, 1.0, 2.0, 3.0]}})
    table = summarise(rows, ["spearman"]).set_index("epsilon")
    assert table.loc[0.5, ["q05", "q25", "q50", "q75", "q95"]].tolist() == pytest.approx([0.15, 0.75, 1.5, 2.25, 2.85])
    assert table.loc[0.5, "std"] == pytest.approx(math.sqrt(5 / 3))
    assert table.loc[0.5, "unharmed"] == 0.5
    assert math.isnan(table.loc[0.0, "unharmed"])
    assert table.loc[0.5, "label_preserved"] == 0.75


def test_summarise_counts_undefined_values_instead_of_hiding_them() -> None:
    row = summarise(make_rows({0: {0.5: [1.0, float("nan"), 0.0]}}), ["spearman"]).iloc[0]
    assert (row["mean"], row["undefined"]) == (0.5, 1)


def test_configurations_with_equal_labels_stay_apart_by_their_id() -> None:
    rows = pd.concat([make_rows({0: {0.5: [0.0]}}, "one"), make_rows({0: {0.5: [1.0]}}, "two")])
    table = summarise(rows, ["spearman"]).set_index("group_id")["mean"]
    assert table.to_dict() == {"one": 0.0, "two": 1.0}
    assert len(summarise(rows.drop(columns="group_id"), ["spearman"])) == 1


def test_areas_by_hand() -> None:
    epsilons, values = [0.0, 2.0, 4.0, 8.0], [1.0, 0.5, 0.25, 0.25]
    assert area_under_curve(epsilons, values, "raw") == 1.5 + 0.75 + 1.0
    assert area_under_curve(epsilons, values, "range") == 3.25 / 8.0
    assert area_under_curve(epsilons, values, "index") == 0.75 + 0.375 + 0.25
    assert area_under_curve(epsilons, values, "raw", include_zero=False) == 0.75 + 1.0
    assert area_under_curve(epsilons, values, "range", include_zero=False) == 1.75 / 6.0


def test_the_area_of_a_harmless_attack_is_the_metric_itself() -> None:
    assert area_under_curve([0.1, 0.0, 0.7], [1.0, 1.0, 1.0], "range") == pytest.approx(1.0, abs=1e-15)


def test_areas_ignore_order_and_infinite_budgets() -> None:
    assert area_under_curve([2.0, math.inf, 0.0], [0.0, -9.0, 1.0], "raw") == 1.0
    assert math.isnan(area_under_curve([0.0, math.inf], [1.0, 0.0], "range"))


def test_areas_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="allowed are index, range, raw"):
        area_under_curve([0.0, 1.0], [1.0, 0.0], "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="occurs twice"):
        area_under_curve([0.0, 1.0, 1.0], [1.0, 0.0, 0.5])


def test_areas_are_taken_per_seed() -> None:
    rows = make_rows({0: {0.0: [1.0, 1.0], 2.0: [0.0, 0.0]}, 1: {0.0: [1.0, 1.0], 2.0: [1.0, 1.0]}})
    table = areas(rows, ["spearman"]).set_index("how")
    assert table["mean"].to_dict() == {"index": 0.75, "range": 0.75, "raw": 1.5}
    assert table.loc["range", "low"] == pytest.approx(0.75 - T1 * 0.25)
    assert table["n_seeds"].tolist() == [2, 2, 2]
    assert areas(rows, ["spearman"], include_zero=False)["n_seeds"].tolist() == [0, 0, 0]


HALF = Level(0.5, "higher")


def test_a_critical_radius_is_linear_between_two_budgets() -> None:
    curves = np.array([[1.0, 0.8, 0.4, 0.4], [1.0, 1.0, 0.5, 0.0], [1.0, 0.0, 0.9, 0.0]])
    radii = radii_of_curves([0.0, 1.0, 2.0, 4.0], curves, HALF)
    assert radii.tolist() == pytest.approx([1.75, 2.0, 0.5], abs=1e-12)


def test_a_critical_radius_of_a_distance_is_crossed_upwards() -> None:
    curves = np.array([[0.0, 1.0, 5.0], [0.0, 1.0, 2.9]])
    assert radii_of_curves([0.0, 0.5, 1.0], curves, Level(3.0, "lower")).tolist() == pytest.approx([0.75, math.inf])


def test_critical_radii_at_the_ends_of_the_grid() -> None:
    """Across before any attack, at the last budget, only without a budget, and never."""
    curves = np.array([[0.5, 0.4, 0.3], [1.0, 0.5, 0.5], [1.0, 0.6, 0.0], [1.0, 0.6, 0.6]])
    assert radii_of_curves([0.0, 1.0, math.inf], curves, HALF).tolist() == [0.0, 1.0, math.inf, math.inf]


def test_critical_radii_that_nobody_knows() -> None:
    curves = np.array([[1.0, math.nan, 0.0], [1.0, 0.6, 0.0]])
    radii = radii_of_curves([0.0, 1.0, 2.0], curves, HALF)
    assert math.isnan(radii[0])
    assert radii[1] == pytest.approx(1 + 1 / 6)
    assert np.isnan(radii_of_curves([0.0, math.inf], np.array([[1.0, 0.0]]), HALF)).all()


def test_critical_radii_do_not_depend_on_the_order_of_budgets() -> None:
    budgets, curves = np.array([0.0, 0.25, 0.5, 1.0]), np.random.default_rng(0).random((50, 4))
    order = [2, 0, 3, 1]
    expected = radii_of_curves(budgets, curves, HALF)
    assert radii_of_curves(budgets[order], curves[:, order], HALF).tolist() == expected.tolist()
    for radius, curve in zip(expected, curves, strict=True):
        if 0 < radius < math.inf:
            assert np.interp(radius, budgets, curve) == pytest.approx(0.5)
            assert (curve[budgets < radius] > 0.5).all()


def test_the_half_way_level_of_a_metric() -> None:
    assert halfway("higher", (0.0, 1.0)) == HALF
    assert halfway("higher", (-1.0, 1.0)) == Level(0.0, "higher")
    assert halfway("lower", (0.0, 2.0)) == Level(1.0, "lower")
    assert halfway("lower", (0.0, math.inf)) is None


def falling(*radii: float) -> dict[float, list[float]]:
    """Curves over budgets 0, 1, 2 that fall from 1 to 0 in a straight line and reach one half at these radii."""
    return {epsilon: [1 - epsilon / (2 * radius) for radius in radii] for epsilon in (0.0, 1.0, 2.0)}


def test_the_median_critical_radius_is_taken_per_seed() -> None:
    rows = make_rows({0: falling(0.5, 1.5, 9.0), 1: falling(1.0, 1.0, 1.0)})
    table = critical_radii(rows, {"spearman": HALF})
    assert table["radius"].tolist() == pytest.approx([0.5, 1.5, math.inf, 1.0, 1.0, 1.0])
    assert set(table["largest"]) == {2.0}
    (row,) = critical(rows, {"spearman": HALF}).to_dict("records")
    assert row["mean"] == pytest.approx(1.25)
    assert row["high"] == pytest.approx(1.25 + T1 * 0.25)
    assert (row["n_seeds"], row["level"], row["undefined"]) == (2, 0.5, 0)
    assert row["never"] == pytest.approx((1 / 3 + 0) / 2)
    assert row["at_least"] == pytest.approx(1.25)


def test_a_median_beyond_the_grid_is_not_made_up() -> None:
    rows = make_rows({0: falling(0.5, 9.0, 9.0), 1: falling(9.0, 9.0, 9.0)})
    (row,) = critical(rows, {"spearman": HALF}).to_dict("records")
    assert math.isnan(row["mean"])
    assert (row["low"], row["high"], row["at_least"]) == (2.0, math.inf, 2.0)
    assert row["never"] == pytest.approx(5 / 6)


def test_one_seed_beyond_the_grid_leaves_a_lower_bound() -> None:
    rows = make_rows({0: falling(0.5, 0.5, 0.5), 1: falling(9.0, 9.0, 9.0)})
    (row,) = critical(rows, {"spearman": HALF}).to_dict("records")
    assert all(math.isnan(row[key]) for key in ("mean", "low", "high"))
    assert row["at_least"] == pytest.approx((0.5 + 2.0) / 2)


def test_a_median_between_a_known_and_a_censored_radius_is_censored() -> None:
    rows = make_rows({0: falling(0.5, 1.0, 9.0, 9.0)})
    (row,) = critical(rows, {"spearman": HALF}).to_dict("records")
    assert math.isnan(row["mean"])
    assert math.isnan(row["low"])
    assert (row["at_least"], row["never"]) == (1.5, 0.5)


def test_without_a_metric_or_a_grid_there_is_no_critical_radius() -> None:
    rows = make_rows({0: {0.0: [1.0, 1.0], 1.0: [math.nan, 0.0]}, 1: {0.0: [1.0, 1.0], 1.0: [math.nan, math.nan]}})
    (row,) = critical(rows, {"spearman": HALF}).to_dict("records")
    assert (row["mean"], row["n_seeds"], row["undefined"]) == (0.5, 1, 3)
    (row,) = critical(make_rows({0: {0.0: [1.0], math.inf: [0.0]}}), {"spearman": HALF}).to_dict("records")
    assert math.isnan(row["mean"])
    assert math.isnan(row["at_least"])
    assert row["n_seeds"] == 0
    assert critical(rows, {}).empty


def test_configurations_with_different_grids_are_kept_apart() -> None:
    """A budget that only the other configuration has is no gap in a curve."""
    longer = {epsilon: [1 - epsilon / 6] for epsilon in (0.0, 1.5, 4.0)}
    rows = pd.concat([make_rows({0: falling(0.5)}, "one"), make_rows({0: longer}, "two")])
    table = critical(rows, {"spearman": HALF}).set_index("group_id")
    assert table["mean"].to_dict() == pytest.approx({"one": 0.5, "two": 3.0})
    assert table["undefined"].tolist() == [0, 0]
