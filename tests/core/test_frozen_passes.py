"""Frozen networks: torch's values, and torch's derivatives of first, second and third order."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from runner.attacks.gradient import GradientAttack
from runner.attacks.objectives import TopK
from runner.attributions.saliency import Saliency
from runner.core.attack_types import Problem
from runner.core.frozen_layers import Convolution, Normalisation, Softplus
from runner.core.frozen_passes import FrozenPasses, cheap_derivatives
from runner.models.resnet20 import resnet20
from runner.models.twin import softplus_twin

NETWORK = nn.Sequential(
    nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(6),
    nn.Softplus(beta=3.0),
    nn.Conv2d(6, 6, 3, padding="same", groups=3),
    nn.BatchNorm2d(6, affine=False),
    nn.Softplus(beta=10.0),
    nn.Conv2d(6, 4, (2, 3), dilation=2, padding=(2, 1)),
    nn.Softplus(threshold=2.0),
    nn.Flatten(),
    nn.LazyLinear(3),
)


def network(seed=0):
    torch.manual_seed(seed)
    NETWORK(torch.rand(4, 2, 9, 7))  # and running statistics that are not 0 and 1
    return NETWORK.eval().requires_grad_(False)


def orders(model, images, within):
    """The logits' sum weighted, and its gradients along themselves, up to the third."""
    leaf = images.clone().requires_grad_()
    with within:
        logits = model(leaf)
    value = (logits * torch.arange(1, 1 + logits.shape[1])).sum()
    found = [logits]
    for _ in range(3):
        (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
        found.append(gradient)
        value = gradient.square().sum()
    return [each.detach() for each in found]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_values_keep_every_bit_and_three_derivatives_are_those_of_torch(dtype, bound):
    model, images = network().to(dtype), torch.rand(5, 2, 9, 7, dtype=dtype)
    plain, cheap = orders(model, images, nullcontext()), orders(model, images, FrozenPasses())
    assert torch.equal(plain[0], cheap[0])
    for one, other in zip(plain[1:], cheap[1:], strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(other / one.abs().max(), one / one.abs().max(), rtol=0, atol=bound)
    model.float()


def test_each_layer_has_the_slopes_of_finite_differences():
    torch.manual_seed(0)
    images, weight = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True), torch.randn(4, 2, 3, 3).double()
    zeros, ones = torch.zeros(4).double(), torch.ones(4).double()
    layers = [
        lambda x: Convolution.apply(x, weight, None, [2, 1], [1, 0], [1, 1], 2),
        lambda x: Normalisation.apply(x, ones / 2, zeros, 4 * ones, None, None, False, 0.1, 0.0),
        lambda x: Softplus.apply(x, 2.0),
    ]
    for layer in layers:
        assert torch.autograd.gradcheck(layer, images, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x, layer=layer: layer(x) ** 3, images, fast_mode=True)


def test_no_gradient_of_a_frozen_weight_is_formed():
    model, images, formed = network(), torch.rand(3, 2, 9, 7), []

    class Products(torch.utils._python_dispatch.TorchDispatchMode):
        _should_skip_dynamo = classmethod(lambda cls: False)  # torch would import its compiler

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            formed.append(function.__name__ == "convolution.default" or function.__name__.startswith("convolution_b"))
            return function(*args, **(kwargs or {}))

    counts = []
    for within in (nullcontext(), FrozenPasses()):
        leaf = images.clone().requires_grad_()
        with within:
            logits = model[:3](leaf)  # one convolution
        (slope,) = torch.autograd.grad(logits.square().sum(), leaf, create_graph=True)
        formed.clear()
        with Products():
            torch.autograd.grad(slope.square().sum(), leaf)
        counts.append(sum(formed))
    assert counts == [3, 2]


def test_a_network_that_is_trained_keeps_the_derivatives_of_torch():
    model = network().requires_grad_(True)
    assert not isinstance(cheap_derivatives(model), FrozenPasses)
    with FrozenPasses():
        model(torch.rand(2, 2, 9, 7).requires_grad_()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    assert isinstance(cheap_derivatives(model), FrozenPasses)


def test_transformations_of_torch_are_left_alone():
    model, images = network(), torch.rand(2, 2, 9, 7)
    with FrozenPasses():
        each = torch.func.vmap(torch.func.grad(lambda image: model(image.unsqueeze(0)).sum()))(images)
    leaf = images.clone().requires_grad_()
    torch.testing.assert_close(each, torch.autograd.grad(model(leaf).sum(), leaf)[0])


def test_the_twin_of_a_residual_network_has_the_map_and_the_slope_of_torch(monkeypatch):
    torch.manual_seed(1)
    model, images = resnet20(shape=(3, 12, 12), classes=4), torch.rand(4, 3, 12, 12)
    model.train()(images)
    twin = softplus_twin(model.eval().requires_grad_(False), 10.0)

    def slope():
        leaf = images.clone().requires_grad_()
        maps = Saliency()(twin, leaf, torch.tensor([0, 1, 2, 3]), torch.arange(4))
        return maps.detach(), torch.autograd.grad(maps.square().sum(), leaf)[0]

    cheap = slope()
    monkeypatch.setattr("runner.core.frozen_passes._RULES", {})
    for one, other in zip(cheap, slope(), strict=True):
        assert not torch.equal(one, torch.zeros_like(one))
        torch.testing.assert_close(one / other.abs().max(), other / other.abs().max(), rtol=0, atol=1e-5)


def test_a_map_is_the_same_to_the_last_bit_whether_it_is_differentiated_or_not():
    torch.manual_seed(3)
    model, images = resnet20(shape=(3, 8, 8), classes=4), torch.rand(4, 3, 8, 8)
    model.train()(images)
    twin = softplus_twin(model.eval().requires_grad_(False), 10.0)
    leaf = images.clone().requires_grad_()
    for network in (model, twin):
        plain, graph = (Saliency()(network, each, torch.arange(4), torch.arange(4)) for each in (images, leaf))
        assert graph.requires_grad
        assert torch.equal(plain, graph)


def test_a_search_finds_the_same_images(monkeypatch):
    torch.manual_seed(2)
    model, images = resnet20(shape=(3, 8, 8), classes=4), torch.rand(4, 3, 8, 8)
    model.train()(images)
    twin = softplus_twin(model.eval().requires_grad_(False), 10.0)
    problem = Problem(
        model=model,
        twin=lambda beta: twin,
        explain=lambda *given: Saliency()(*given).abs().sum(dim=1),
        harm=lambda reference, maps: (reference - maps).square().sum(dim=(1, 2)),
        images=images,
        targets=model(images).argmax(dim=1),
        partners=images,
        keys=torch.arange(4),
    )

    def found():
        attack = GradientAttack(TopK(10), "any", steps=5)
        return attack.search(problem, 0.5, "l2", attack.start(problem))

    cheap = found()
    monkeypatch.setattr("runner.core.frozen_passes._RULES", {})
    plain = found()
    assert cheap.found.any()
    torch.testing.assert_close(cheap.images, plain.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(cheap.harm, plain.harm, rtol=1e-3, atol=0)
