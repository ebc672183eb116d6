"""The softplus twin: the same weights, the limit of large beta, and derivatives that finite differences confirm."""

import math
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError
from runner.models.efficientnet_lite0 import efficientnet_lite0
from runner.models.resnet import resnet18
from runner.models.resnet20 import resnet20
from runner.models.small_cnn import small_cnn
from runner.models.twin import SoftplusReLU6, has_second_derivative, softplus_twin


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return resnet20(shape=(3, 8, 8), classes=4).eval()


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_shares_every_parameter_and_buffer(model: nn.Module) -> None:
    twin = softplus_twin(model, 10.0)
    for own, shared in zip((*model.parameters(), *model.buffers()), (*twin.parameters(), *twin.buffers()), strict=True):
        assert own is shared
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert torch.equal(next(twin.parameters()), next(model.parameters()))


def test_leaves_the_model_as_it_was(model: nn.Module) -> None:
    before = model(images(2, 3, 8, 8))
    twin = softplus_twin(model, 1.0)
    assert torch.equal(model(images(2, 3, 8, 8)), before)
    assert not torch.allclose(twin(images(2, 3, 8, 8)), before)
    assert not has_second_derivative(model)
    assert has_second_derivative(twin)


@pytest.mark.parametrize("training", [True, False])
def test_keeps_the_mode(model: nn.Module, training: bool) -> None:
    model.train(training)
    assert {module.training for module in softplus_twin(model, 10.0).modules()} == {training}


def test_tends_to_the_model_as_beta_grows(model: nn.Module) -> None:
    batch = images(4, 3, 8, 8)
    with torch.no_grad():
        gaps = [float((softplus_twin(model, beta)(batch) - model(batch)).abs().max()) for beta in (10.0, 100.0, 1e4)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3


def test_reused_activations_are_all_replaced() -> None:
    relu = nn.ReLU(inplace=True)
    twice = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 4), relu)
    twin = softplus_twin(twice, 2.0)
    assert [type(module) for module in twin] == [nn.Linear, nn.Softplus, nn.Linear, nn.Softplus]
    assert isinstance(softplus_twin(relu, 2.0), nn.Softplus)
    torch_made = softplus_twin(resnet18(shape=(3, 32, 32), classes=3), 2.0)
    assert not any(isinstance(module, nn.ReLU) for module in torch_made.modules())


def test_values_are_the_formula() -> None:
    values = torch.linspace(-2, 8, 11, dtype=torch.float64)
    beta = 3.0
    expected = torch.tensor([math.log1p(math.exp(beta * float(value))) / beta for value in values], dtype=torch.float64)
    shifted = torch.tensor(
        [math.log1p(math.exp(beta * (float(value) - 6))) / beta for value in values], dtype=torch.float64
    )
    assert torch.allclose(softplus_twin(nn.ReLU(), beta)(values), expected, atol=1e-9, rtol=0)
    assert torch.allclose(SoftplusReLU6(beta)(values), expected - shifted, atol=1e-9, rtol=0)


def test_relu6_tends_to_relu6() -> None:
    values = torch.linspace(-3, 9, 100)
    assert torch.allclose(softplus_twin(nn.ReLU6(), 1e4)(values), nn.ReLU6()(values), atol=1e-4)


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_second_derivatives_agree_with_finite_differences(pool: str) -> None:
    torch.manual_seed(0)
    twin = softplus_twin(small_cnn(shape=(1, 8, 8), classes=3, width=4, pool=pool).double().eval(), 5.0)
    point, direction = images(1, 1, 8, 8).double(), torch.randn(1, 1, 8, 8, dtype=torch.float64)

    def gradient(at: Tensor, graph: bool = False) -> Tensor:
        at = at.detach().requires_grad_(True)
        (found,) = torch.autograd.grad(twin(at)[0, 1], at, create_graph=graph)
        return found

    leaf = point.clone().requires_grad_(True)
    (first,) = torch.autograd.grad(twin(leaf)[0, 1], leaf, create_graph=True)
    (product,) = torch.autograd.grad((first * direction).sum(), leaf)
    step = 1e-5
    differences = (gradient(point + step * direction) - gradient(point - step * direction)) / (2 * step)
    assert product.abs().max() > 1e-3
    assert torch.allclose(product, differences, atol=1e-7, rtol=1e-5)


@pytest.mark.skipif(find_spec("efficientnet_lite_pytorch") is None, reason="the extra `imagenet` is not installed")
def test_efficientnets_twin_has_a_second_derivative() -> None:
    torch.manual_seed(0)
    network = efficientnet_lite0(shape=(3, 32, 32), classes=5, weights=None).eval()
    for candidate, curved in ((network, False), (softplus_twin(network, 10.0), True)):
        leaf = images(1, 3, 32, 32).requires_grad_(True)
        (first,) = torch.autograd.grad(candidate(leaf)[0, 0], leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        assert bool(second.abs().max() > 0) is curved
        assert has_second_derivative(candidate) is curved


def test_refuses_what_it_cannot_smooth(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"attack.beta=0.0: must be above 0"):
        softplus_twin(model, 0.0)
    with pytest.raises(ConfigError, match=r"attack.beta=9.0: must be at least 10 for a network of ReLU6"):
        softplus_twin(nn.Sequential(nn.ReLU6()), 9.0)
    with pytest.raises(ConfigError, match=r"activation LeakyReLU has no softplus form"):
        softplus_twin(nn.Sequential(nn.LeakyReLU()), 10.0)


def test_a_smooth_model_is_its_own_twin() -> None:
    torch.manual_seed(0)
    smooth = small_cnn(shape=(1, 8, 8), classes=3, activation="softplus", beta=7.0)
    batch = images(2, 1, 8, 8)
    assert torch.equal(softplus_twin(smooth, 30.0)(batch), smooth(batch))
    assert has_second_derivative(smooth)
