"""How near a search is to its end: measured, flagged, and gone on with until it is near."""

import json
from typing import Any

import pandas as pd
import pytest
import torch
from running import do, run_of

from runner.attacking.convergence import converged, doubled, not_converged
from runner.metrics.mass_center_shift import MassCenterShift
from runner.metrics.topk_intersection import TopKIntersection

SHORT = ("attack.steps=2", "examples=null", "dataset.test_size=6", "attack.chunk=4")


@pytest.fixture(autouse=True)
def _quick(no_pictures: None) -> None:
    """Attacks without pictures."""


def traced(*harm: list[float], searches: int = 1) -> dict[str, torch.Tensor]:
    values = {
        f"trace.{share}": torch.tensor(one).double() for share, one in zip((0.125, 0.25, 0.5, 1.0), harm, strict=True)
    }
    count = torch.ones(len(harm[0]), dtype=torch.int64)
    return values | {"searches": count * searches, "candidates": count * 8, "attack_harm": values["trace.1.0"]}


CLEAN = {"attack_harm": torch.tensor([-1.0, -1.0])}
STEP = traced([-0.9, -1.0], [-0.8, -0.9], [-0.6, -0.8], [-0.4, -0.8])


def test_gains_are_means_of_all_chunks_in_the_units_of_a_bounded_measure() -> None:
    one = converged([[CLEAN, STEP], [CLEAN, STEP]], 1, TopKIntersection(k=2))
    assert one is not None
    assert one.harm == pytest.approx((-0.95, -0.85, -0.7, -0.6))
    assert (one.gain, one.next_gain) == pytest.approx((0.1, 0.1 * 0.1 / 0.15))
    flag = not_converged({0.5: one})
    assert (flag.tripped, flag.epsilons, flag.value) == (True, (0.5,), pytest.approx(0.1))


def test_gains_in_pixels_are_relative_to_the_harm_done() -> None:
    one = converged([[CLEAN, STEP]], 1, MassCenterShift())
    assert one is not None
    assert one.gain == pytest.approx(0.1 / 0.4)


def test_a_search_that_found_nothing_more_is_near_its_end() -> None:
    flat = traced([-0.9, -1.0], [-0.8, -0.9], [-0.8, -0.9], [-0.8, -0.9])
    one = converged([[CLEAN, flat]], 1, TopKIntersection(k=2))
    assert one is not None
    assert one.gain == one.next_gain == 0.0
    assert not not_converged({0.5: one}).tripped
    assert converged([[CLEAN, STEP]], 0, None) is None


def test_a_second_search_makes_a_half_of_the_first() -> None:
    after = STEP | doubled(STEP, torch.tensor([-0.3, -0.7]))
    assert [after[f"trace.{share}"].tolist() for share in (0.125, 0.25, 0.5, 1.0)] == [
        pytest.approx(values) for values in ([-0.8, -0.9], [-0.6, -0.8], [-0.4, -0.8], [-0.3, -0.7])
    ]
    assert (after["searches"].tolist(), after["candidates"].tolist()) == ([2, 2], [16, 16])


def _run(compose: Any, *overrides: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    config = compose(*SHORT, *overrides)
    do(config)
    folder = run_of(config).folder
    return pd.read_parquet(folder / "rows.parquet"), json.loads((folder / "result.json").read_text())


def test_every_attack_states_its_convergence(compose) -> None:
    rows, result = _run(compose)
    stated = result["convergence"]["budgets"]
    assert list(stated) == [f"{epsilon:g}" for epsilon in rows.epsilon.unique() if epsilon > 0]
    for epsilon, budget in stated.items():
        found = rows[rows.epsilon == float(epsilon)].attack_harm.mean()
        assert -budget["found"][-1] == pytest.approx(found)  # topk_intersection, of which less is harm
        assert (budget["searches"], budget["candidates"]) == (1, 2)
        assert budget["gain"] == pytest.approx(budget["found"][2] - budget["found"][3])
    whole = result["convergence"]
    assert whole["gain"] == max(budget["gain"] for budget in stated.values())
    assert whole["candidates"] == whole["gradients"] == 2 * len(stated)
    assert whole["harm"] == pytest.approx(1 - rows[rows.epsilon > 0].topk_intersection.mean(), abs=1e-6)
    assert result["flags"]["not_converged"]["tripped"] == (result["convergence"]["gain"] > 0.02)


def test_going_on_does_more_harm_and_less_is_left_to_gain(compose) -> None:
    once, _ = _run(compose)
    more = ("attack.converge=0.01", "attack.converge_cap=8")
    rows, result = _run(compose, *more)
    assert (rows.attack_harm >= once.attack_harm - 1e-12).all()
    assert rows.attack_harm.mean() > once.attack_harm.mean()
    for budget in result["convergence"]["budgets"].values():
        assert budget["searches"] in (1, 2, 4, 8)
        assert budget["searches"] == 8 or budget["next_gain"] <= 0.01
        assert budget["candidates"] == 2 * budget["searches"]


def test_the_rows_do_not_depend_on_the_chunks(compose, tmp_path) -> None:
    more = ("attack.converge=0.01", "attack.converge_cap=4")
    rows, result = _run(compose, *more)
    others, other = _run(compose, *more, "attack.chunk=6", f"outputs={tmp_path}")
    assert result["convergence"] == other["convergence"]
    pd.testing.assert_frame_equal(rows, others, rtol=1e-5)


@pytest.mark.parametrize("attack", ["random_ball", "query_square", "suite", "label_pgd", "sens_max"])
def test_other_attacks_state_theirs_and_go_on(compose, attack: str) -> None:
    few = {"random_ball": "attack.draws=4", "query_square": "attack.queries=4", "suite": "attack.restarts=1"}
    overrides = [
        f"attack={attack}",
        "attack.converge=0.0001",
        "attack.converge_cap=2",
        few.get(attack, "attack.restarts=1"),
    ]
    short = [part for part in SHORT if attack not in ("random_ball", "query_square") or "steps" not in part]
    config = compose(*overrides, *short)
    do(config)
    result = json.loads((run_of(config).folder / "result.json").read_text())
    whole = result["convergence"]
    assert max(budget["searches"] for budget in whole["budgets"].values()) == 2
    assert (whole["gradients"] == 0) == (attack in ("random_ball", "query_square"))
    assert whole["candidates"] > 0
