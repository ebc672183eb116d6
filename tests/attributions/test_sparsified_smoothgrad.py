"""Sparsified SmoothGrad: exact indicators, their means, and the surrogate that the backward pass differentiates."""

import dataclasses

import pytest
import torch
from networks import slope_and_difference

from runner.attributions.sparsified_smoothgrad import SparsifiedSmoothGrad, largest
from runner.core.errors import ConfigError
from runner.core.types import differentiable
from runner.runs.run import Run

SIZE = 2 * 5 * 7


def gradients_of(model, points, targets):
    """(N, S, C, H, W) gradients of the target logits at points (N, S, C, H, W), one by one."""
    at = points.clone().requires_grad_()
    logits = model(at.flatten(0, 1)).unflatten(0, points.shape[:2])
    chosen = logits.gather(2, targets[:, None, None].expand(-1, points.shape[1], 1))
    return torch.autograd.grad(chosen.sum(), at, create_graph=True)[0]


def top_of(values, count):
    """1 for the `count` largest of a flat list, by sorting."""
    order = sorted(range(len(values)), key=lambda index: -values[index])
    return [1.0 if index in order[:count] else 0.0 for index in range(len(values))]


@pytest.mark.parametrize(("tau", "count"), [(0.1, 7), (0.29, 20), ("1/3", 23), (0.001, 1), (1, SIZE)])
def test_a_linear_model_gives_the_indicator_of_its_largest_weights(tau, count, linear, images, targets, keys):
    maps = SparsifiedSmoothGrad(samples=3, tau=tau)(linear, images, targets, keys)
    for row, target in zip(maps, targets, strict=True):
        assert row.flatten().tolist() == top_of(linear.weights[:, target].abs().tolist(), count)


def test_shares_are_exact_decimals():
    # 0.29 * 100 is 28.999... in floats
    method = SparsifiedSmoothGrad(tau=0.29)
    assert method.chosen(torch.rand(3, 100) + 0.1).sum(dim=1).tolist() == [29, 29, 29]


@pytest.mark.parametrize("chunk", [None, 4])
def test_the_map_is_the_mean_of_the_indicators_of_the_noisy_gradients(chunk, cnn, images, targets, keys):
    method = SparsifiedSmoothGrad(samples=6, sigma=0.4, tau=0.2, chunk=chunk)
    sizes = gradients_of(cnn, method.noise.points(images, keys, 0, 6), targets).abs().detach().flatten(2)
    expected = [torch.tensor([top_of(draw.tolist(), 14) for draw in example]).mean(dim=0) for example in sizes]
    maps = method(cnn, images, targets, keys)
    torch.testing.assert_close(maps.flatten(1).float(), torch.stack(expected), rtol=0, atol=1e-6)
    assert 0 < maps[maps > 0].min() < maps.max() <= 1
    torch.testing.assert_close((maps * 6).round(), maps * 6, rtol=0, atol=1e-12)
    torch.testing.assert_close(maps.sum(dim=(1, 2, 3)), torch.full((5,), 14.0, dtype=torch.float64))


def test_pixels_count_once_and_their_channels_share(cnn, images, targets, keys):
    method = SparsifiedSmoothGrad(samples=6, sigma=0.4, tau=0.2, features="pixels")
    sizes = gradients_of(cnn, method.noise.points(images, keys, 0, 6), targets).abs().sum(dim=2).detach().flatten(2)
    expected = [torch.tensor([top_of(draw.tolist(), 7) for draw in example]).mean(dim=0) for example in sizes]
    maps = method(cnn, images, targets, keys)
    assert maps.shape == images.shape
    assert torch.equal(maps[:, 0], maps[:, 1])
    torch.testing.assert_close(maps.sum(dim=1).flatten(1).float(), torch.stack(expected), rtol=0, atol=1e-6)


def test_features_without_a_gradient_are_never_chosen_and_equals_come_first(images, targets, keys):
    assert largest(torch.tensor([[0.0, 2.0, 0.0, 1.0]]), 3).tolist() == [[0, 1, 0, 1]]
    assert largest(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), 3).tolist() == [[1, 1, 1, 0]]

    class Flat(torch.nn.Module):
        def forward(self, inputs):
            return inputs.flatten(1)[:, :3].square() * 0.0

    maps = SparsifiedSmoothGrad(samples=2)(Flat(), images.requires_grad_(), targets, keys)
    assert not maps.any()
    (slope,) = torch.autograd.grad(maps.sum(), images)
    assert torch.equal(slope, torch.zeros_like(images))


def soft_mean(model, images, targets, keys, method):
    """The surrogate of the whole map, from its definition."""
    sizes = gradients_of(model, method.noise.points(images, keys, 0, method.samples), targets).abs()
    sizes = sizes.sum(dim=2).flatten(2) if method.features == "pixels" else sizes.flatten(2)
    count = int(0.2 * sizes.shape[2])
    ordered = sizes.sort(dim=2, descending=True).values
    ratio = sizes / ((ordered[..., count - 1] + ordered[..., count]) / 2).unsqueeze(2)
    soft = 1 / (1 + ((1 - ratio) / method.temperature).exp())
    soft = (soft if method.relaxation == "sigmoid" else ratio.minimum(torch.ones(()))).mean(dim=1)
    return (
        soft.reshape(images.shape)
        if method.features == "values"
        else soft.reshape(-1, 1, 5, 7).expand(-1, 2, -1, -1) / 2
    )


@pytest.mark.parametrize("features", ["values", "pixels"])
@pytest.mark.parametrize("relaxation", ["sigmoid", "clipped_linear"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_the_value_is_exact_and_the_gradient_is_that_of_the_surrogate(
    features, relaxation, chunk, cnn, images, targets, keys
):
    method = SparsifiedSmoothGrad(
        samples=4, sigma=0.3, tau=0.2, features=features, relaxation=relaxation, temperature=0.3, chunk=chunk
    )
    plain = dataclasses.replace(method, relaxation=None)(cnn, images, targets, keys)
    at = images.clone().requires_grad_()
    maps = method(cnn, at, targets, keys)
    assert maps.requires_grad
    assert torch.equal(maps.detach(), plain)
    weights = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    (slope,) = torch.autograd.grad((maps * weights).sum(), at)
    again = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad((soft_mean(cnn, again, targets, keys, method) * weights).sum(), again)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-12)
    assert slope.abs().max() > 1e-3


@pytest.mark.parametrize("relaxation", ["sigmoid", "clipped_linear"])
def test_the_gradient_is_the_finite_difference_of_the_surrogate(relaxation, cnn, images, targets, keys):
    method = SparsifiedSmoothGrad(samples=4, sigma=0.3, tau=0.2, relaxation=relaxation)

    def straight_through(inputs):
        maps = method if inputs.requires_grad else lambda *given: soft_mean(*given, method).detach()
        return maps(cnn, inputs, targets, keys)

    slope, difference = slope_and_difference(straight_through, images)
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-7)


def test_the_scale_of_the_gradient_does_not_matter_even_to_the_surrogate(cnn, images, targets, keys):
    slopes = []
    for factor in (1.0, 1000.0):
        at = images.clone().requires_grad_()
        network = torch.nn.Sequential(cnn, Scaled(factor))
        maps = SparsifiedSmoothGrad(samples=3)(network, at, targets, keys)
        slopes.append(torch.autograd.grad(maps[:, 0].sum(), at)[0])
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-9, atol=1e-12)


class Scaled(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, inputs):
        return self.factor * inputs


def test_without_relaxation_attacks_that_need_a_gradient_are_refused(compose):
    assert differentiable(SparsifiedSmoothGrad())
    assert not differentiable(SparsifiedSmoothGrad(relaxation=None))
    config = compose("attribution=sparsified_smoothgrad", "attribution.relaxation=null")
    with pytest.raises(ConfigError, match="attack=topk: attribution=sparsified_smoothgrad has no gradient"):
        Run.of(config)
