"""Metrics against hand-computed values and scipy, with and without ties."""

import math
import warnings

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch

from runner.core.errors import ConfigError
from runner.metrics import kendall, ranks
from runner.metrics.cosine_distance import CosineDistance
from runner.metrics.kendall import Kendall
from runner.metrics.mass_center_shift import MassCenterShift
from runner.metrics.ranks import centred_ranks, lowest_ranks
from runner.metrics.reduction import REDUCTIONS, reduce
from runner.metrics.spearman import Spearman
from runner.metrics.topk_intersection import TopKIntersection, top_mask


def pairs(levels, count=60, shape=(7, 9), dtype=torch.float32):
    """Random correlated maps; with `levels`, values are rounded to so many levels, which makes ties."""
    generator = torch.Generator().manual_seed(levels or 0)
    first, noise = torch.rand(2, count, *shape, generator=generator).to(dtype)
    second = first + torch.linspace(-1, 1, count).reshape(-1, 1, 1) * noise
    if levels:
        first, second = ((maps * levels).round() for maps in (first, second))
    return first, second


def test_topk_intersection_by_hand():
    first = torch.tensor([[[4.0, 3.0], [2.0, 1.0]], [[4.0, 3.0], [2.0, 1.0]], [[4.0, 3.0], [2.0, 1.0]]])
    second = torch.tensor([[[9.0, 8.0], [0.0, 1.0]], [[9.0, 0.0], [8.0, 1.0]], [[0.0, 1.0], [8.0, 9.0]]])
    assert TopKIntersection(2)(first, second).tolist() == [1.0, 0.5, 0.0]
    assert TopKIntersection(3)(first, second).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    assert TopKIntersection(4)(first, second).tolist() == [1.0, 1.0, 1.0]


def test_topk_intersection_takes_the_first_of_equals():
    flat = torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0, 0.0]])
    expected = {1: [1], 2: [1, 3], 3: [0, 1, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 4]}
    for k, chosen in expected.items():
        assert top_mask(flat.reshape(1, 2, 3), k)[0].nonzero().flatten().tolist() == chosen


@pytest.mark.parametrize("levels", [None, 3])
def test_topk_intersection_equals_a_stable_sort(levels):
    first, second = pairs(levels)
    for k in (1, 10, 63):
        expected = [
            len(set(np.argsort(-a, kind="stable")[:k]) & set(np.argsort(-b, kind="stable")[:k])) / k
            for a, b in zip(first.flatten(1).numpy(), second.flatten(1).numpy(), strict=True)
        ]
        assert TopKIntersection(k)(first, second).tolist() == pytest.approx(expected, abs=1e-12)


def test_k_is_refused_by_name():
    for k in (0, -3):
        with pytest.raises(ConfigError, match=rf"metrics\.k={k}: must be at least 1"):
            TopKIntersection(k)
    with pytest.raises(ConfigError, match=r"metrics\.k=64: must be at most 63"):
        TopKIntersection(64)(*pairs(None))


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spearman_equals_scipy(levels, dtype):
    first, second = pairs(levels, dtype=dtype)
    expected = [scipy.stats.spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert Spearman()(first, second).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("shape", [(7, 9), (8, 8), (1, 2), (5, 1), (28, 28)])
def test_kendall_equals_scipy(levels, shape, dtype):
    first, second = pairs(levels, shape=shape, dtype=dtype)
    varies = (first.flatten(1).std(dim=1) > 0) & (second.flatten(1).std(dim=1) > 0)
    assert varies.sum() > 20
    first, second = first[varies], second[varies]
    expected = [scipy.stats.kendalltau(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert Kendall()(first, second).tolist() == pytest.approx(expected, rel=1e-15, abs=0)


@pytest.mark.parametrize("levels", [None, 2, 5])
def test_pairs_are_counted_exactly(levels):
    """Against all pairs, one by one; without ties also signed zeros, subnormal numbers and both infinities, which have an order."""
    first, second = (maps.flatten(1) for maps in pairs(levels))
    if levels is None:
        first[:, :6] = torch.tensor([-0.0, 0.0, 1e-42, -1e-42, torch.inf, -torch.inf])
    signs = [(rows.unsqueeze(2) - rows.unsqueeze(1)).nan_to_num().sign().long() for rows in (first, second)]
    agreement, untied, other_untied = kendall.pairs(first, second)
    assert torch.equal(agreement, (signs[0] * signs[1]).sum(dim=(1, 2)) // 2)
    for counted, sign in ((untied, signs[0]), (other_untied, signs[1])):
        assert torch.equal(counted, sign.abs().sum(dim=(1, 2)) // 2)


def test_rank_metrics_of_large_maps_equal_scipy_in_bounded_memory():
    """Also with more pixels than an int32 has room for with their positions; no group of rows is larger than the limit."""
    generator = torch.Generator().manual_seed(5)
    for side in (224, 300):
        first, noise = torch.rand(2, 3, side, side, generator=generator)
        second = (first + noise).mul(500).round()
        for metric, oracle in ((Kendall(), scipy.stats.kendalltau), (Spearman(), scipy.stats.spearmanr)):
            expected = [oracle(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
            assert metric(first, second).tolist() == pytest.approx(expected, abs=1e-12)
    rows: list[int] = []
    ranks.in_groups(lambda left, right: rows.append(len(left)) or left[:, 0], *torch.zeros(2, 7, 224, 224))
    assert rows == [2, 2, 2, 1]


def test_inversions_by_hand():
    values = torch.tensor([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 1, 0, 0, 2], [2, 0, 2, 1, 2]])
    assert kendall.inversions(values).tolist() == [0, 10, 4, 3]
    assert kendall.inversions(torch.tensor([[0]])).tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("levels", [None, 4])
def test_ranks_equal_scipy(levels, dtype):
    values = pairs(levels)[0].flatten(1).to(dtype)
    average = torch.from_numpy(scipy.stats.rankdata(values.double(), axis=1))
    assert torch.equal(centred_ranks(values) / 2, average - average.mean(dim=1, keepdim=True))
    lowest = torch.from_numpy(scipy.stats.rankdata(values.double(), "min", axis=1)).long() - 1
    assert torch.equal(lowest_ranks(values)[0], lowest)


def test_cosine_distance_equals_scipy():
    first, second = pairs(None)
    first = first - 0.5
    expected = [
        scipy.spatial.distance.cosine(a.flatten().double(), b.flatten().double())
        for a, b in zip(first, second, strict=True)
    ]
    assert CosineDistance()(first, second).tolist() == pytest.approx(expected, abs=1e-12)
    assert CosineDistance()(first * 1e-30, second * 1e30).tolist() == pytest.approx(expected, abs=1e-6)
    assert CosineDistance()(first, -2 * first).tolist() == pytest.approx([2.0] * len(first))


def test_mass_center_shift_by_hand():
    first, second = torch.zeros(2, 3, 5, 7)
    first[:, 0, 0] = 3.0
    second[0, 3, 4] = 0.1
    second[1, 0, 0], second[1, 4, 0] = 1.0, 3.0
    second[2] = 1.0
    assert MassCenterShift()(first, second).tolist() == pytest.approx([5.0, 3.0, math.hypot(2, 3)])


def test_mass_center_shift_is_the_formula_on_maps_that_sum_to_their_size():
    first, second = pairs(None, dtype=torch.float64)
    second = second.abs()
    rows, columns = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")

    def centre(maps):
        maps = maps * (63 / maps.sum(dim=(1, 2), keepdim=True))
        return torch.stack([(maps * grid).sum(dim=(1, 2)) / 63 for grid in (rows, columns)], dim=1)

    expected = (centre(first) - centre(second)).norm(dim=1)
    torch.testing.assert_close(MassCenterShift()(first, second), expected)
    torch.testing.assert_close(MassCenterShift()(-first, second * 1e-40), expected)


def test_reductions_by_hand_and_differentiable():
    maps = torch.tensor([[[[1.0]], [[-3.0]], [[0.5]]]], requires_grad=True)
    expected = {"abs_sum": 4.5, "sum_abs": 1.5, "sum": -1.5, "abs_max": 3.0}
    slopes = {"abs_sum": [1, -1, 1], "sum_abs": [-1, -1, -1], "sum": [1, 1, 1], "abs_max": [0, -1, 0]}
    assert set(REDUCTIONS) == set(expected)
    for how, value in expected.items():
        reduced = reduce(maps, how)
        assert reduced.shape == (1, 1, 1)
        assert reduced.item() == value
        assert torch.autograd.grad(reduced.sum(), maps)[0].flatten().tolist() == slopes[how]


def test_unknown_reduction_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"metrics\.reduction=abs_summ: .*did you mean abs_sum"):
        reduce(torch.zeros(1, 1, 1, 1), "abs_summ")


def test_scipy_has_no_answer_for_constant_maps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert math.isnan(scipy.stats.kendalltau(np.ones(4), np.arange(4)).statistic)
        assert math.isnan(scipy.stats.spearmanr(np.ones(4), np.arange(4)).statistic)


@pytest.mark.parametrize("compute", [Kendall(), Spearman()])
def test_rank_correlation_of_constant_maps(compute):
    varying = torch.arange(6.0).reshape(1, 2, 3)
    constant = torch.full_like(varying, 0.3)
    assert compute(constant, 2 * constant).isnan().all()
    assert compute(constant, varying).item() == 0.0
    assert compute(varying, torch.zeros_like(varying)).item() == 0.0


def test_cosine_distance_of_zero_maps():
    varying = torch.arange(6.0).reshape(1, 2, 3)
    zero = torch.zeros_like(varying)
    assert CosineDistance()(zero, zero).isnan().all()
    assert CosineDistance()(zero, varying).item() == 1.0
    assert CosineDistance()(varying, zero).item() == 1.0


def test_mass_center_of_a_zero_map_is_that_of_the_image():
    zero = torch.zeros(1, 4, 6)
    corner = zero.clone()
    corner[0, 0, 0] = 1.0
    assert MassCenterShift()(zero, zero).isnan().all()
    assert MassCenterShift()(zero, corner).item() == pytest.approx(math.hypot(1.5, 2.5))
