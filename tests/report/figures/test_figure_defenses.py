"""Figures that compare defenses: styles, accuracy against robustness, ranking, training."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic_store import Store, analysis_of

from runner.report.analysis import Analysis
from runner.report.figures.ranking import _scale_of_seconds, ranking_figures
from runner.report.figures.scatter import pareto, scatter_figures
from runner.report.figures.styles import OKABE_ITO, UNDEFENDED, styles
from runner.report.figures.training import training_figures


def test_styles_are_distinct_and_ordered_when_there_are_many() -> None:
    few = styles(["none", "a", "b", "c"])
    assert few["none"].color == UNDEFENDED
    assert [few[name].color for name in "abc"] == list(OKABE_ITO[:3])
    assert len({(style.marker, str(style.linestyle)) for style in few.values()}) == 4
    many = styles(["none", *(f"m{index}" for index in range(22))])
    assert len({style.color for style in many.values()}) == 23
    assert many["m0"].dense


def test_the_front_holds_the_points_that_nothing_beats() -> None:
    accuracy = np.array([0.90, 0.95, 0.93, 0.95, np.nan])
    robust = np.array([0.8, 0.5, 0.4, 0.3, 0.9])
    assert pareto(accuracy, robust, "higher") == [0, 1]
    assert pareto(accuracy, robust, "lower") == [3]


def test_scatter_shows_area_against_accuracy_with_both_intervals(quickstart_analysis: Analysis) -> None:
    (figure,) = scatter_figures(quickstart_analysis).values()
    axis = figure.axes[0]
    points = [line for line in axis.lines if line.get_marker() not in ("None", "", "|", "_")]
    assert [float(line.get_xdata()[0]) for line in points] == pytest.approx([95.0, 94.0, 92.0, 90.0])
    assert [float(line.get_ydata()[0]) for line in points] == pytest.approx([0.8, 0.825, 0.875, 0.9])
    assert axis.get_xlabel() == "test accuracy (%) ↑"
    half = math.tan(0.475 * math.pi) * 0.0025
    assert axis.get_ylim()[0] < 0.8 - half
    assert axis.get_ylim()[1] > 0.9 + half
    across, upright = axis.collections
    assert across.get_segments()[0][:, 1].tolist() == pytest.approx([0.8, 0.8])
    assert upright.get_segments()[0][:, 1].tolist() == pytest.approx([0.8 - half, 0.8 + half])


def test_the_ranking_lists_defenses_by_robustness_with_the_undefended_band(quickstart_analysis: Analysis) -> None:
    analysis = quickstart_analysis
    (figure,) = ranking_figures(analysis).values()
    accuracy, robust, cost = figure.axes[0], figure.axes[1], figure.axes[-1]
    names = [text.get_text() for text in accuracy.get_yticklabels()]
    means = analysis.table.groupby("series")["area_topk_intersection"].mean()
    assert names == list(means.sort_values().index)
    assert names[0] == "none"
    points = next(line for line in accuracy.lines if len(line.get_xdata()) == 4)
    assert points.get_xdata() == pytest.approx([95.0, 94.0, 92.0, 90.0])
    values = next(line for line in robust.lines if len(line.get_xdata()) == 4)
    assert values.get_xdata() == pytest.approx([0.8, 0.825, 0.875, 0.9])
    assert robust.patches, "the interval of the undefended model is shaded"
    assert cost.get_xscale() == "linear"  # the slowest takes less than five times as long as the fastest


@pytest.mark.parametrize(("slowest", "shown"), [(8.0, ["2", "5"]), (30.0, ["3", "10", "30"]), (700.0, ["10", "100"])])
def test_a_long_scale_of_seconds_has_a_few_round_ticks(slowest: float, shown: list[str]) -> None:
    axis = Figure().add_subplot()
    axis.plot([1.5, slowest], [0, 1], ".")
    _scale_of_seconds(axis, pd.Series([1.5, slowest]))
    axis.figure.canvas.draw()
    low, high = axis.get_xlim()
    ticks = [(tick, label.get_text()) for tick, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)]
    assert [text for tick, text in ticks if low < tick < high and tick >= 1.5] == shown


def test_few_defenses_need_no_ranking(store: Store) -> None:
    store.attack("none", 0, strength=0.4)
    assert ranking_figures(analysis_of(store)) == {}


def test_training_curves_are_means_over_seeds(quickstart_analysis: Analysis) -> None:
    (figure,) = training_figures(quickstart_analysis).values()
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(2 / np.arange(1, 6))
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx(95 * (1 - 0.5 / np.arange(1, 6)))
