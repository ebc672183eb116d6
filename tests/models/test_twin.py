"""The softplus twin: the same weights, the limit of large beta, and derivatives that finite differences confirm."""

import math
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner.core.errors import ConfigError
from runner.models.efficientnet_lite0 import efficientnet_lite0
from runner.models.resnet20 import resnet20
from runner.models.small_cnn import small_cnn
from runner.models.soft_activations import SoftplusReLU6
from runner.models.twin import has_second_derivative, softplus_twin


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
    assert not has_second_derivative(model, images(2, 3, 8, 8))
    assert has_second_derivative(twin, images(2, 3, 8, 8))


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
        assert has_second_derivative(candidate, images(1, 3, 32, 32)) is curved


def test_refuses_what_it_cannot_smooth(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"attack.beta=0.0: must be above 0"):
        softplus_twin(model, 0.0)
    with pytest.raises(ConfigError, match=r"attack.beta=9.0: must be at least 10 for a network of ReLU6"):
        softplus_twin(nn.Sequential(nn.ReLU6()), 9.0)(images(3))
    for jump in (nn.Hardshrink(), nn.Threshold(0.5, 2.0)):
        with pytest.raises(ConfigError, match=r"attack.beta: the network uses (hardshrink|threshold)"):
            softplus_twin(nn.Sequential(jump), 10.0)(images(3))


def test_a_smooth_model_is_its_own_twin() -> None:
    torch.manual_seed(0)
    smooth = small_cnn(shape=(1, 8, 8), classes=3, activation="softplus", beta=7.0)
    batch = images(2, 1, 8, 8)
    assert torch.equal(softplus_twin(smooth, 30.0)(batch), smooth(batch))
    assert has_second_derivative(smooth, batch)


def relu_in_place(values: Tensor) -> Tensor:
    values.relu_()  # the result is not used
    return values


CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    **{type(module).__name__: module for module in (nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.LeakyReLU(), nn.PReLU())},
    **{type(module).__name__: module for module in (nn.RReLU().eval(), nn.Hardswish(), nn.Hardsigmoid())},
    **{type(module).__name__: module for module in (nn.Softshrink(0.1), nn.Threshold(0.1, 0.1))},
    "nn.ReLU(inplace=True)": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu(inplace=True)": lambda values: F.relu(values, inplace=True),
    "F.relu(x, True)": lambda values: F.relu(values, True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": Tensor.relu,
    "Tensor.relu_": relu_in_place,
    "F.relu6": F.relu6,
    "F.leaky_relu_": lambda values: F.leaky_relu_(values, 0.2),
    "F.prelu": lambda values: F.prelu(values, torch.tensor([0.1, 0.2, 0.3])),
    "clamp(0)": lambda values: values.clamp(0),
    "clamp(min=0)": lambda values: torch.clamp(values, min=0.0),
    "clamp(max=0)": lambda values: values.clamp_(max=0),
    "clamp_min": lambda values: values.clamp_min(0),
    "clip": lambda values: torch.clip(values, 0, 6),
    "maximum": lambda values: torch.maximum(values, torch.zeros_like(values)),
    "max": lambda values: torch.max(values, torch.tensor(0.0)),
}
"""Ways to call a piecewise linear activation."""


class Calling(nn.Module):
    """A network without activation modules: it calls a function."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), nn.Linear(12, 4)
        self.activations = (activation,)

    def forward(self, values: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            values = self.activations[0](layer(2 * values - 0.5))
        return self.head(values.flatten(1))


@pytest.mark.parametrize("call", CALLS)
def test_an_activation_is_smoothed_however_it_is_called(call: str) -> None:
    model, batch = Calling(CALLS[call]).eval(), images(3, 2, 6, 6)
    twin = softplus_twin(model, 15.0)
    assert has_second_derivative(model, batch) is (call == "Hardswish")
    assert has_second_derivative(twin, batch)
    torch.testing.assert_close(softplus_twin(model, 1e5)(batch), model(batch), atol=1e-5, rtol=0)
    wide = twin.double()  # shares the parameters
    point, move = batch.double().requires_grad_(), torch.randn(3, 2, 6, 6, dtype=torch.float64)
    (slopes,) = torch.autograd.grad(wide(point).square().sum(), point)
    ahead, back = (wide(point.detach() + sign * 1e-6 * move).square().sum().item() for sign in (1, -1))
    assert (ahead - back) / 2e-6 == pytest.approx(float((slopes * move).sum()), rel=1e-5)


def test_what_is_no_activation_stays_exact() -> None:
    values = images(3, 5) - 0.5
    floors = nn.Module()
    floors.weight = nn.Parameter(values)
    floors.forward = lambda given: given.clamp(min=1e-6) + floors.weight.clamp(min=0) + given.max(1).values[:, None]
    assert torch.equal(softplus_twin(floors, 5.0)(values), floors(values))
    assert torch.equal(softplus_twin(Calling(F.gelu), 5.0)(images(1, 2, 6, 6)), Calling(F.gelu)(images(1, 2, 6, 6)))


def test_everywhere_softplus_gets_the_same_beta() -> None:
    twin, batch = softplus_twin(Calling(F.relu), 30.0), images(2, 2, 6, 6)
    assert torch.equal(softplus_twin(twin, 3.0)(batch), twin(batch))
    expected = softplus_twin(Calling(F.relu), 3.0)(batch)
    assert torch.equal(softplus_twin(twin, 3.0, everywhere=True)(batch), expected)
    assert torch.equal(softplus_twin(Calling(F.softplus), 3.0, everywhere=True)(batch), expected)
