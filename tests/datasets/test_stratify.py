"""Stratified orders: balance of every prefix, prefixes of prefixes, and what they depend on."""

import numpy as np
import pytest
import torch

from runner.core.errors import ConfigError
from runner.datasets.base import Split
from runner.datasets.stratify import stratified_order, stratified_split

BALANCED = torch.arange(10).repeat_interleave(50)
SKEWED = torch.cat([torch.zeros(70), torch.ones(20), torch.full((10,), 2.0)]).long()


def order(labels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return stratified_order(labels, torch.arange(len(labels)), seed)


def test_every_round_of_equal_classes_holds_each_class_once() -> None:
    rounds = BALANCED[order(BALANCED)].reshape(50, 10).sort(dim=1).values
    assert torch.equal(rounds, torch.arange(10).expand(50, 10))


def test_prefixes_of_unequal_classes_keep_their_proportions() -> None:
    picked = SKEWED[order(SKEWED)]
    for size in range(1, 101):
        counts = torch.bincount(picked[:size], minlength=3).double()
        assert (counts - size * torch.tensor([0.7, 0.2, 0.1])).abs().max() <= 1.0, size


def test_order_is_a_permutation_shuffled_inside_each_class_and_across_rounds() -> None:
    positions = order(BALANCED)
    assert torch.equal(positions.sort().values, torch.arange(500))
    of_first_class = positions[BALANCED[positions] == 0]
    assert not torch.equal(of_first_class, of_first_class.sort().values)
    rounds = BALANCED[positions].reshape(50, 10)
    assert len(rounds.unique(dim=0)) > 40


def test_order_depends_on_the_seed_and_on_nothing_else() -> None:
    assert torch.equal(order(BALANCED, 3), order(BALANCED, 3))
    assert not torch.equal(order(BALANCED, 3), order(BALANCED, 4))
    torch.manual_seed(1)
    np.random.seed(1)
    assert torch.equal(order(BALANCED, 3), order(BALANCED, 3))


def test_take_is_a_prefix_and_ids_point_into_the_full_split() -> None:
    full = Split.full(torch.arange(500, dtype=torch.int32).to(torch.uint8).reshape(-1, 1, 1, 1), BALANCED)
    small, large, everything = (full.take(size, 0) for size in (30, 200, None))
    assert torch.equal(small.ids, large.ids[:30])
    assert torch.equal(large.ids, everything.ids[:200])
    assert (len(small), len(everything)) == (30, 500)
    assert torch.equal(small.labels, BALANCED[small.ids])
    assert torch.equal(small.images, full.images[small.ids])


def test_split_holds_out_the_same_number_of_each_class() -> None:
    train, test = stratified_split(SKEWED, 0, per_class=4)
    assert torch.bincount(SKEWED[test]).tolist() == [4, 4, 4]
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(100))
    assert torch.equal(test, test.sort().values)


def test_split_by_fraction_rounds_each_class() -> None:
    _, test = stratified_split(SKEWED, 0, fraction=0.25)
    assert torch.bincount(SKEWED[test]).tolist() == [18, 5, 2]
    train, test = stratified_split(SKEWED, 0, fraction=1.0)
    assert (len(train), len(test)) == (0, 100)


def test_split_depends_on_the_seed() -> None:
    first, again, other = (stratified_split(BALANCED, seed, per_class=5)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({}, "dataset.test_fraction=None"),
        ({"fraction": 0.5, "per_class": 2}, "dataset.test_fraction=0.5"),
        ({"fraction": 0.0}, "dataset.test_fraction=0.0"),
        ({"fraction": 1.5}, "dataset.test_fraction=1.5"),
        ({"per_class": 10}, "dataset.test_per_class=10: must be 1 to 9"),
        ({"per_class": 0}, "dataset.test_per_class=0"),
    ],
)
def test_split_refuses_rules_out_of_range(rule: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        stratified_split(SKEWED, 0, **rule)
