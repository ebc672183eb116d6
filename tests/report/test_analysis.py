"""The numbers of a report: one summary row per configuration, each statistic computed once."""

from __future__ import annotations

import math

import pytest
from synthetic_store import Store, analysis_of

import runner.report.analysis
from runner.report.analysis import Analysis
from runner.report.figures.curves import curve_figures
from runner.report.figures.transfer_matrix import matrix_figures
from runner.report.page import render
from runner.report.tables.files import table_files
from runner.report.tables.summary import summary_tables

T1 = math.tan(0.475 * math.pi)
"""Student-t 97.5 % point at 1 degree of freedom."""


def test_a_row_holds_the_numbers_of_its_configuration(store: Store) -> None:
    """Mean top-k intersection at epsilon is 1 - strength * epsilon; strengths are 0.395 and 0.405, accuracies 0.895 and 0.905."""
    store.attack("none", 0, strength=0.4)
    store.attack("none", 1, strength=0.4)
    row = analysis_of(store).table.iloc[0]
    assert row["topk_intersection@1"] == pytest.approx(0.6)
    assert row["topk_intersection@1_high"] == pytest.approx(0.6 + T1 * 0.005)
    assert row["area_topk_intersection"] == pytest.approx(0.8)
    assert row["area_topk_intersection_low"] == pytest.approx(0.8 - T1 * 0.0025)
    assert row["area_mass_center_shift"] == pytest.approx(0.8)
    assert row["test_accuracy"] == pytest.approx(0.9)
    assert row["test_accuracy_high"] == pytest.approx(0.9 + T1 * 0.005)
    assert row["seconds_per_epoch"] == 2.5
    assert row["unharmed"] == 1 / 8
    assert (row["n_seeds"], row["n_examples"], row["failed"], row["twin_beta"]) == (2, 8, 0, 30.0)


def test_failed_seeds_are_counted_in_their_configuration(store: Store) -> None:
    store.attack("ssr", 0)
    store.failed("ssr", 1)
    store.failed("ig_norm", 0)
    table = analysis_of(store).table.set_index("series")
    assert table.loc["ssr", ["n_seeds", "failed", "failure_rate"]].tolist() == [1, 1, 0.5]
    assert table.loc["ig_norm", ["n_seeds", "failed", "failure_rate"]].tolist() == [0, 1, 1.0]
    assert math.isnan(table.loc["ig_norm", "test_accuracy"])


def test_a_seed_that_failed_and_then_finished_did_not_fail(store: Store) -> None:
    folder = store.failed("ssr", 0)
    store.folders.remove(folder)
    folder.rename(folder.with_name("old"))
    store.folders.append(folder.with_name("old"))
    store.attack("ssr", 0)
    assert analysis_of(store).table.loc[0, "failed"] == 0


def test_the_attacked_metric_is_what_the_attack_kept_by(store: Store) -> None:
    store.attack("none", 0, kept_by="cosine_distance")
    store.attack("none", 0, attack="random_sign", kept_by="objective")
    analysis = analysis_of(store)
    kept = {panel["attack"]: analysis.primary(panel) for panel, _ in analysis.panels(analysis.settings[0])}
    assert kept == {"topk": "cosine_distance", "random_sign": "topk_intersection"}


@pytest.mark.parametrize("name", ["certificate_bands", "suite_members", "transfers", "summarise", "areas", "critical"])
def test_each_statistic_is_computed_once(small_store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    small_store.attack("none", 0, gallery=False, history=False)
    compute, calls = getattr(runner.report.analysis, name), []
    monkeypatch.setattr(runner.report.analysis, name, lambda *args: calls.append(name) or compute(*args))
    render_everything(analysis_of(small_store))
    assert calls == [name]


def render_everything(analysis: Analysis) -> None:
    tables = summary_tables(analysis)
    table_files(analysis, tables, "Title")
    curve_figures(analysis)
    matrix_figures(analysis)
    render(analysis, "Title", "command", tables)
