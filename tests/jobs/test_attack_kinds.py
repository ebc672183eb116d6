"""Every kind of attack through the job: its columns, its budgets, its labels, and what does not fit together."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from running import attack_run, do, parts_of

from runner.attacking.chunk import Chunk
from runner.core.attack_types import budgets, in_ball, preserves_label
from runner.core.errors import ConfigError
from runner.runs.run import Run
from runner.store.files import read_tensors
from runner.store.folder import Folder

PIXELS = ("attack=sparse", "epsilon=l0_pixels", "epsilon.values=[1,4,16]", "attack.swaps=5")
MOVES = ("attack=spatial", "epsilon=spatial", "epsilon.step=0.5", "attack.samples=3", "attack.shift=1.0")
SENS = ("attack=sens_max", "attack.samples=4")
NOTES = {
    "sens_max": ["attack_gradient", "attack_quotient", "attack_sampled"],
    "spatial": [
        *("attack_gain_0", "attack_rotation", "attack_shift_down", "attack_shift_right", "attack_transform_size"),
    ],
}
KINDS = [
    ("attack=target_region",),
    ("attack=cosine",),
    ("attack=spearman_surrogate",),
    SENS,
    ("attack=label_pgd", "epsilon.norm=linf"),
    PIXELS,
    MOVES,
]


def curves(rows: pd.DataFrame, column: str) -> np.ndarray:
    """(examples, budgets)."""
    return rows.pivot_table(index="example_id", columns="epsilon", values=column, dropna=False).to_numpy()


@pytest.mark.parametrize("overrides", KINDS, ids=lambda item: item[0].removeprefix("attack="))
def test_every_attack_holds_its_promises(attacked, overrides) -> None:
    config, rows = attacked(*overrides)
    name = config["attack"]["name"]
    clean, last = (rows[rows.epsilon == rows.epsilon.agg(end)] for end in ("min", "max"))
    assert (clean.perturbation_norm == 0).all()
    assert (clean.topk_intersection == 1).all()
    assert (rows.perturbation_norm <= rows.epsilon * (1 + 1e-9)).all()
    assert last.perturbation_norm.max() > 0.5 * last.epsilon.max()
    assert (np.diff(curves(rows, "attack_harm"), axis=1) >= 0).all()
    assert last.attack_harm.mean() > clean.attack_harm.mean()
    assert last.topk_intersection.mean() < 1
    assert rows.label_preserved.all() == (name != "label_pgd")
    assert [column for column in rows if column.startswith("attack_") and column != "attack_harm"] == NOTES.get(
        name, []
    )
    measure = config["attack"].get("measure", "objective")
    if measure != "objective":
        sign = 1 if measure == "cosine_distance" else -1
        assert (sign * rows.attack_harm).to_numpy() == pytest.approx(rows[measure].to_numpy(), abs=1e-6)
    result = Folder(attack_run(config).folder).finished()
    assert result is not None
    assert result["kept_by"] == measure
    assert (result["twin"]["beta"] is None) == (name == "label_pgd")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("topk", (("l2", "linf"), True, True)),
        ("random_sign", (("l2", "linf", "l0"), True, True)),
        ("sparse", (("l0",), True, True)),
        ("spatial", (("spatial",), False, True)),
        ("label_pgd", (("l2", "linf"), True, False)),
    ],
)
def test_attacks_say_what_they_keep_to(compose, name, what) -> None:
    attack = parts_of(compose(f"attack={name}")).attack
    assert (budgets(attack), in_ball(attack), preserves_label(attack)) == what


def test_label_flips_are_shown_and_grow(attacked) -> None:
    _, rows = attacked("attack=label_pgd", "epsilon.norm=linf")
    flipped = curves(rows.assign(flipped=~rows.label_preserved), "flipped").astype(int)
    assert (np.diff(flipped, axis=1) >= 0).all()
    assert flipped[:, -1].all()
    assert np.array_equal(rows.attack_harm > 0, ~rows.label_preserved)


def test_two_maxima_of_one_ratio(attacked) -> None:
    _, rows = attacked(*SENS, "attack.steps=8")
    assert rows[rows.epsilon == 0].attack_quotient.isna().all()
    assert np.array_equal(rows.attack_harm, rows[["attack_sampled", "attack_gradient"]].max(axis=1))
    for column in ("attack_sampled", "attack_gradient"):
        assert (np.diff(curves(rows, column), axis=1) >= 0).all()
    last = rows[rows.epsilon == 0.6]
    expected = last.attack_sampled / last.attack_gradient
    assert last.attack_quotient.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)
    assert last.attack_sampled.mean() < last.attack_gradient.mean()


def test_the_ratio_is_the_metric_of_that_name(attacked) -> None:
    _, rows = attacked(*SENS, "metrics=[topk_intersection,l2_ratio]")
    assert rows.attack_harm.to_numpy() == pytest.approx(rows.l2_ratio.to_numpy(), rel=1e-5, abs=1e-7)


def test_pixels_are_counted(attacked) -> None:
    config, rows = attacked(*PIXELS, "attack.save_images=true")
    assert set(rows.norm) == {"l0"}
    stored = read_tensors(attack_run(config).folder / "images.safetensors")
    assert stored is not None
    changed = (stored[0]["perturbed"] != stored[0]["clean"]).any(dim=2).sum(dim=(2, 3))
    assert changed.flatten().tolist() == rows.perturbation_norm.tolist()


def test_random_pixels_are_the_baseline(attacked) -> None:
    _, rows = attacked("attack=random_sign", *PIXELS[1:3], "attack.draws=3")
    assert (rows.perturbation_norm <= rows.epsilon).all()
    assert (np.diff(curves(rows, "attack_harm"), axis=1) >= 0).all()
    assert rows.topk_intersection.min() < 1


def test_the_size_of_a_transform_is_its_largest_share(attacked) -> None:
    _, rows = attacked(*MOVES)
    assert set(rows.norm) == {"spatial"}
    shares = rows[["attack_gain_0", "attack_rotation", "attack_shift_down", "attack_shift_right"]]
    assert np.array_equal(rows.perturbation_norm, shares.abs().max(axis=1))
    assert np.array_equal(rows.perturbation_norm, rows.attack_transform_size)


def test_eot_averages_more_draws(attacked) -> None:
    """More draws a step are another run, and no less a monotone one."""
    smooth = ("attribution=smoothgrad", "attribution.samples=2", "attribution.sigma=0.5")
    one, first = attacked(*smooth)
    many, second = attacked(*smooth, "attack.eot=3")
    assert attack_run(one).identity != attack_run(many).identity
    assert (np.diff(curves(second, "attack_harm"), axis=1) >= 0).all()
    assert not np.array_equal(first.attack_harm, second.attack_harm)


@pytest.mark.parametrize("overrides", [SENS, PIXELS, MOVES, ("attack=label_pgd",)], ids=lambda item: item[0][7:])
def test_the_chunk_is_memory_only(attacked, tmp_path, overrides) -> None:
    _, rows = attacked(*overrides, "attack.chunk=6")
    _, other = attacked(*overrides, "attack.chunk=1", outputs=tmp_path / "1")
    pd.testing.assert_frame_equal(rows, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("overrides", [SENS, MOVES], ids=["sens_max", "spatial"])
def test_a_stopped_attack_goes_on_with_its_notes(compose, attacked, tmp_path, monkeypatch, overrides) -> None:
    """The notes of a budget are what the next one starts from."""
    _, undisturbed = attacked(*overrides, outputs=tmp_path / "undisturbed")
    step, taken = Chunk.step, []

    def interrupted(self: Any, epsilon: float) -> None:
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(epsilon)
        step(self, epsilon)

    monkeypatch.setattr(Chunk, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        do(compose(*overrides))
    monkeypatch.setattr(Chunk, "step", step)
    _, resumed = attacked(*overrides)
    pd.testing.assert_frame_equal(resumed, undisturbed, check_exact=True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("attack=topk", "epsilon=l0_pixels"), r"^epsilon\.norm=l0: attack=topk takes l2, linf"),
        (("attack=label_pgd", "epsilon=spatial"), r"^epsilon\.norm=spatial: attack=label_pgd takes l2, linf"),
        (("attack=sparse",), r"^epsilon\.norm=l2: attack=sparse takes l0;"),
        (("attack=spatial",), r"^epsilon\.norm=l2: attack=spatial takes spatial;"),
        (("attack=sparse", "epsilon=l0_pixels", "epsilon.values=[65]"), r"^epsilon=65: must be at most the 64 pixels"),
        (("attack=label_pgd", "epsilon=unbounded"), r"^epsilon\.values=inf: must be finite"),
        (("attack=sens_max", "epsilon=unbounded"), r"^epsilon\.values=inf: must be finite"),
        (("attack=cosine", "metrics=[spearman]"), r"^attack\.measure=cosine_distance: allowed are objective, spearman"),
        (("defense=madry_l2", "defense.norm=l0"), r"^defense\.norm=l0: allowed are l2, linf"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(compose, overrides, message) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        Run.of(compose(*overrides))
    assert "\n" not in str(refused.value)


def test_the_largest_budget_may_be_the_whole_image(compose) -> None:
    config = compose("attack=sparse", "epsilon=l0_pixels", "epsilon.values=[64]")
    Run.of(config)
    assert math.prod(config["dataset"]["shape"][1:]) == 64
