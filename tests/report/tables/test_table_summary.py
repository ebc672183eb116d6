"""The summary: which columns it has, their digits, and the marks of the best and of ties."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from synthetic_store import Store, analysis_of

from runner.report.analysis import Analysis
from runner.report.tables.summary import Table, summary_tables
from runner.report.tables.values import Column, column_values, decimals

T1 = math.tan(0.475 * math.pi)
"""Student-t 97.5 % point at 1 degree of freedom."""


def column_of(table: Table, key: str) -> int:
    return [column.key for column in table.columns].index(key)


def test_marks_are_honest() -> None:
    """Best is b; c overlaps b's interval; a lies apart; d has one seed, so nothing can be said."""
    rows = pd.DataFrame({"x": [0.1, 0.9, 0.8, 0.85], "x_low": [0.0, 0.8, 0.7, math.nan]})
    rows["x_high"] = [0.2, 1.0, 0.9, math.nan]
    higher = column_values(rows, Column("x", "x", "higher"), 2)
    assert [value.best for value in higher] == [False, True, False, False]
    assert [value.tie for value in higher] == [False, False, True, True]
    lower = column_values(rows, Column("x", "x", "lower"), 2)
    assert [value.best for value in lower] == [True, False, False, False]
    assert [value.tie for value in lower] == [False, False, False, True]
    assert [value.plain for value in higher] == ["0.10 ± 0.10", "0.90 ± 0.10", "0.80 ± 0.10 ≈", "0.85 ± – ≈"]


def test_the_noise_floor_and_columns_without_direction_are_not_ranked() -> None:
    rows = pd.DataFrame({"x": [0.1, 0.9], "x_low": [0.1, 0.9], "x_high": [0.1, 0.9]})
    assert not any(value.best or value.tie for value in column_values(rows, Column("x", "x"), 1))


@pytest.mark.parametrize(
    ("mean", "half", "expected"), [(0.75, 0.0637, 3), (0.5, 0.13, 2), (95.0, 6.4, 1), (1234.0, 56.0, 0), (0.75, 0.0, 3)]
)
def test_digits_follow_the_interval(mean: float, half: float, expected: int) -> None:
    rows = pd.DataFrame({"x": [mean], "x_low": [mean - half], "x_high": [mean + half]})
    assert decimals(rows, Column("x", "x")) == expected


def test_columns_show_budgets_of_the_attacked_metric(quickstart_analysis: Analysis) -> None:
    (table,) = summary_tables(quickstart_analysis)
    keys = [column.key for column in table.columns if "@" in column.key]
    assert keys == ["topk_intersection@0", "topk_intersection@0.5", "topk_intersection@1"]
    assert [(block.attribution, block.series[0]) for block in table.blocks] == [
        ("saliency", "none"),
        ("smoothgrad", "none"),
    ]
    floor = column_of(table, "topk_intersection@0")
    assert [block.rows[0][floor].text for block in table.blocks] == ["1.00 ± 0.00", "0.90 ± 0.00"]


def test_an_attack_without_budget_has_a_value_and_no_area(store: Store) -> None:
    store.attack("none", 0, epsilons=[0.0, math.inf], strength=0.4, jitter=0.0)
    analysis = analysis_of(store)
    (table,) = summary_tables(analysis)
    (row,) = table.blocks[0].rows
    assert row[column_of(table, "area_topk_intersection")].text == "–"
    assert row[column_of(table, "topk_intersection@inf")].text == "0.600 ± –"
    assert "no budget ↑" in {column.heading.replace("\N{NO-BREAK SPACE}", " ") for column in table.columns}


def median_radius(strength: float) -> float:
    """Example i of 8 reaches one half at 1.75 / (strength * i): the median lies between examples 3 and 4."""
    return 1.75 / strength * (1 / 3 + 1 / 4) / 2


def test_the_critical_radius_has_a_column(store: Store) -> None:
    store.attack("none", 0, strength=0.8)
    store.attack("none", 1, strength=0.8)
    store.attack("ssr", 0, strength=0.4)
    store.attack("ssr", 1, strength=0.4)
    analysis = analysis_of(store)
    (table,) = summary_tables(analysis)
    index = column_of(table, "epsilon50_topk_intersection")
    assert table.columns[index].group == "topk intersection halved, median ε"
    medians = [median_radius(0.795), median_radius(0.805)]
    row, defended = analysis.table.set_index("series").loc["none"], analysis.table.set_index("series").loc["ssr"]
    assert row["epsilon50_topk_intersection"] == pytest.approx(sum(medians) / 2)
    half = T1 * (medians[0] - medians[1]) / 2
    assert row["epsilon50_topk_intersection_low"] == pytest.approx(sum(medians) / 2 - half)
    assert (row["epsilon50_topk_intersection_never"], defended["epsilon50_topk_intersection_never"]) == (3 / 8, 5 / 8)
    none, ssr = (block[index] for block in table.blocks[0].rows)
    assert (none.text, none.best, none.tie) == (f"{sum(medians) / 2:.3f} ± {half:.3f}", False, False)
    assert (ssr.plain, ssr.number, ssr.best) == (">\N{NO-BREAK SPACE}1.000", 1.0, True)


def test_a_censored_median_is_never_beaten_by_default(store: Store) -> None:
    """The median of ssr is known in one seed and beyond the grid in the other, so nothing separates the two."""
    store.attack("none", 0, strength=0.8)
    store.attack("none", 1, strength=0.8)
    store.attack("ssr", 0, strength=0.8, jitter=0.0)
    store.attack("ssr", 1, strength=0.4, jitter=0.0)
    (table,) = summary_tables(analysis_of(store))
    index = column_of(table, "epsilon50_topk_intersection")
    none, ssr = (block[index] for block in table.blocks[0].rows)
    assert (none.best, none.tie, ssr.best) == (False, True, True)
    assert ssr.number == pytest.approx((median_radius(0.8) + 1.0) / 2)
    assert ssr.half == ""


def test_medians_beyond_the_grid_in_every_row_name_no_best(store: Store) -> None:
    for seed in (0, 1):
        store.attack("none", seed, strength=0.4)
        store.attack("ssr", seed, strength=0.2)
    (table,) = summary_tables(analysis_of(store))
    index = column_of(table, "epsilon50_topk_intersection")
    values = [block[index] for block in table.blocks[0].rows]
    assert [(value.plain, value.best) for value in values] == [(">\N{NO-BREAK SPACE}1.00", False)] * 2


def test_runs_without_top_k_intersection_have_no_such_column(store: Store) -> None:
    other = Store(store.root, store.folders, ("spearman", "mass_center_shift"))
    other.attack("none", 0, kept_by="spearman")
    analysis = analysis_of(other)
    (table,) = summary_tables(analysis)
    assert not [column for column in table.columns if column.key.startswith("epsilon50")]
    assert set(analysis.critical["metric"]) == {"spearman"}


def test_small_numbers_do_not_read_as_zero() -> None:
    rows = pd.DataFrame({"x": [1.5e-5, 2e-6], "x_low": [1.4e-5, 1.9e-6], "x_high": [1.6e-5, 2.1e-6]})
    values = column_values(rows, Column("x", "x", "lower"), decimals(rows, Column("x", "x", "lower")))
    assert [value.text for value in values] == ["1.50e-05 ± 1.00e-06", "2.00e-06 ± 1.00e-07"]
