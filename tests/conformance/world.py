"""What plug-ins are tried on: small networks, a few images, and what must be the same before and after."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from found import CLASSES, SHAPE
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runner.core import rng
from runner.core.types import Attribution, Explain, Referenced
from runner.metrics.reduction import reduce
from runner.models.small_cnn import small_cnn

COUNT = 5
PARTS = (torch.tensor([3]), torch.tensor([4, 0, 2, 1]))
"""The five examples in another order and in chunks."""


def network(dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    """A convolutional network that is sure of some classes and not of others."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = small_cnn(shape=SHAPE, classes=CLASSES, width=4, **options)
    logits = model.double().eval()(images_of(torch.float64, 50, seed=3)).detach()
    last = model.network[-1]
    last.bias.data.sub_(logits.mean(dim=0)).mul_(2.0 / logits.std(dim=0))
    last.weight.data.mul_(2.0 / logits.std(dim=0).unsqueeze(1))
    return model.to(dtype)


def smooth_network() -> nn.Module:
    """In float64 and without kinks, so that finite differences are exact to many digits."""
    return network(torch.float64, activation="softplus", beta=3.0, pool="avg")


def images_of(dtype: torch.dtype = torch.float32, count: int = COUNT, seed: int = 0, edge: float = 0.1) -> Tensor:
    """(N, C, H, W); pixels nearer to black or white than `edge` are exactly that."""
    drawn = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn * (1 + 2 * edge) - edge).clamp(0.0, 1.0).to(dtype)


def keys_of(seed: int = 0, count: int = COUNT) -> Tensor:
    return rng.example_keys(seed, range(count), "conformance")


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).argmax(dim=1)


def with_references(attribution: Attribution, dtype: torch.dtype) -> Attribution:
    """The attribution, with training images where it compares with some."""
    if not isinstance(attribution, Referenced):
        return attribution
    return attribution.with_references(images_of(dtype, attribution.references, seed=1))


def explainer(attribution: Attribution, how: str) -> Explain:
    return lambda model, images, targets, keys: reduce(attribution(model, images, targets, keys), how)


@contextmanager
def shown_to(model: nn.Module) -> Iterator[list[Tensor]]:
    """The images of every forward pass of the model meanwhile, and of every twin that is made of it meanwhile."""
    shown: list[Tensor] = []
    watching = [True]

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if watching:  # a twin keeps its copy of the hook
            shown.append(inputs[0].detach().clone())

    with model.register_forward_pre_hook(look):
        yield shown
    watching.clear()


class Passes(TorchFunctionMode):
    """The numbers of images that convolutions and linear layers get at once, whoever calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in ("conv2d", "linear"):
            self.sizes.append(len(args[0]))
        return function(*args, **(kwargs or {}))


@contextmanager
def untouched(model: nn.Module, *tensors: Tensor) -> Iterator[None]:
    """Fails if parameters, buffers, modes, hooks, gradients, these tensors or torch's own random numbers change."""
    before, values = _state(model), [tensor.clone() for tensor in tensors]
    numbers, enabled = torch.random.get_rng_state(), torch.is_grad_enabled()
    yield
    after = _state(model)
    for part in before:
        assert _same(before[part], after[part]), f"{part} of the model changed"
    for tensor, value in zip(tensors, values, strict=True):
        assert torch.equal(tensor, value), "an input was written to"
        assert tensor.grad is None, "an input got a gradient"
    assert torch.equal(numbers, torch.random.get_rng_state()), "random numbers must come from the keys"
    assert torch.is_grad_enabled() is enabled


def _state(model: nn.Module) -> dict[str, Any]:
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "parameters": {name: value.detach().clone() for name, value in parameters.items()},
        "buffers": {name: value.clone() for name, value in model.named_buffers()},
        "requires_grad": {name: value.requires_grad for name, value in parameters.items()},
        "gradients": {name: value.grad is None for name, value in parameters.items()},
        "training": {name: module.training for name, module in modules.items()},
        "hooks": {name: [len(getattr(module, hook)) for hook in hooks] for name, module in modules.items()},
    }


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    if before.keys() != after.keys():
        return False
    return all(
        torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        for name, value in before.items()
    )


def slope_error(function: Callable[[Tensor], Tensor], at: Tensor, gradient: Tensor) -> float:
    """How far a gradient is from central differences of (N,) values, along a random move of each of the inputs (N, ...).

    Relative to the largest of the slopes. Of three widths the nearest counts: a kink may lie within the wider ones, and a
    wrong gradient is wrong at all of them. Examples that stand at a kink, where the slopes of both sides differ, have no
    derivative (an image that is moved by nothing lies on the grid of its pixels); infinite where there are no others.
    """
    move = torch.randn(at.shape, dtype=at.dtype, generator=torch.Generator().manual_seed(5))
    exact, errors, middle = (gradient * move).flatten(1).sum(dim=1), [], function(at).detach()
    scale = exact.abs().max().clamp_min(1e-3)
    kinked = torch.zeros(len(at), dtype=torch.bool)
    for width in (1e-5, 1e-6, 1e-7):
        left, right = (sign * (function(at + sign * width * move).detach() - middle) / width for sign in (-1, 1))
        errors.append((exact - (left + right) / 2).abs())
        kinked = (left - right).abs() > 1e-2 * scale
    found = torch.stack(errors).amin(dim=0)[~kinked]
    return float(found.max() / scale) if len(found) else float("inf")
