"""The attack suite as a job: its columns, its verdict, and what an evaluation and a report make of them."""

import logging

import pandas as pd
import pytest
from running import attack_run, do

from runner.attacks.flags import CHECKS
from runner.store.folder import Folder

SUITE = ("attack=suite", "attack.restarts=1", "attack.members.query.queries=5", "attack.members.random.draws=5")
MEMBERS = {
    **dict.fromkeys(("topk", "topk_overlap", "cosine", "mass_center", "manipulate"), "gradient"),
    **dict.fromkeys(("from_saliency", "from_integrated_gradients", "from_smoothgrad"), "transfer"),
    **{"query": "query", "random": "random"},
}


def test_rows_have_every_member_and_result_names_them(attacked, caplog):
    with caplog.at_level(logging.WARNING):
        config, rows = attacked(*SUITE)
    result = Folder(attack_run(config).folder).finished()
    assert result["suite"]["members"] == MEMBERS
    harms = rows[[f"attack_harm_{name}" for name in MEMBERS]]
    assert (rows["attack_harm"] >= harms.max(axis=1) - 1e-12).all()
    assert rows["attack_won"].isin(range(-1, len(MEMBERS))).all()
    assert (rows.loc[rows.epsilon == 0, "attack_won"] == -1).all()
    for epsilon, won in result["suite"]["won"].items():
        assert sum(won.values()) == pytest.approx((rows[rows.epsilon == float(epsilon)]["attack_won"] >= 0).mean())

    # saliency does not transfer to itself, SmoothGrad does
    clean = rows[rows.epsilon == 0].set_index("example_id")["attack_harm_from_saliency"]
    assert (rows["attack_harm_from_saliency"] == rows["example_id"].map(clean)).all()
    assert (rows["attack_harm_from_smoothgrad"] != rows["example_id"].map(clean)).any()

    assert result["flags"]["few_examples"] == {
        **{"says": "too few examples are left on which any iterate kept the label", "value": 6.0, "bound": 20},
        **{"epsilons": [0.2, 0.4, 0.6], "tripped": True},
    }
    assert len(CHECKS) == 9
    assert set(CHECKS) < set(result["flags"])
    assert "few_examples: too few examples are left" in caplog.text


def test_evaluate_lists_the_seeds_of_each_flag_and_the_page_shows_them(compose):
    config = compose(*SUITE, "job=evaluate", "seeds=[0,1]")
    result = do(config)
    assert result["flags"]["few_examples"]["seeds"] == [0, 1]
    (page,) = (attack_run(config).folder.parents[1] / "evaluations").glob("*/index.html")
    text = page.read_text()
    assert "Not every number below is to be trusted" in text
    assert "few examples: too few examples are left" in text
    table = pd.read_csv(page.parent / "tables" / "suites.csv")
    assert set(table["member"]) == set(MEMBERS)
    assert (table["suite"] <= table["alone"] + 1e-9).all()
