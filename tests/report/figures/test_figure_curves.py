"""Curves against epsilon: the numbers of the lines, the noise floor, the attack without a budget, certificates."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from synthetic_store import Store, analysis_of

from runner.report.analysis import Analysis
from runner.report.data import MetricInfo
from runner.report.figures.bounds import BOUND_DASHES, CERTIFICATE, ESTIMATE, with_bounds
from runner.report.figures.curves import curve_figures, limits
from runner.report.figures.styles import UNDEFENDED
from runner.stats.claims import BOUND


@pytest.fixture(scope="module")
def curves(quickstart_analysis: Analysis) -> Figure:
    (figure,) = curve_figures(quickstart_analysis).values()
    return figure


def test_curves_are_the_means_against_epsilon(curves: Figure) -> None:
    assert len(curves.axes) == 10
    line = curves.axes[0].lines[0]
    assert line.get_color() == UNDEFENDED
    assert line.get_xdata() == pytest.approx(np.arange(11) / 10)
    assert line.get_ydata() == pytest.approx(1 - 0.4 * np.arange(11) / 10)
    assert curves.axes[0].get_ylabel() == "topk intersection ↑"
    assert curves.axes[-1].get_xlabel() == "ε (l2, images in [0, 1])"
    assert curves.axes[0].get_ylim() == curves.axes[1].get_ylim()
    (bands,) = curves.axes[0].collections
    assert len(bands.get_paths()) == 4
    low, high = bands.get_paths()[0].vertices[:, 1].min(), bands.get_paths()[0].vertices[:, 1].max()
    assert low == pytest.approx(0.6 - math.tan(0.475 * math.pi) * 0.005)
    assert high == pytest.approx(1.0)


def test_numbers_stand_at_the_edges_where_axes_have_the_same_limits(curves: Figure) -> None:
    shown = [axis.yaxis.get_tick_params()["labelleft"] for axis in curves.axes]
    assert shown == [True, False] * 5
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in curves.axes] == [False] * 8 + [True] * 2


def test_the_noise_floor_is_marked_for_stochastic_maps_only(curves: Figure) -> None:
    deterministic, stochastic = curves.axes[:2]
    assert len(deterministic.lines) == 4
    floors = [line for line in stochastic.lines if line.get_marker() == "D" and len(line.get_xdata()) == 1]
    assert [float(line.get_ydata()[0]) for line in floors] == pytest.approx([0.9] * 4)
    assert "noise floor (ε = 0)" in [text.get_text() for text in curves.legends[0].get_texts()]


def test_the_attack_without_budget_stands_beyond_the_axis(store: Store) -> None:
    store.attack("none", 0, epsilons=[0.0, 0.5, 1.0, math.inf], strength=0.4, jitter=0.0)
    (figure,) = curve_figures(analysis_of(store)).values()
    axis = figure.axes[0]
    assert len(axis.lines[0].get_xdata()) == 3
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()][-1] == "∞"
    assert axis.containers[0].lines[0].get_xdata() == pytest.approx([1.12])


def test_one_attribution_fills_rows_of_three_metrics(store: Store) -> None:
    store.attack("none", 0)
    (figure,) = curve_figures(analysis_of(store)).values()
    assert [axis.get_subplotspec().get_geometry()[:2] for axis in figure.axes] == [(2, 3)] * 5


def test_many_attributions_are_spread_over_figures(store: Store) -> None:
    for name in ("a", "b", "c", "d"):
        store.attack("none", 0, attribution=name, examples=2)
    assert list(curve_figures(analysis_of(store))) == [
        "curves-mnist5k-small_cnn-l2-topk-1",
        "curves-mnist5k-small_cnn-l2-topk-2",
    ]


def test_limits_stay_within_the_metric_and_near_the_means(store: Store) -> None:
    store.attack("none", 0, jitter=0.4)
    store.attack("none", 1, jitter=0.4)
    curves = analysis_of(store).curves
    low, high = limits(curves[curves["metric"] == "topk_intersection"], MetricInfo("x", "higher", 0.0, 1.0, ""))
    assert curves["low"].min() < -1.0
    assert -0.1 < low < 0.5
    assert 1.0 < high < 1.1


@pytest.mark.parametrize(("confidence", "dashes", "label"), [(0.95, BOUND_DASHES, CERTIFICATE), (None, ":", ESTIMATE)])
def test_the_picture_has_the_bound(store: Store, confidence: float | None, dashes: object, label: str) -> None:
    store.attack_with_bound(-0.1, confidence)
    analysis = analysis_of(store)
    (figure,) = curve_figures(analysis).values()
    axis = figure.axes[0]
    means = analysis.bands.sort_values("epsilon")[BOUND].to_numpy()
    drawn = [line for line in axis.lines if np.array_equal(line.get_ydata(), means)]
    assert len(drawn) == 1
    assert to_hex(drawn[0].get_color()) == "#222222"
    assert drawn[0].get_linestyle() == (":" if dashes == ":" else "--")
    bands = [collection for collection in axis.collections if collection.get_hatch()]
    assert len(bands) == (0 if confidence is None else 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", label]
    bottom, top = axis.get_ylim()
    assert bottom < means.min()
    assert means.max() < top
    assert all(not np.array_equal(line.get_ydata(), means) for other in figure.axes[1:] for line in other.lines)


def test_a_loose_bound_does_not_flatten_the_curves() -> None:
    unbounded = MetricInfo("l2_ratio", "lower", 0.0, float("inf"), "")
    frame = pd.DataFrame({BOUND: [0.1, 90.0]})
    assert with_bounds((0.0, 1.0), frame, unbounded) == (0.0, 2.0)
    bounded = MetricInfo("cosine_distance", "lower", 0.0, 2.0, "")
    assert with_bounds((0.0, 0.4), pd.DataFrame({BOUND: [0.1, 1.0]}), bounded)[1] > 1.0
    assert with_bounds((0.0, 0.4), pd.DataFrame(), bounded) == (0.0, 0.4)
