"""The few-pixel attack and its ball."""

from dataclasses import replace

import pytest
import torch

from runner.attacks.objectives import MassCenter, TopK
from runner.attacks.random import RandomAttack
from runner.attacks.sparse import SparseAscent, SparseAttack
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms

ATTACK = SparseAttack(TopK(3), measure="any", steps=10, swaps=10)
BUDGETS = (1, 3, 6, 12)


def climb(attack, problem, budgets=BUDGETS):
    best, found = attack.start(problem), []
    for budget in budgets:
        best = attack.search(problem, float(budget), "l0", best)
        found.append(best)
    return found


def test_a_linear_objective_reaches_its_maximum():
    """The pixels with the largest gain go to the corner that their weights point to."""
    clean = torch.full((2, 3, 2, 3), 0.5)
    weights = torch.linspace(-1, 1, 18).reshape(3, 2, 3)
    found = SparseAscent(steps=3, step_size=100.0)(
        lambda images, step: (images * weights).flatten(1).sum(1), clean, 2.0, "l0", rng.example_keys(0, range(2))
    )
    gains = (0.5 * weights.abs()).sum(dim=0).flatten()
    gained = ((found - clean) * weights).flatten(1).sum(1)
    torch.testing.assert_close(gained, gains.topk(2).values.sum().expand(2))
    assert perturbation_norms(found, clean, "l0").tolist() == [2, 2]


def test_it_beats_random_pixels_at_equal_budget(quadratic, original):
    share = MassCenter().bind(original)
    quadratic = replace(quadratic, harm=lambda reference, maps: share(maps, None))
    ours = climb(SparseAttack(MassCenter(), "any", steps=20, swaps=20), quadratic, (2,))[-1]
    random = climb(RandomAttack("any", "sign", 40), quadratic, (2,))[-1]
    assert ours.harm.mean() > random.harm.mean()


def test_swaps_find_more(quadratic):
    without, with_swaps = (climb(replace(ATTACK, swaps=swaps), quadratic)[-1].harm for swaps in (0, 40))
    assert (with_swaps >= without).all()
    assert with_swaps.mean() > without.mean()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"update": "adam", "step_size": 1.0}, "attack.update"),
        ({"keep": "last"}, "attack.keep"),
        ({"swaps": -1}, "attack.swaps"),
        ({"swap_share": 0.0}, "attack.swap_share"),
        ({"swap_share": 1.5}, "attack.swap_share"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        replace(ATTACK, **options)
