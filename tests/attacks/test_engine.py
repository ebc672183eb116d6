"""The projected-gradient loop on objectives whose maximum in the ball is known."""

import pytest
import torch

from runner.attacks.engine import ProjectedGradient, ascent_direction
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms

KEYS = rng.example_keys(0, range(4))
CLEAN = torch.full((4, 2, 3, 3), 0.5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_objective_reaches_its_maximum_in_the_ball(norm):
    weights = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    found = ProjectedGradient(steps=10)(
        lambda images, step: (images * weights).flatten(1).sum(1), CLEAN, 0.25, norm, KEYS
    )
    best = 0.25 * (weights.norm() if norm == "l2" else weights.abs().sum())
    gain = ((found - CLEAN) * weights).flatten(1).sum(1)
    torch.testing.assert_close(gain, best.expand(4), rtol=1e-5, atol=0)
    assert (perturbation_norms(found, CLEAN, norm) <= 0.25).all()


def test_the_objective_rises_with_steps_towards_an_inner_maximum():
    peak = CLEAN + 0.02
    objective = lambda images, step: -(images - peak).square().flatten(1).sum(1)  # noqa: E731
    values = []
    for steps in (1, 5, 40):
        found = ProjectedGradient(steps=steps, step_size=0.5 / steps)(objective, CLEAN, 1.0, "l2", KEYS)
        values.append(objective(found, 0).mean().item())
    assert values[0] < values[1] < values[2]
    assert values[2] == pytest.approx(0.0, abs=2e-3)


def test_adam_reaches_the_peak_without_a_budget():
    peak = torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    engine = ProjectedGradient(steps=400, step_size=0.01, update="adam")
    found = engine(lambda images, step: -(images - peak).square().flatten(1).sum(1), CLEAN, float("inf"), "l2", KEYS)
    torch.testing.assert_close(found, peak, rtol=0, atol=1e-3)


def test_adam_is_the_one_of_torch():
    target, start = torch.rand(4, 5), torch.rand(4, 5).clamp(0.3, 0.7)
    ours = ProjectedGradient(steps=6, step_size=0.01, update="adam")(
        lambda images, step: -(images - target).pow(4).sum(1), start, float("inf"), "l2", KEYS
    )
    theirs = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([theirs], lr=0.01)
    for _ in range(6):
        optimizer.zero_grad()
        (theirs - target).pow(4).sum().backward()
        optimizer.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_a_random_start_is_inside_the_ball_and_depends_on_the_key_alone():
    engine = ProjectedGradient(steps=1, random_start=True)
    begun = engine.begin(CLEAN, CLEAN, 0.3, "l2", KEYS)
    again = engine.begin(CLEAN[:2], CLEAN[:2], 0.3, "l2", KEYS[:2])
    assert (perturbation_norms(begun, CLEAN, "l2") <= 0.3).all()
    assert torch.equal(begun[:2], again)
    assert not torch.equal(begun[0], begun[1])


def test_non_finite_gradients_count_as_zero():
    direction = ascent_direction(lambda images, step: images.flatten(1).sum(1) * float("nan"), CLEAN, 0)
    assert torch.equal(direction, torch.zeros_like(CLEAN))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"steps": 0}, "attack.steps"),
        ({"step_size": -1.0}, "attack.step_size"),
        ({"update": "adam"}, "attack.step_size"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        ProjectedGradient(**options)


def test_a_flat_objective_is_left_in_a_random_direction():
    moved = ProjectedGradient(steps=5)(
        lambda images, step: (images - CLEAN).square().flatten(1).sum(1), CLEAN, 0.3, "l2", KEYS
    )
    torch.testing.assert_close(
        perturbation_norms(moved, CLEAN, "l2"), torch.full((4,), 0.3, dtype=torch.float64), rtol=1e-6, atol=0
    )
    assert not torch.equal(moved[0], moved[1])
