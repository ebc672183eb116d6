"""Gradient and random attacks on a quadratic model, whose map A x is known."""

from dataclasses import replace

import pytest
import torch

from runner.attacks.engine import ascent_direction
from runner.attacks.gradient import GradientAttack
from runner.attacks.objectives import MassCenter, TopK
from runner.attacks.random import RandomAttack
from runner.core import rng
from runner.core.attack_types import Problem
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms

ATTACK = GradientAttack(TopK(3), measure="any", steps=20)


def climb(attack, problem: Problem, norm: str, epsilons=(0.05, 0.2, 0.5)):
    best, found = attack.start(problem), []
    for epsilon in epsilons:
        best = attack.search(problem, epsilon, norm, best)
        found.append(best)
    return found


def test_topk_moves_mass_off_the_original_pixels(quadratic):
    best = climb(ATTACK, quadratic, "l2")[-1]
    share = TopK(3).bind(_original(quadratic))
    before = share(quadratic.explain(quadratic.model, quadratic.images, quadratic.targets, quadratic.keys), None)
    after = share(quadratic.explain(quadratic.model, best.images, quadratic.targets, quadratic.keys), None)
    assert (after > before).all()


def test_gradient_beats_random_at_equal_budget(quadratic):
    attacked = MassCenter().bind(_original(quadratic))
    quadratic = replace(quadratic, harm=lambda reference, maps: attacked(maps, None))
    gradient = climb(GradientAttack(MassCenter(), "any", steps=20), quadratic, "l2")[-1]
    random = climb(RandomAttack("any", "ball", 20), quadratic, "l2")[-1]
    assert gradient.harm.mean() > random.harm.mean()


def test_an_example_whose_label_always_flips_is_unharmed(quadratic):
    class Flips(torch.nn.Module):
        def forward(self, images):
            changed = (images != quadratic.images).flatten(1).any(1)
            logits = quadratic.model(images)
            return torch.where(changed[:, None], logits.flip(1), logits)

    best = climb(ATTACK, replace(quadratic, model=Flips()), "l2")[-1]
    assert torch.equal(best.images, quadratic.images)
    assert not best.found.any()


def test_betas_grow_geometrically():
    assert replace(ATTACK, steps=3, beta=10.0, beta_end=1000.0).betas() == pytest.approx([10.0, 100.0, 1000.0])
    assert replace(ATTACK, steps=2, beta=None).betas() == [None, None]
    assert replace(ATTACK, steps=1, beta=5.0, beta_end=50.0).betas() == [5.0]


def test_each_step_uses_the_twin_of_its_beta(quadratic):
    asked = []

    def twin(beta):
        asked.append(beta)
        return quadratic.model

    climb(replace(ATTACK, steps=3, beta=10.0, beta_end=40.0), replace(quadratic, twin=twin), "l2", (0.1,))
    assert asked == pytest.approx([10.0, 20.0, 40.0])


@pytest.mark.parametrize(("draws", "distinct"), [("fresh", 4), ("common", 1)])
def test_draws_say_whether_the_noise_changes_between_steps(quadratic, draws, distinct):
    seen = set()

    def explain(model, images, targets, keys):
        if images.requires_grad:
            seen.add(int(keys[0]))
        return quadratic.explain(model, images, targets, keys)

    climb(replace(ATTACK, steps=4, draws=draws), replace(quadratic, explain=explain), "l2", (0.1,))
    assert len(seen) == distinct


def noisy(quadratic):
    """The problem with maps that are scaled by noise of their own key in every pixel."""

    def explain(model, images, targets, keys):
        maps = quadratic.explain(model, images, targets, keys)
        return maps * (1 + rng.uniform(keys, tuple(maps.shape[1:])))

    return replace(quadratic, explain=explain)


@pytest.mark.parametrize("draws", ["fresh", "common"])
def test_eot_averages_the_gradients_of_its_draws(quadratic, draws):
    """The mean gradient by finite differences of the mean objective, over the very draws that were asked for."""
    problem, asked = noisy(quadratic), []

    def explain(model, images, targets, keys):
        asked.append(keys)
        return problem.explain(model, images, targets, keys)

    attack = replace(ATTACK, eot=3, steps=1, draws=draws)
    raised = attack._ascent(replace(problem, explain=explain))
    asked.clear()
    direction = ascent_direction(lambda images, step: raised(images, step, problem.keys), problem.images, 0)
    assert len({int(keys[0]) for keys in asked}) == len(asked) == 3
    first = problem.keys if draws == "common" else rng.fold(problem.keys, 1)
    assert torch.equal(asked[0], first)
    bound = ATTACK.objective.bind(_original(problem))

    def mean(images):
        return sum(bound(problem.explain(problem.model, images, problem.targets, keys), None) for keys in asked) / 3

    step = 1e-3 * rng.normal(rng.fold(problem.keys, 5), tuple(problem.images.shape[1:]))
    expected = (mean(problem.images + step) - mean(problem.images - step)) / 2
    torch.testing.assert_close((direction * step).flatten(1).sum(1), expected, rtol=0.02, atol=2e-6)


def test_one_draw_is_what_it_was_before_there_were_more(quadratic):
    """eot=1 takes the noise of the step itself, which larger numbers begin with."""
    problem, seen = noisy(quadratic), []

    def explain(model, images, targets, keys):
        if images.requires_grad:
            seen.append(keys)
        return problem.explain(model, images, targets, keys)

    climb(replace(ATTACK, steps=2), replace(problem, explain=explain), "l2", (0.1,))
    step_keys = [rng.fold(rng.fold(problem.keys, 0), step + 1) for step in range(2)]
    assert [keys.tolist() for keys in seen] == [keys.tolist() for keys in step_keys]


def test_eot_changes_nothing_where_there_is_no_noise(quadratic):
    one, many = (climb(replace(ATTACK, eot=eot), quadratic, "l2")[-1] for eot in (1, 4))
    torch.testing.assert_close(many.images, one.images)


def test_random_sign_lies_on_the_surface_of_the_ball(quadratic):
    inner = replace(quadratic, harm=lambda reference, maps: 1e-9 + (maps - reference).square().sum(dim=(1, 2)))
    best = climb(RandomAttack("any", "sign", 1), inner, "linf", (0.1,))[-1]
    moved = perturbation_norms(best.images, quadratic.images, "linf")[best.found]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"steps": 0}, "attack.steps"),
        ({"restarts": 0}, "attack.restarts"),
        ({"eot": 0}, "attack.eot"),
        ({"beta": 0.0}, "attack.beta"),
        ({"beta": None, "beta_end": 3.0}, "attack.beta_end"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        replace(ATTACK, **options)


def _original(problem):
    from runner.attacks.objectives import Original

    maps = problem.explain(problem.model, problem.images, problem.targets, problem.keys)
    return Original(maps, problem.model(problem.images).softmax(1), lambda: maps)


def test_keys_of_steps_are_streams_of_their_own():
    keys = rng.example_keys(0, range(3), "attack")
    assert len({int(rng.fold(keys, step)[0]) for step in range(50)}) == 50
