"""Relative stability: the change of the map over the change of the image, of the logits or of the representation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError
from runner.core.grid import Number
from runner.core.types import Context, Direction
from runner.metrics.draws import size_of
from runner.metrics.undefined import of_values

Of = Literal["input", "output", "representation"]


@dataclass(frozen=True)
class RelativeStability:
    """||(z - z') / z||_2 / max(D, floor), of the pair (x, x') of a clean and its perturbed image (Agarwal et al., 2022).

    D is ||(x - x') / x||_2 (`of: input`, RIS), ||h(x) - h(x')||_2 of the logits (`output`, ROS) or ||(L - L') / L||_2 of
    the representation (`representation`, RRS): here the input of the linear layer that the network runs last. Divisions
    are pixel by pixel; a divisor that is exactly zero counts as `floor`, as in Quantus. The paper takes the largest value
    over random neighbours; here x' is what the attack found, and the pair counts even where the prediction changed. Fresh
    noise of a stochastic map for an unchanged image is divided by the floor: use `metrics.common_noise=true`. nan for two zero
    maps, and where the change of logits or representation is not finite.
    """

    of: Of
    floor: Number = 1e-6
    needs_context: ClassVar[Literal[True]] = True
    direction: ClassVar[Direction] = "lower"
    symmetric: ClassVar[bool] = False
    scale_invariant: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        size_of(f"metrics.measured.relative_{self.of}_stability.floor", self.floor)

    def __call__(self, reference: Tensor, other: Tensor, context: Context) -> Tensor:
        """Maps (N, H, W) of the clean and of the perturbed images -> (N,) float64.

        Errors: `ConfigError` for `of: representation` on a network without a linear layer.
        """
        floor = size_of(f"metrics.measured.relative_{self.of}_stability.floor", self.floor)
        moved = _relative_change(reference.detach(), other.detach(), floor)
        images, attacked = context.images.detach(), context.perturbed.detach()
        if self.of == "input":
            change = _relative_change(images, attacked, floor)
        elif self.of == "output":
            with torch.no_grad():
                change = (context.model(images).double() - context.model(attacked).double()).norm(dim=1)
        else:
            inner = representation(context.model, images)
            change = _relative_change(inner, representation(context.model, attacked), floor)
        change = change.masked_fill(~change.isfinite(), torch.nan)  # an infinite one would read as perfectly stable
        return of_values(moved / change.clamp_min(floor), reference, other)


def _relative_change(values: Tensor, others: Tensor, floor: float) -> Tensor:
    """(N,) float64 norms of (values - others) / values, with `floor` in place of a zero divisor."""
    first, second = values.flatten(1).double(), others.flatten(1).double()
    size: Tensor = ((first - second) / torch.where(first == 0, floor, first)).norm(dim=1)
    return size


def representation(model: nn.Module, images: Tensor) -> Tensor:
    """(N, R) what goes into the linear layer that runs last. Errors: `ConfigError` when none runs."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen[:] = [inputs[0].detach()]

    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ConfigError(
            "metrics.measured.relative_representation_stability: the model has no linear layer to look into"
        )
    return seen[0].flatten(1)
