"""What is never kept: images whose logits, map or harm are not finite, and any image where the clean map has no harm."""

from dataclasses import replace

import pytest
import torch

from runner.attacks.gradient import GradientAttack
from runner.attacks.judge import Judge, merge
from runner.attacks.label_pgd import LabelAttack
from runner.attacks.nes import NaturalEvolution
from runner.attacks.objectives import TopK
from runner.attacks.random import RandomAttack
from runner.attacks.square import SquareSearch
from runner.core.attack_types import Best, Problem
from runner.core.rng import example_keys
from runner.metrics.spearman import Spearman

COUNT = 4


def model(images):
    """Always sure of the first class."""
    return torch.stack((5 + images.flatten(1).sum(dim=1), images.flatten(1).mean(dim=1)), dim=1)


def problem_of(**changes):
    images = torch.rand(COUNT, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    spearman = Spearman()
    made = Problem(
        model=model,
        twin=lambda beta: model,
        explain=lambda network, inputs, targets, keys: inputs.square().sum(dim=1),
        harm=lambda reference, maps: -spearman(reference, maps),
        images=images,
        targets=torch.zeros(COUNT, dtype=torch.long),
        partners=images.flip(0),
        keys=example_keys(0, range(COUNT), "judge"),
    )
    return replace(made, **changes)


def spoiling(value, only_moved):
    """Maps of the third example that are not finite; only away from the clean image, if so wanted."""
    clean = problem_of().images

    def explain(network, inputs, targets, keys):
        maps = inputs.square().sum(dim=1)
        moved = (inputs - clean).flatten(1).abs().amax(dim=1) > 0
        hit = (torch.arange(len(inputs)) == 2) & (moved | (not only_moved))
        return torch.where(hit.reshape(-1, 1, 1), maps + value, maps)

    return explain


ATTACKS = {
    "random": RandomAttack("spearman", draws=5),
    "square": SquareSearch("spearman", queries=8),
    "nes": NaturalEvolution("spearman", queries=10, pairs=2),
    "best": GradientAttack(TopK(5), "spearman", steps=4),
    "last": GradientAttack(TopK(5), "spearman", steps=4, keep="last"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_map_that_is_not_finite_is_never_kept(attack, value):
    problem = problem_of(explain=spoiling(value, only_moved=True))
    best = attack.search(problem, 0.3, "linf", attack.start(problem))
    assert best.found.tolist() == [True, True, False, True]
    assert torch.equal(best.images[2], problem.images[2])
    assert best.harm.isfinite().all()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_is_found_where_the_clean_map_is_zero(attack):
    problem = problem_of()
    flat = replace(problem, images=problem.images.clone())
    flat.images[2] = 0.0
    best = attack.search(flat, 0.3, "linf", attack.start(flat))
    assert best.found.tolist() == [True, True, False, True]
    assert best.harm.isnan().tolist() == [False, False, True, False]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_never_kept(bad):
    """Neither by the judge nor by the attack on the label."""
    clean = problem_of().images

    def broken(images):
        logits = model(images)
        moved = (images - clean).flatten(1).abs().amax(dim=1) > 0
        return torch.where((moved & (torch.arange(COUNT) == 2)).unsqueeze(1), logits + bad, logits)

    problem = problem_of(model=broken)
    for attack in (RandomAttack("spearman", draws=5), LabelAttack(steps=3, loss="margin")):
        best = attack.search(problem, 0.3, "linf", attack.start(problem))
        assert torch.equal(best.images[2], clean[2])
        assert best.found[0]


def test_merge_takes_no_harm_that_is_not_finite():
    clean = Best(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    other = Best(torch.ones(3, 1), torch.tensor([torch.nan, torch.inf, 1.0]), torch.ones(3, dtype=torch.bool))
    merged = merge(clean, other, torch.ones(3, dtype=torch.bool))
    assert merged.found.tolist() == [False, False, True]
    assert merged.harm.tolist() == [0.0, 0.0, 1.0]


def test_the_judge_says_what_may_be_kept():
    problem = problem_of(explain=spoiling(torch.nan, only_moved=False))
    harm, kept = Judge.by_measure(problem).look(problem.images)
    assert harm.isnan().tolist() == kept.logical_not().tolist() == [False, False, True, False]
