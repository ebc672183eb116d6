"""The ascent that finds its own step length, on objectives whose maximum in the ball is known."""

import pytest
import torch

from runner.attacks.engine import ProjectedGradient
from runner.attacks.halving import HalvingAscent
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms

KEYS = rng.example_keys(0, range(4))
CLEAN = torch.full((4, 2, 3, 3), 0.5)


def narrow(images, step=0):
    """A narrow ridge, whose peak lies off the clean image and inside the ball."""
    weights = torch.logspace(0, 3, 18).reshape(2, 3, 3)
    peak = CLEAN + 0.1 * torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(2))
    return -((images - peak).square() * weights).flatten(1).sum(1)


def test_checkpoints_are_those_of_the_paper():
    assert sorted(HalvingAscent(steps=100).checkpoints()) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_objective_reaches_its_maximum_in_the_ball(norm):
    weights = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    visited = []
    HalvingAscent(steps=10)(
        lambda images, step: (images * weights).flatten(1).sum(1), CLEAN, 0.25, norm, KEYS, visit=visited.append
    )
    best = 0.25 * (weights.norm() if norm == "l2" else weights.abs().sum())
    gain = torch.stack([((found - CLEAN) * weights).flatten(1).sum(1) for found in visited]).amax(dim=0)
    torch.testing.assert_close(gain, best.expand(4), rtol=1e-5, atol=0)
    assert len(visited) == 10
    assert all((perturbation_norms(found, CLEAN, norm) <= 0.25).all() for found in visited)


def test_it_climbs_higher_than_steps_of_one_length():
    def reached(engine):
        seen = []
        engine(narrow, CLEAN, 1.0, "l2", KEYS, visit=lambda images: seen.append(narrow(images)))
        return torch.stack(seen).amax(dim=0)

    halving = reached(HalvingAscent(steps=100))
    for step_size in (None, 0.5, 0.005):
        assert (halving > reached(ProjectedGradient(steps=100, step_size=step_size))).all()


def test_each_example_has_its_own_step():
    """The examples of a batch halve at different checkpoints, and each goes the way that it goes alone."""
    stretch = torch.tensor([1.0, 30.0, 1000.0, 3.0])

    def objective(images, step, scale=stretch):
        weights = torch.linspace(1, 2, 18).reshape(1, 2, 3, 3).pow(scale.log().reshape(-1, 1, 1, 1))
        return -((images - 0.45).square() * weights).flatten(1).sum(1)

    together = HalvingAscent(steps=30)(objective, CLEAN, 0.5, "l2", KEYS)
    for place in range(4):
        own = slice(place, place + 1)
        alone = HalvingAscent(steps=30)(
            lambda images, step, own=own: objective(images, step, stretch[own]), CLEAN[own], 0.5, "l2", KEYS[own]
        )
        torch.testing.assert_close(together[own], alone, rtol=0, atol=1e-6)


def test_a_step_is_halved_where_too_few_steps_rose():
    """An objective that falls: each checkpoint goes back to the clean image, with half the step and a quarter of the drift."""
    visited = []
    falling = lambda images, step: 0 * images.flatten(1).sum(1) - step  # noqa: E731
    HalvingAscent(steps=100)(falling, CLEAN, 0.25, "linf", KEYS, visit=visited.append)
    sizes = [float((visited[step] - CLEAN).abs().max()) for step in (22, 41, 57)]
    assert sizes == pytest.approx([0.75 * step + 0.25 * 0.25 for step in (0.25, 0.125, 0.0625)], rel=1e-5)


def test_a_budget_is_needed():
    with pytest.raises(ConfigError, match=r"epsilon\.values=inf"):
        HalvingAscent(steps=3)(narrow, CLEAN, float("inf"), "l2", KEYS)
