"""The sweeps that come with the project state what they say they state."""

from pathlib import Path

import pytest
from composing import ROOT, composed
from composing import sweep_cells as cells
from running import parts_of

from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.runs.run import Run
from runner.sweeps.skip_conditions import Condition, skipped

FILES = sorted((ROOT / "conf" / "sweeps").glob("*.yaml"))
TENTHS = tuple(number / 10 for number in range(11))


def test_both_are_there() -> None:
    assert {path.stem for path in FILES} >= {"quickstart", "adversarial_training_l2"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_composes_is_named_after_its_file_and_says_how_to_run_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python run.py -m +sweeps={path.stem}")
    base, batch = cells(path.stem)
    assert composed(*base).sweep == path.stem
    assert len(batch) > 1
    assert len({tuple(sorted(cell)) for cell in batch}) == len(batch)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_first_and_last_cell_can_run(path: Path, tmp_path: Path) -> None:
    base, batch = cells(path.stem)
    for cell in (batch[0], batch[-1]):
        config = resolved(composed(*base, *cell, f"outputs={tmp_path}", "tracking=none"))
        Run.of(config)
        assert config["job"]["name"] == "attack"
        assert parts_of(config).grid.epsilons()[0] == 0
        assert config["epsilon"]["norm"] == "l2" or path.stem == "every_budget"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_can_be_tried_in_seconds(path: Path, tmp_path: Path) -> None:
    base, batch = cells(path.stem)
    config = resolved(composed(*base, "+debug=tiny", *batch[0], f"outputs={tmp_path}"))
    Run.of(config)
    assert len(parts_of(config).grid.epsilons()) == 2


def test_adversarial_training_l2() -> None:
    epsilons = sorted({*TENTHS[1:], 0.25})
    assert len(epsilons) == 11
    expected = {
        (f"seed={seed}", *defense)
        for seed in range(3)
        for defense in [
            ("defense=none",),
            *(
                ("defense=madry_l2", f"defense.epsilon={epsilon}", f"defense.steps={steps}")
                for epsilon in epsilons
                for steps in (7, 20)
            ),
        ]
    }
    _, batch = cells("adversarial_training_l2")
    assert len(batch) == len(expected) == 69
    assert {tuple(cell) for cell in batch} == expected


def test_budgets_are_tenths() -> None:
    base, batch = cells("adversarial_training_l2")
    assert {parts_of(resolved(composed(*base, *cell))).grid.epsilons() for cell in batch[:2]} == {TENTHS}


def test_quickstart() -> None:
    base, batch = cells("quickstart")
    values = [dict(text.split("=", 1) for text in cell) for cell in batch]
    seeds = {value["seed"] for value in values}
    defenses = {value["defense"] for value in values}
    assert len(seeds) >= 4  # fewer separate little
    assert defenses == {"none", "cure", "ssr"}
    assert {value["attribution"] for value in values} == {"saliency", "input_x_gradient"}
    assert len(batch) == len(seeds) * len(defenses) * 2
    config = composed(*base)
    assert (config.dataset.name, config.attack.name, config.epsilon.norm) == ("mnist5k", "topk_overlap", "l2")
    assert parts_of(resolved(config)).grid.epsilons()[:4] == (0.0, 0.1, 0.2, 0.3)


def test_every_budget_leaves_the_pairs_that_fit() -> None:
    base, batch = cells("every_budget")
    config = composed(*base, hydra_node=True)
    conditions = [Condition.read(text) for text in config.hydra.sweeper.skip_if]
    configs = [resolved(composed(*base, *cell)) for cell in batch if "seed=0" in cell and "defense=none" in cell]
    senseless = skipped(configs, conditions)
    pairs = {
        (one["attack"]["name"], one["epsilon"]["norm"]) for place, one in enumerate(configs) if place not in senseless
    }
    assert pairs == {("topk", "l2"), ("topk", "linf"), ("sparse", "l0"), ("spatial", "spatial")}
    assert len(configs) == 12
    for place, one in enumerate(configs):
        if place in senseless:
            with pytest.raises(ConfigError, match=r"^epsilon\.norm="):
                Run.of(one)
        else:
            Run.of(one)
