"""Runs that were stored once keep their names: the ids of a hundred random compositions, as the code of November 2026 gave them."""

import json
from pathlib import Path

from composing import composed
from running import attack_run, evaluate_run, train_run

from runner.core.config import resolved

STORED: list[list[str]] = json.loads(Path(__file__).with_name("stored_ids.json").read_text())
"""Overrides, then the ids of the training, the attack, the evaluation and the group of attacks."""


def ids(overrides: list[str]) -> list[str]:
    named = ["dataset.name=x"] if "dataset=image_folder" in overrides else []
    config = resolved(composed(*overrides, "outputs=o", *named))
    attacked = attack_run(config)
    runs = (train_run(config), attacked, evaluate_run(config))
    return [*(run.identity for run in runs), attacked.columns["group_id"]]


def test_ids_of_random_compositions_stay() -> None:
    """Whoever changes one of these makes every store start over: see `ADDED` for how a key comes in without that."""
    assert len(STORED) == 100
    changed = [overrides for overrides, *stored in STORED if ids(overrides.split()) != stored]
    assert changed == []
