"""Kernel SHAP: Shapley values by enumeration, Captum's oracles, and the closed form of linear models."""

import itertools
import math

import captum.attr
import pytest
import torch

from runner.attributions.kernel_shap import KernelShap, weighted_least_squares
from runner.core.errors import ConfigError
from runner.core.rng import example_keys

EXACT = KernelShap(grid=2, samples=14)


def close(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def cells_of(images, grid):
    rows, columns = (torch.arange(size) * grid // size for size in images.shape[2:])
    return rows.unsqueeze(1) * grid + columns


def by_enumeration(model, images, targets, grid, baseline):
    """(N, M) Shapley values from their definition: mean gain of a cell over all subsets of the others."""
    cells, count = cells_of(images, grid), grid**2
    subsets = list(itertools.product([False, True], repeat=count))
    worth = {}
    for members in subsets:
        keep = torch.tensor(members)[cells]
        outputs = model(torch.where(keep, images, torch.full_like(images, baseline)))
        worth[members] = outputs.gather(1, targets.unsqueeze(1)).squeeze(1).detach()
    values = torch.zeros(len(images), count, dtype=torch.float64)
    for members in subsets:
        for cell in (number for number in range(count) if not members[number]):
            size = sum(members)
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            joined = (*members[:cell], True, *members[cell + 1 :])
            values[:, cell] += weight * (worth[joined] - worth[members])
    return values


def cell_sums(maps, grid):
    """(N, M) sums of a map over its cells."""
    cells = cells_of(maps, grid).flatten()
    out = torch.zeros(len(maps), grid**2, dtype=maps.dtype)
    return out.index_add_(1, cells, maps.sum(dim=1).flatten(1))


def test_all_coalitions_give_the_shapley_values(cnn, images, targets, keys):
    assert not EXACT.stochastic
    maps = EXACT(cnn, images, targets, keys)
    wanted = by_enumeration(cnn, images, targets, 2, 0.0)
    close(cell_sums(maps, 2), wanted)
    sizes = cells_of(images, 2).flatten().bincount() * 2
    assert sizes.unique().numel() > 1
    close(maps, (wanted / sizes)[:, cells_of(images, 2)].unsqueeze(1).repeat(1, 2, 1, 1))


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_all_coalitions_agree_with_captum(output, cnn, images, targets, keys):
    forward = cnn if output == "logit" else lambda inputs: cnn(inputs).softmax(1)
    mask = cells_of(images, 2).reshape(1, 1, 5, 7).repeat(1, 2, 1, 1)
    with torch.no_grad():
        oracle = captum.attr.ShapleyValues(forward).attribute(images, 0.25, targets, feature_mask=mask)
    sizes = mask[0].flatten().bincount()[mask]
    maps = KernelShap(grid=2, baseline=0.25, output=output)(cnn, images, targets, keys)
    # Captum adds up in float32
    close(maps * sizes, oracle.double(), 2e-6)


@pytest.mark.parametrize("samples", [64, 65, 90])
def test_drawn_coalitions_are_exact_on_a_linear_model(samples, linear, images, targets, keys):
    method = KernelShap(grid=4, samples=samples, baseline=0.3)
    assert method.stochastic
    weight = linear.weights.detach().T[targets].reshape_as(images)
    close(cell_sums(method(linear, images, targets, keys), 4), cell_sums(weight * (images - 0.3), 4), 1e-8)


def test_captum_kernel_shap_agrees_on_a_linear_model(linear, images, targets, keys):
    mask = cells_of(images, 3).reshape(1, 1, 5, 7).repeat(1, 2, 1, 1)
    torch.manual_seed(0)
    oracle = captum.attr.KernelShap(linear).attribute(images[:1], 0.0, targets[:1], feature_mask=mask, n_samples=60)
    maps = KernelShap(grid=3, samples=60)(linear, images[:1], targets[:1], keys[:1])
    sizes = mask[0].flatten().bincount()[mask]
    # Captum solves in float32 with finite weights for the two ends
    torch.testing.assert_close(maps * sizes, oracle.double(), rtol=1e-3, atol=1e-3)


def test_maps_sum_to_the_rise_from_the_baseline(cnn, images, targets, keys):
    for method in (EXACT, KernelShap(grid=4, samples=70), KernelShap(grid=5, samples=100)):
        rise = (cnn(images) - cnn(torch.zeros_like(images))).gather(1, targets.unsqueeze(1)).squeeze(1).detach()
        close(method(cnn, images, targets, keys).sum(dim=(1, 2, 3)), rise)


def test_more_draws_come_nearer_to_the_shapley_values(cnn, images, targets):
    wanted = by_enumeration(cnn, images, targets, 3, 0.0)
    errors = []
    for samples in (36, 480):
        trials = [example_keys(trial, torch.arange(5)) for trial in range(6)]
        found = [cell_sums(KernelShap(grid=3, samples=samples)(cnn, images, targets, keys), 3) for keys in trials]
        errors.append((torch.stack(found) - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    assert errors[1] < 0.4 * errors[0]
    assert errors[1] < 0.05


def test_coalitions_follow_the_kernel_and_come_in_pairs(keys):
    method = KernelShap(grid=3, samples=400)
    members, weights = method.coalitions(example_keys(0, torch.arange(100)))
    assert members.shape == (100, 400, 9)
    assert torch.equal(weights, torch.ones(400, dtype=torch.float64))
    assert torch.equal(members[:, 0::2], ~members[:, 1::2])
    sizes = members.sum(dim=2)
    assert sizes.min() == 1
    assert sizes.max() == 8
    kernel = torch.tensor([1 / (size * (9 - size)) for size in range(1, 9)], dtype=torch.float64)
    shares = sizes.flatten().bincount(minlength=9)[1:] / sizes.numel()
    torch.testing.assert_close(shares.double(), kernel / kernel.sum(), rtol=0, atol=0.01)
    torch.testing.assert_close(members.double().mean(dim=(0, 1)), torch.full((9,), 0.5).double(), rtol=0, atol=0.01)
    ones = members[sizes == 1].double().mean(dim=0)
    torch.testing.assert_close(ones, torch.full((9,), 1 / 9).double(), rtol=0, atol=0.015)


def test_draws_of_an_example_are_its_own(keys):
    method = KernelShap(grid=4, samples=64)
    members, _ = method.coalitions(keys)
    assert torch.equal(method.coalitions(keys[2:3])[0][0], members[2])
    assert not torch.equal(members[0], members[1])


def test_open_directions_get_the_shortest_solution():
    # only cells 0 and 1 are ever told apart: 2 and 3 share what is left
    coalitions = torch.tensor([[[1.0, 0, 1, 1], [0, 1, 0, 0]]], dtype=torch.float64)
    values = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    found = weighted_least_squares(coalitions, torch.ones(2, dtype=torch.float64), values, torch.tensor([4.0]).double())
    close(found, torch.tensor([[1.0, 1.0, 1.0, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        *(({"grid": 1}, "grid"), ({"samples": 63}, "samples")),
        *(({"grid": 2, "samples": 13}, "samples"), ({"baseline": "black"}, "baseline")),
        ({"chunk": -1}, "chunk"),
    ],
)
def test_wrong_options_are_refused(options, key):
    with pytest.raises(ConfigError, match=rf"^attribution\.{key}="):
        KernelShap(**options)


def test_a_grid_finer_than_the_image_is_refused(cnn, images, targets, keys):
    with pytest.raises(ConfigError, match=r"^attribution\.grid=6: must be at most the image's side, 5"):
        KernelShap(grid=6)(cnn, images, targets, keys)
