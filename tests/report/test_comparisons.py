"""Defenses against natural training: pairs, adjusted p-values, and what the page says of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic_store import Store, analysis_of, page_of

from runner.report.analysis import Analysis
from runner.report.comparisons import baselines
from runner.report.figures.differences import difference_figures
from runner.report.findings import findings
from runner.report.tables.comparisons import comparison_table
from runner.stats import holm


@pytest.fixture
def store(small_store: Store) -> Store:
    """What is lost at budget 1 by seed: less than `none` with `ssr` and `cure`, about as much with `madry`, more with `bad`."""
    losses = {
        "none": (0.38, 0.40, 0.42),
        "ssr": (0.30, 0.30, 0.30),
        "cure": (0.19, 0.20, 0.22),
        "madry": (0.43, 0.37, 0.42),
    }
    losses |= {"bad": (0.58, 0.60, 0.63)}
    for defense, of_seeds in losses.items():
        for seed, loss in enumerate(of_seeds):
            accuracy = 0.9 if defense == "none" else 0.8
            small_store.attack(
                defense, seed, strength=loss, jitter=0.0, accuracy=accuracy, gallery=False, history=False
            )
    return small_store


@pytest.fixture
def analysis(store: Store) -> Analysis:
    return analysis_of(store)


def area(loss: float) -> float:
    """Mean over budgets 0 ... 1 of a line from 1 to 1 - loss."""
    return 1.0 - loss / 2.0


def test_differences_of_areas_and_accuracies(analysis: Analysis) -> None:
    found = analysis.comparisons
    whole = found[found["epsilon"].isna()].set_index(["series", "metric"])
    ssr = whole.loc[("ssr", "topk_intersection")]
    expected = [area(0.30) - area(loss) for loss in (0.38, 0.40, 0.42)]
    assert ssr["mean"] == pytest.approx(np.mean(expected))
    assert ssr["high"] - ssr["mean"] == pytest.approx(4.302653 * np.std(expected, ddof=1) / math.sqrt(3))
    assert ssr["p_sign_flip"] == 0.25
    assert whole.loc[("ssr", "test_accuracy"), "mean"] == pytest.approx(-0.1)
    areas = whole.xs("topk_intersection", level="metric")
    assert areas["p_holm"].to_numpy() == pytest.approx(holm(areas["p"]))
    assert found[found["epsilon"].notna()]["p_holm"].isna().all()
    at_half = found[(found["series"] == "ssr") & (found["epsilon"] == 0.5)].iloc[0]
    assert (at_half["mean"], at_half["n_pairs"]) == (pytest.approx(0.05), 24)


def test_the_first_sentence_says_what_holds(analysis: Analysis) -> None:
    (sentence,) = findings(analysis)
    assert "saliency under topk, compared with natural training on the same images and seeds" in sentence
    better, worse, unknown = sentence.split("): ", 1)[1].split("; ")
    assert better.startswith("more robust: cure (+0.098 ± ")
    assert ", ssr (+0.050 ± " in better
    assert worse.startswith("less robust: bad (-0.102 ± ")
    assert unknown.startswith("no difference shown: madry (-0.003 ± ")


def test_the_table_counts_the_seeds_that_would_be_needed(analysis: Analysis) -> None:
    table = {row["defense"]: row for row in comparison_table(analysis)}
    assert list(table) == ["bad", "cure", "madry", "ssr"]
    assert table["ssr"]["difference"] == "+0.050 ± 0.025"
    assert table["ssr"]["p (sign flips)"] == "0.25"
    assert table["ssr"]["difference of accuracy, points"] == "-10.0 ± 0.0"
    assert table["ssr"]["seeds"] == "3"
    assert int(table["madry"]["seeds needed"]) > 100
    assert int(table["cure"]["seeds needed"]) <= 4


def test_the_figure_draws_the_paired_means_around_zero(analysis: Analysis) -> None:
    (figure,) = difference_figures(analysis).values()
    axis = figure.axes[0]
    assert axis.lines[0].get_ydata() == [0.0, 0.0]
    bad = axis.lines[1]
    assert bad.get_xdata() == pytest.approx(np.arange(1, 11) / 10)
    assert bad.get_ydata()[-1] == pytest.approx(0.4 - (0.58 + 0.60 + 0.63) / 3)
    assert [len(bands.get_paths()) for bands in axis.collections] == [4]


def test_without_one_natural_training_nothing_is_compared(small_store: Store) -> None:
    for seed in (0, 1):
        small_store.attack("ssr", seed, gallery=False, history=False)
        small_store.attack("cure", seed, strength=0.1, gallery=False, history=False)
    analysis = analysis_of(small_store)
    assert baselines(analysis.data) == {}
    assert difference_figures(analysis) == {}
    assert "has the best mean" in findings(analysis)[0]
    assert 'id="differences"' not in page_of(small_store)


def test_one_seed_is_no_comparison(small_store: Store) -> None:
    small_store.attack("none", 0)
    small_store.attack("ssr", 0, strength=0.2)
    analysis = analysis_of(small_store)
    assert "has the best mean" in findings(analysis)[0]
    assert difference_figures(analysis) == {}
    assert comparison_table(analysis)[0]["p (Holm)"] == "–"
    assert comparison_table(analysis)[0]["difference"] == "+0.100 ± –"


def test_sentence_and_table_adjust_for_all_panels_of_a_setting(small_store: Store) -> None:
    losses = {"saliency": (0.33, 0.30, 0.27), "input_x_gradient": (0.45, 0.34, 0.39)}
    for attribution, of_seeds in losses.items():
        for seed, loss in enumerate(of_seeds):
            keys = {"attribution": attribution, "jitter": 0.0, "gallery": False, "history": False}
            small_store.attack("none", seed, strength=0.40, **keys)
            small_store.attack("ssr", seed, strength=loss, **keys)
    analysis = analysis_of(small_store)
    table = {row["configuration"].split(",")[0]: row for row in comparison_table(analysis)}
    assert table["saliency"]["p (Holm)"] == "0.057"  # twice 0.029, which would pass alone
    (saliency,) = (sentence for sentence in findings(analysis) if sentence.startswith("saliency"))
    assert "no difference shown: ssr (+0.050 ± 0.037)" in saliency


def test_without_budgets_the_attack_without_a_budget_stands_for_all(small_store: Store) -> None:
    for seed in (0, 1, 2):
        for defense, loss in {"none": 0.4 + 0.02 * seed, "ssr": 0.3}.items():
            keys = {"epsilons": [math.inf], "gallery": False, "history": False}
            small_store.attack(defense, seed, strength=loss, jitter=0.0, **keys)
    analysis = analysis_of(small_store)
    assert comparison_table(analysis)[0]["difference"].startswith("+0.120 ± ")
    assert "more robust: ssr (+0.120 ± " in findings(analysis)[0]


def test_seeds_that_only_one_of_both_has_are_left_out(store: Store) -> None:
    store.attack("ssr", 7, strength=0.9, gallery=False, history=False)
    found = analysis_of(store).comparisons
    ssr = found[(found["series"] == "ssr") & (found["epsilon"] == 1.0)].iloc[0]
    assert ssr["n_seeds"] == 3
    assert ssr["mean"] == pytest.approx(0.1)
