"""An attack without a usable gradient is refused before it walks; what only looks robust is flagged."""

from collections.abc import Callable
from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner.attacking.gradient_check import NoGradientError, gradient_flags
from runner.attacks.gradient import GradientAttack
from runner.attacks.label_pgd import LabelAttack
from runner.attacks.objectives import TopK
from runner.attributions.saliency import Saliency
from runner.core import rng
from runner.core.attack_types import Problem
from runner.core.flags import as_data, raised
from runner.metrics.topk_intersection import TopKIntersection
from runner.models.twin import softplus_twin

ATTACK = GradientAttack(TopK(k=6), "topk_intersection", steps=8, beta=20.0)
Network = Callable[[Tensor], Tensor]


class Small(nn.Module):
    """Two convolutions and a linear layer, with an activation that is called in any way."""

    def __init__(self, activation: Network) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.ModuleList([nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)])
        self.head, self.activations = nn.Linear(128, 4), (activation,)

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            values = self.activations[0](2 * layer(values))
        return self.head(values.flatten(1))


def problem(model: nn.Module, explain: Callable[..., Tensor] | None = None, count: int = 12) -> Problem:
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    saliency = Saliency()
    return Problem(
        model=model,
        twin=lru_cache(lambda beta: softplus_twin(model, beta)),
        explain=explain or (lambda *given: saliency(*given).abs().sum(dim=1)),
        harm=lambda first, second: -TopKIntersection(k=6)(first, second),
        images=images,
        targets=model(images).argmax(dim=1).detach(),
        partners=images.flip(0),
        keys=rng.example_keys(0, range(count), "attack"),
    )


def names(
    model: nn.Module, explain: Callable[..., Tensor] | None = None, attack: object = ATTACK, count: int = 12
) -> set[str]:
    return set(raised(as_data(gradient_flags(attack, problem(model, explain, count), 0.3, "l2"))))


def detached(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
    """What a user writes who does not think of attacks."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        model(leaf).gather(1, targets[:, None]).sum().backward()
    assert leaf.grad is not None
    return leaf.grad.abs().sum(dim=1)


def wrong(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
    """The map of `detached`, with the gradient of something else."""
    other = (images * torch.linspace(-1, 1, 64).reshape(1, 8, 8)).sum(dim=1)
    return detached(model, images, targets, keys) + other - other.detach()


@pytest.mark.parametrize("activation", [nn.ReLU(), F.relu, torch.relu, Tensor.relu, partial(torch.clamp, min=0)])
def test_a_network_that_calls_its_activations_loses_as_much_as_one_with_modules(activation: Network) -> None:
    own, modules = problem(Small(activation)), problem(Small(nn.ReLU()))
    found, expected = (ATTACK.search(each, 0.3, "l2", ATTACK.start(each)) for each in (own, modules))
    assert torch.equal(found.images, expected.images)
    assert -found.harm.mean() < 0.7
    assert names(Small(activation)) == set()


def test_an_activation_that_torch_does_not_name_is_refused() -> None:
    with pytest.raises(NoGradientError, match="is zero, though the map changes: .*random_sign"):
        names(Small(lambda values: values * (values > 0)))


@pytest.mark.parametrize(("explain", "says"), [(detached, "is zero"), (wrong, "leads no further than random")])
def test_a_map_with_no_gradient_or_that_of_something_else_is_refused(explain: Callable[..., Tensor], says: str) -> None:
    with pytest.raises(NoGradientError, match=says):
        names(Small(F.gelu), explain)
    assert names(Small(F.gelu), explain, count=3) == {"no_usable_gradient"}  # too few to be sure


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    def explain(model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        return (images - images.detach()).abs().sqrt().sum(dim=1) + detached(model, images, targets, keys)

    with pytest.raises(NoGradientError, match="is not finite"):
        names(Small(F.relu), explain)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_map_that_is_constant_by_nature_is_flagged(scale: float) -> None:
    """A linear network, and a probability of 1."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    assert names(linear) == {"constant_map"}
    sure = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    sure[1].bias.data[0] = 1e4
    probability = Saliency(output="probability")
    assert names(sure, lambda *given: probability(*given).abs().sum(dim=1)) == {"constant_map"}


def test_label_attacks_are_measured_too() -> None:
    assert names(Small(F.relu), attack=LabelAttack(steps=5)) == set()
    with pytest.raises(NoGradientError, match="is zero, though"):
        names(Small(lambda values: (8 * values).round()), attack=LabelAttack(steps=5))
