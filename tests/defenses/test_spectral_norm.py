"""Spectral norms against the SVD of every layer, and of a convolution's dense matrix; the gradient is sigma u v^T."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.spectral_norm import SpectralNorm, as_matrix, one_iteration

IMAGES = torch.rand(4, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LAYERS = ("0", "2", "5")


def network(seed=0):
    torch.manual_seed(seed)
    first, second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    layers = first, nn.BatchNorm2d(4), second, nn.ReLU(), nn.Flatten(), nn.Linear(54, 3)
    return nn.Sequential(*layers).double()


def batch(count=4):
    return Batch(IMAGES[:count], torch.tensor([0, 1, 2, 0])[:count], rng.example_keys(0, range(count)), 0.0)


def svd(model, name):
    return torch.linalg.svd(model[int(name)].weight.detach().flatten(1), full_matrices=False)


def dense(layer, shape):
    """The matrix of a convolution without its bias, column by column."""
    basis = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).reshape(-1, *shape)
    columns = F.conv2d(basis, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return columns.detach().flatten(1).T


ONE = batch(1)


def settled(model, defense, steps=200):
    for _ in range(steps):
        penalty = defense.penalty(model, ONE)
    return penalty


def test_after_many_steps_it_is_half_the_sum_of_squared_singular_values_and_its_gradient_sigma_u_v_transposed():
    model = network()
    penalty = settled(model, SpectralNorm())
    expected = sum(svd(model, name)[1][0].square() / 2 for name in LAYERS)
    torch.testing.assert_close(penalty.detach(), expected)
    penalty.backward()
    for name in LAYERS:
        left, values, right = svd(model, name)
        expected = values[0] * torch.outer(left[:, 0], right[0])
        torch.testing.assert_close(model[int(name)].weight.grad.flatten(1), expected, rtol=1e-6, atol=1e-8)
    free = [model[0].bias, *model[1].parameters(), model[5].bias]
    assert all(parameter.grad is None for parameter in free)


def test_as_an_operator_a_convolution_has_the_norm_of_its_dense_matrix():
    model = network()
    shapes = {"0": (2, 6, 5), "2": (4, 6, 5)}
    norms = [torch.linalg.matrix_norm(dense(model[int(name)], shape), 2) for name, shape in shapes.items()]
    assert norms[0] > 1.5 * svd(model, "0")[1][0]
    expected = sum(norm.square() / 2 for norm in [*norms, svd(model, "5")[1][0]])
    found = settled(model, SpectralNorm(conv="operator"), 100).detach()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_one_step_is_one_iteration_of_the_reshaped_kernel():
    weight = network()[0].weight
    matrix, start = weight.detach().flatten(1), torch.ones(18, dtype=torch.float64)
    sigma, right = one_iteration(as_matrix(network()[0]), start)
    left = F.normalize(matrix @ start, dim=0)
    expected = F.normalize(matrix.T @ left, dim=0)
    torch.testing.assert_close(right, expected)
    torch.testing.assert_close(sigma, left @ matrix @ expected)


@pytest.mark.parametrize("conv", ["kernel", "operator"])
def test_the_vectors_persist_and_a_restored_state_goes_on_alike(conv):
    model, defense = network(), SpectralNorm(conv=conv)
    first = [defense.penalty(model, batch()).item() for _ in range(3)]
    assert first[0] < first[1] < first[2]
    saved = copy.deepcopy(defense.state)
    assert sorted(saved) == list(LAYERS)
    assert all(float(vector.norm()) == pytest.approx(1.0) and not vector.requires_grad for vector in saved.values())
    resumed = SpectralNorm(conv=conv)
    resumed.state.update(saved)
    assert resumed.penalty(model, batch()).item() == defense.penalty(model, batch()).item()


@pytest.mark.parametrize("conv", ["kernel", "operator"])
def test_it_depends_neither_on_the_batch_nor_on_the_mode(conv):
    model = network().train()
    reference = SpectralNorm(conv=conv).penalty(model, batch())
    statistics = model[1].running_mean.clone()
    assert SpectralNorm(conv=conv).penalty(model.eval(), batch(1)).item() == reference.item()
    assert torch.equal(model[1].running_mean, statistics)


def test_the_loss_is_cross_entropy_and_the_weighted_penalty():
    model = network().eval()
    loss, scalars = SpectralNorm(weight=0.3).loss(model, batch())
    penalty = SpectralNorm().penalty(model, batch())
    clean = F.cross_entropy(model(IMAGES), batch().labels)
    torch.testing.assert_close(loss, clean + 0.3 * penalty)
    torch.testing.assert_close(scalars, {"clean_loss": clean.detach(), "penalty": penalty.detach()})
    torch.testing.assert_close(SpectralNorm(weight=0.0).loss(model, batch())[0], clean)


@pytest.mark.parametrize("conv", ["kernel", "operator"])
def test_training_on_the_penalty_lowers_it(conv):
    model, defense = network(), SpectralNorm(weight=3.0, conv=conv)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = settled(model, SpectralNorm(conv=conv), 30).item()
    for _ in range(30):
        loss, _ = defense.loss(model, batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert settled(model, SpectralNorm(conv=conv), 30).item() < 0.5 * before


@pytest.mark.parametrize("options", [{"weight": -0.1}])
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(ConfigError, match=f"defense.{next(iter(options))}"):
        SpectralNorm(**options)


def test_a_network_without_weight_matrices_is_refused():
    with pytest.raises(ConfigError, match="linear or convolutional"):
        SpectralNorm().penalty(nn.Flatten(), batch())
