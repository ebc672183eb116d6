"""Suites and other attacks in one report: the members, the flags, and the figure that compares all attacks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from synthetic_store import Store, analysis_of, page_of

from runner.report.analysis import Analysis
from runner.report.figures.strength import strength_figures
from runner.report.flagged import doubts
from runner.report.tables.suites import suite_table

EPSILONS = [0.0, 0.5, 1.0]
SAYS = "random draws do more harm than gradients"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four attacks and a suite of two members, on two defenses and seeds. Add nothing to it."""
    made = Store(tmp_path_factory.mktemp("suites") / "outputs", metrics=("topk_intersection",))
    plain = {"epsilons": EPSILONS, "gallery": False, "history": False}
    for defense, strength in (("none", 0.4), ("ssr", 0.2)):
        for seed in (0, 1):
            for place, attack in enumerate(("topk", "cosine", "random_ball", "query_square")):
                made.attack(defense, seed, attack=attack, strength=strength - 0.04 * place, **plain)
            flag = {"says": SAYS, "value": 4.0, "bound": 3.0, "epsilons": [1.0], "tripped": defense == "ssr"}
            members = {"topk": "gradient", "random": "random"}
            stated = {"suite": {"members": members, "won": {}}, "flags": {"random_beats_gradient": flag}}
            folder = made.attack(defense, seed, attack="suite", strength=strength + 0.1, result=stated, **plain)
            made.edit(folder, with_members)
    return made


def with_members(rows: pd.DataFrame) -> pd.DataFrame:
    harm = -rows["topk_intersection"]
    won = (rows["example_id"] % 2).where(rows["epsilon"] > 0, -1).astype(float)
    return rows.assign(attack_harm=harm, attack_harm_topk=harm - 0.1, attack_harm_random=harm - 0.3, attack_won=won)


@pytest.fixture(scope="module")
def analysis(store: Store) -> Analysis:
    return analysis_of(store)


def without(store: Store, *attacks: str) -> list[Path]:
    return [folder for folder in store.folders if not any(f"-{attack}-s" in folder.name for attack in attacks)]


def test_members_stand_beside_the_suite(analysis: Analysis) -> None:
    frame = analysis.suites
    last = frame[(frame.epsilon == 1.0) & (frame.series == "none")].set_index("member")
    assert last["suite"].tolist() == pytest.approx([0.5, 0.5])
    assert last["alone"].to_dict() == pytest.approx({"topk": 0.6, "random": 0.8})
    assert last["won"].tolist() == [0.5, 0.5]
    assert set(frame["n_seeds"]) == {2}
    assert suite_table(frame)[0] == {
        **{"defense": "none", "configuration": "saliency · mnist5k / small_cnn, l2"},
        **{"metric": "topk intersection at ε = 1", "suite": "0.500", "topk": "0.600 · 50 %", "random": "0.800 · 50 %"},
    }


def test_a_raised_flag_is_a_sentence(analysis: Analysis) -> None:
    assert doubts(analysis.data) == [f"random beats gradient: {SAYS}. ssr · saliency, suite (seed 0, 1; ε 1)"]


def test_the_page_shows_suites_and_flags(store: Store) -> None:
    text = page_of(store)
    for shown in ("Not every number below is to be trusted", "Attack suites", SAYS, 'title="random beats gradient">⚑'):
        assert shown in text


def test_a_report_without_suites_has_none(store: Store) -> None:
    analysis = analysis_of(store, without(store, "suite"))
    assert analysis.suites.empty
    assert suite_table(analysis.suites) == doubts(analysis.data) == []


def test_attacks_are_drawn_side_by_side_the_strongest_on_top(analysis: Analysis) -> None:
    ((name, figure),) = strength_figures(analysis).items()
    assert name == "strength-mnist5k-small_cnn-l2"
    (axis,) = figure.axes
    names = [text.get_text() for text in axis.get_yticklabels()]
    assert names == ["query_square", "random_ball", "cosine", "topk", "suite"]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([0.72, 0.68, 0.64, 0.6, 0.5])


def test_few_attacks_are_not_drawn_side_by_side(store: Store) -> None:
    assert strength_figures(analysis_of(store, without(store, "suite", "random_ball", "query_square"))) == {}
