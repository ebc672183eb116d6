"""Every attribution that applies to a transformer, a ConvNeXt, an EfficientNet, a MobileNetV3, or leaky activations; and top-k."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from architectures import KINKED, SMOOTH, made
from found import Plugin
from torch import Tensor, nn
from world import explainer, images_of, keys_of, predicted, slope_error, with_references

from runner.attacks.gradient import GradientAttack
from runner.attacks.objectives import TopK
from runner.core.attack_types import Problem
from runner.core.attention import twice_differentiable_attention
from runner.core.errors import ConfigError
from runner.core.types import Attribution, Inspecting, differentiable, exact_gradient
from runner.models.twin import softplus_twin

RULES = ("lrp", "deep_lift", "guided_backprop")
WITHOUT_A_RULE = {
    **dict.fromkeys(("transformer", "convnext"), r"the layer (network\.)?norm \(LayerNorm\)"),
    **dict.fromkeys(
        ("efficientnet", "mobilenet_v3"), r"the code before the layer (network\.)?mix \(Conv2d\), which is not linear"
    ),
}
"""What has no rule: layer normalisation, where values weigh each other, and products of features."""
BUDGET = 0.5


@pytest.fixture(autouse=True)
def _as_in_a_job() -> Iterator[None]:
    with twice_differentiable_attention():
        yield


@pytest.fixture(params=[*SMOOTH, *KINKED])
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@cache
def _network(name: str) -> nn.Module:
    return made(name)


def applied(attribution: Plugin, name: str) -> Attribution | None:
    """The attribution; None where it says that this network has a layer without a rule."""
    method, model = with_references(attribution.build(), torch.float64), _network(name)
    if attribution.name in RULES and name in WITHOUT_A_RULE:
        assert isinstance(method, Inspecting)
        with pytest.raises(ConfigError, match=rf"^attribution: no rule for {WITHOUT_A_RULE[name]}"):
            method.inspect(model, images_of(torch.float64))
        return None
    assert not isinstance(method, Inspecting) or method.inspect(model, images_of(torch.float64))
    return method


def test_maps_are_finite_and_their_gradient_is_that_of_finite_differences(
    attribution: Plugin, architecture: str
) -> None:
    """The gradient where the network is smooth: elsewhere it is that of a twin."""
    method, model = applied(attribution, architecture), _network(architecture)
    if method is None or (attribution.name == "beta_smoothing" and architecture in KINKED):
        return
    images, keys = images_of(torch.float64, edge=0.0), keys_of()
    targets = predicted(model, images)
    leaf = images.clone().requires_grad_(architecture in SMOOTH)
    maps = method(model, leaf, targets, keys)
    assert maps.shape == images.shape
    assert torch.isfinite(maps).all()
    assert maps.any()
    if architecture in SMOOTH and differentiable(method) and exact_gradient(method):
        weights = torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(6))
        (gradient,) = torch.autograd.grad((maps * weights).sum(), leaf)
        summed = lambda inputs: (method(model, inputs, targets, keys) * weights).flatten(1).sum(dim=1)  # noqa: E731
        assert slope_error(summed, images, gradient) < 1e-4


def test_top_k_finds_harm_within_the_ball(attribution: Plugin, architecture: str) -> None:
    method, model = applied(attribution, architecture), _network(architecture)
    if method is None or not differentiable(method):
        return
    images, beta = images_of(torch.float64), None if architecture in SMOOTH else 10.0
    problem = Problem(
        model=model,
        twin=lambda beta: softplus_twin(model, beta).eval(),
        explain=explainer(method, "abs_sum"),
        harm=lambda reference, maps: (maps - reference).abs().sum(dim=(1, 2)),
        images=images,
        targets=predicted(model, images),
        partners=images.flip(0),
        keys=keys_of(),
    )
    attack = GradientAttack(TopK(10), "objective", steps=4, beta=beta)
    start = attack.start(problem)
    found = attack.search(problem, BUDGET, "l2", start)
    assert (found.harm > start.harm).any()
    assert _lengths(found.images - images).max() <= BUDGET * (1 + 1e-6)
    assert torch.equal(predicted(model, found.images), problem.targets)


def _lengths(moves: Tensor) -> Tensor:
    return moves.flatten(1).norm(dim=1)
