"""What every attack promises, whatever it searches and however."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from attacked import GRIDS, climb, grid, problem_of, run, runs, take
from found import Plugin, chunks_in
from torch import Tensor
from world import COUNT, PARTS, network, predicted, shown_to, slope_error, smooth_network, untouched

from runner.attacks import engine
from runner.core.attack_types import Attack, Best, budgets, in_ball, preserves_label
from runner.core.norms import perturbation_norms

EXACT = {"rtol": 0.0, "atol": 0.0}


def test_it_is_an_attack(attack: Plugin) -> None:
    built = attack.build()
    assert isinstance(built, Attack)
    assert set(budgets(built)) <= set(GRIDS)


def test_images_stay_inside_the_ball_and_the_box(any_attack: Plugin) -> None:
    for norm, made in runs(any_attack):
        for epsilon, best in zip(made.epsilons, made.steps, strict=True):
            assert best.images.dtype == made.problem.images.dtype
            assert 0.0 <= best.images.min() <= best.images.max() <= 1.0
            if in_ball(any_attack.build()):
                sizes = perturbation_norms(best.images, made.problem.images, norm)
            else:
                sizes = best.notes["transform_size"]
            assert (sizes <= epsilon * (1 + 1e-6)).all(), (norm, epsilon, sizes)


def test_a_budget_of_zero_changes_nothing(attack: Plugin) -> None:
    for _, made in runs(attack):
        assert torch.equal(made.steps[0].images, made.problem.images)
        assert not made.steps[0].found.any()


def test_it_does_harm(attack: Plugin) -> None:
    for norm, made in runs(attack):
        assert (made.steps[-1].harm > made.steps[0].harm).any(), norm


def test_what_was_not_found_is_the_clean_image(attack: Plugin) -> None:
    for _, made in runs(attack):
        for best in made.steps:
            assert torch.equal(best.images[~best.found], made.problem.images[~best.found])


def test_harm_never_falls_as_the_budget_grows(any_attack: Plugin) -> None:
    for norm, made in runs(any_attack):
        harm = torch.stack([best.harm for best in made.steps])
        assert torch.isfinite(harm).all()
        assert (harm.diff(dim=0) >= 0).all(), norm


def test_the_label_is_kept_where_that_is_promised(any_attack: Plugin) -> None:
    for norm, made in runs(any_attack):
        kept = [predicted(made.problem.model, best.images) == made.problem.targets for best in made.steps]
        assert torch.stack(kept).all() or not preserves_label(any_attack.build()), norm


def test_equal_calls_give_equal_bits_and_leave_the_model_alone(attack: Plugin) -> None:
    for norm, made in runs(attack):
        problem = problem_of(attack, network(), norm)
        with untouched(problem.model, problem.images, problem.targets, problem.partners, problem.keys):
            again = climb(attack.build(), problem, norm, made.epsilons)
        for best, other in zip(made.steps, again, strict=True):
            assert_same(best, other, **EXACT)
            assert not best.images.requires_grad
            assert not best.harm.requires_grad


def test_neither_batch_nor_order_nor_chunk_matters(any_attack: Plugin) -> None:
    """In float64, where rounding is too small to change which of two candidates is the better one."""
    for norm in budgets(any_attack.build()):
        made = run(any_attack, norm, torch.float64)
        last = made.steps[-1]
        for rows in PARTS:
            best = climb(any_attack.build(), take(made.problem, rows), norm, made.epsilons)[-1]
            notes = {name: value[rows] for name, value in last.notes.items()}
            assert_same(best, Best(last.images[rows], last.harm[rows], last.found[rows], notes), rtol=1e-6, atol=1e-7)


def test_another_seed_gives_other_random_numbers(attack: Plugin) -> None:
    """Another seed shows the model other images if, and only if, random numbers are drawn."""
    for norm, made in runs(attack):
        other = run(attack, norm, seed=1)
        same = len(made.shown) == len(other.shown) and all(map(torch.equal, made.shown, other.shown))
        assert same is not made.drawn, norm


def test_no_pass_is_larger_than_the_chunk(attack: Plugin) -> None:
    """One image an example at a time; attributions may make more of each, which their own `chunk` bounds."""
    inner = list(chunks_in(attack.cheap["attack"]))
    for norm, made in runs(attack):
        problem = made.problem
        with shown_to(problem.model) as explaining:
            problem.explain(problem.model, problem.images, problem.targets, problem.keys)
        largest = max(COUNT, *inner, *map(len, explaining))
        assert max(map(len, made.shown)) <= largest, norm


def test_its_gradient_is_that_of_finite_differences(any_attack: Plugin) -> None:
    """In float64, of what is raised at the first ascent steps; an attack of order 0 takes none."""
    for norm in budgets(any_attack.build()):
        found = ascents(any_attack, norm)
        assert bool(found) is (any_attack.build().order >= 1), (
            "gradients come from runner.attacks.engine.values_and_direction"
        )
        assert not found or any(gradient.any() for *_, gradient in found)
        if not getattr(getattr(any_attack.build(), "objective", None), "exact_gradient", True):
            continue
        first = found[:3]
        errors = [slope_error(partial(raised, step=step), at, gradient) for raised, at, step, gradient in first]
        known = [error for error in errors if error < float("inf")]  # a distance has a kink where it is zero
        assert bool(known) is bool(found)
        assert all(error < 1e-4 for error in known), (norm, errors)


def ascents(attack: Plugin, norm: Any) -> list[tuple[Callable[..., Tensor], Tensor, int, Tensor]]:
    """(objective, images, step, gradient) of every ascent step at the smallest budget."""
    found = []
    real = engine.values_and_direction

    def recorded(objective: Callable[[Tensor, int], Tensor], images: Tensor, step: int) -> tuple[Tensor, Tensor]:
        values, gradient = real(objective, images, step)
        found.append((objective, images.detach().clone(), step, gradient))
        return values, gradient

    problem = problem_of(attack, smooth_network(), norm)
    users = [module for name, module in list(sys.modules.items()) if name.startswith("runner.attacks")]
    with pytest.MonkeyPatch.context() as patch:
        for module in users:
            if getattr(module, "values_and_direction", None) is real:
                patch.setattr(module, "values_and_direction", recorded)
        climb(attack.build(), problem, norm, grid(attack, norm)[:2])
    return found


def assert_same(best: Best, other: Best, **tolerance: float) -> None:
    for name in ("images", "harm", "found"):
        torch.testing.assert_close(getattr(best, name), getattr(other, name), **tolerance)
    assert best.notes.keys() == other.notes.keys()
    for name, value in best.notes.items():
        torch.testing.assert_close(value, other.notes[name], equal_nan=True, **tolerance)
