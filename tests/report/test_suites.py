"""Suites and other attacks in one report: the members' table, the flags on top, and the picture of all attacks."""

from pathlib import Path

import pandas as pd
import pytest
from synthetic_store import Store

from runner.report import build_report, load
from runner.report.analysis import Analysis
from runner.report.strength import strength_figures
from runner.report.suites import doubts, suite_table, suites

EPSILONS = [0.0, 0.5, 1.0]
SAYS = "random draws do more harm than gradients"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Four attacks and a suite of two members, on two defenses and seeds."""
    monkeypatch.setattr("runner.report.figures.DPI", 30)
    made = Store(tmp_path / "outputs", metrics=("topk_intersection",))
    plain = {"epsilons": EPSILONS, "gallery": False, "history": False}
    for defense, strength in (("none", 0.4), ("ssr", 0.2)):
        for seed in (0, 1):
            for place, attack in enumerate(("topk", "cosine", "random_ball", "query_square")):
                made.attack(defense, seed, attack=attack, strength=strength - 0.04 * place, **plain)
            flag = {"says": SAYS, "value": 4.0, "bound": 3.0, "epsilons": [1.0], "tripped": defense == "ssr"}
            members = {"topk": "gradient", "random": "random"}
            said = {"suite": {"members": members, "won": {}}, "flags": {"random_beats_gradient": flag}}
            folder = made.attack(defense, seed, attack="suite", strength=strength + 0.1, result=said, **plain)
            rows = pd.read_parquet(folder / "rows.parquet")
            harm = -rows["topk_intersection"]
            won = (rows["example_id"] % 2).where(rows["epsilon"] > 0, -1).astype(float)
            columns = {"attack_harm": harm, "attack_harm_topk": harm - 0.1, "attack_harm_random": harm - 0.3}
            rows.assign(**columns, attack_won=won).to_parquet(folder / "rows.parquet")
    return made


def test_members_stand_beside_the_suite(store: Store) -> None:
    frame = suites(Analysis(load(store.folders, store.models)))
    last = frame[(frame.epsilon == 1.0) & (frame.series == "none")].set_index("member")
    assert last["suite"].tolist() == pytest.approx([0.5, 0.5])
    assert last["alone"].to_dict() == pytest.approx({"topk": 0.6, "random": 0.8})
    assert last["won"].tolist() == [0.5, 0.5]
    assert set(frame["n_seeds"]) == {2}
    assert suite_table(frame)[0] == {
        **{"defense": "none", "cell": "saliency · mnist5k / small_cnn, l2", "metric": "topk intersection at ε = 1"},
        **{"suite": "0.500", "topk": "0.600 · 50 %", "random": "0.800 · 50 %"},
    }


def test_a_raised_flag_is_a_sentence(store: Store) -> None:
    (sentence,) = doubts(Analysis(load(store.folders, store.models)))
    assert sentence == f"ssr · saliency, suite: random beats gradient: {SAYS} (seed 0, 1; ε 1)"


def test_a_report_without_suites_has_none(store: Store) -> None:
    analysis = Analysis(load([folder for folder in store.folders if "suite" not in folder.name], store.models))
    assert suites(analysis).empty
    assert suite_table(suites(analysis)) == doubts(analysis) == []


def test_attacks_are_drawn_side_by_side_the_strongest_on_top(store: Store) -> None:
    ((name, figure),) = strength_figures(Analysis(load(store.folders, store.models))).items()
    assert name == "strength-mnist5k-small_cnn-l2"
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        *("query_square", "random_ball", "cosine", "topk", "suite"),
    ]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([0.72, 0.68, 0.64, 0.6, 0.5])


def test_few_attacks_are_not_drawn_side_by_side(store: Store) -> None:
    folders = [folder for folder in store.folders if "topk" in folder.name or "cosine" in folder.name]
    assert strength_figures(Analysis(load(folders, store.models))) == {}


def test_the_page_has_all_of_it(store: Store, tmp_path: Path) -> None:
    page = build_report(store.folders, store.models, tmp_path / "out", "both", "run.py")
    text = page.read_text()
    for said in (
        "Not every verdict of the attack suite is to be trusted",
        "Attacks side by side",
        "Attack suites",
        SAYS,
    ):
        assert said in text
    assert (page.parent / "tables" / "suites.csv").is_file()
    assert (page.parent / "plots" / "strength-mnist5k-small_cnn-l2.png").is_file()
