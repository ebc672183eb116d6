"""Objectives of gradient attacks: values (N,) of the current map, compared with the original one.

An objective is bound to each chunk once (`bind` gets the reference maps of the network that gives the gradients) and then called
at each step with the current maps (N, H, W) and probabilities (N, K). Maps are scaled to sum to 1, as in Ghorbani et al. (2019)
and Dombrowski et al. (2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from runner.core.errors import require, require_at_least, require_positive

Bound = Callable[[Tensor, Tensor], Tensor]
"""(maps (N, H, W), probabilities (N, K)) -> (N,)."""


@dataclass(frozen=True)
class Original:
    """The references of an objective: maps and probabilities of the clean images, and the map of the partner image."""

    maps: Tensor
    probabilities: Tensor
    partner_maps: Callable[[], Tensor]


class Objective(Protocol):
    """Built from the YAML, bound to each chunk of examples. One that only reads maps declares `reads_probabilities = False`, one
    whose gradient leaves something out `exact_gradient = False`."""

    def bind(self, original: Original) -> Bound:
        """The function to raise for these examples."""


def reads_probabilities(objective: Objective) -> bool:
    """Whether the bound objective uses the probabilities, which may cost a forward pass; if not, it gets (N, 0) of them."""
    return bool(getattr(objective, "reads_probabilities", True))


def shares(maps: Tensor) -> Tensor:
    """Maps scaled to sum to 1 in absolute value; zero maps stay zero."""
    return maps / maps.abs().sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def mass_centers(maps: Tensor) -> Tensor:
    """(N, 2) centres of mass (row, column) in pixels of maps scaled to sum to 1 in absolute value."""
    mass = shares(maps)
    rows = torch.arange(maps.shape[1], dtype=maps.dtype, device=maps.device)
    columns = torch.arange(maps.shape[2], dtype=maps.dtype, device=maps.device)
    return torch.stack((mass.sum(dim=2) @ rows, mass.sum(dim=1) @ columns), dim=1)


@dataclass(frozen=True)
class TopK:
    """Take mass away from the top-k pixels: -sum of the map over them (Ghorbani et al. 2019, Algorithm 1).

    `mask: original` fixes the pixels of the clean map (paper); `current` takes those of the current map at each step, as
    the released code of Wang et al. (2020) does.
    """

    k: int
    mask: Literal["original", "current"] = "original"
    reads_probabilities: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least("metrics.k", self.k, 1)

    def bind(self, original: Original) -> Bound:
        """Errors: `ConfigError` when k exceeds the number of pixels."""
        fixed = _top(original.maps, self.k)

        def value(maps: Tensor, probabilities: Tensor) -> Tensor:
            mass = shares(maps).flatten(1)
            chosen = fixed if self.mask == "original" else mass.topk(self.k, dim=1).indices
            return -mass.gather(1, chosen).sum(dim=1)

        return value


@dataclass(frozen=True)
class TopKOverlap:
    """Push pixels across the border of the top k: the smooth count of others above it, minus that of the original top k, over k.

    The border is the k-th largest value of the current map, a constant of each step; a pixel of value v counts as
    sigmoid((v / border - 1) / temperature). Unlike the mass of the top k, which gains most from the pixels far above the border,
    this is a smooth form of what `topk_intersection` measures, as Qin, Liu and Li (2010) do for ranking measures. With the
    derivative of the border, searches find much less (.519 of the top k left instead of .480 on MNIST-5k).
    """

    k: int
    temperature: float = 0.2
    reads_probabilities: ClassVar[bool] = False
    exact_gradient: ClassVar[bool] = False
    """The border moves with the map, which the gradient leaves out."""

    def __post_init__(self) -> None:
        require_at_least("metrics.k", self.k, 1)
        require_positive("attack.objective.temperature", self.temperature)

    def bind(self, original: Original) -> Bound:
        """Errors: `ConfigError` when k exceeds the number of pixels."""
        fixed = _top(original.maps, self.k)
        own = torch.zeros_like(original.maps.flatten(1)).scatter_(1, fixed, 1.0)

        def value(maps: Tensor, probabilities: Tensor) -> Tensor:
            mass = shares(maps).flatten(1)
            border = mass.detach().topk(self.k, dim=1).values[:, -1:].clamp_min(1e-12)
            above = ((mass / border - 1) / self.temperature).sigmoid()
            return (above * (1 - 2 * own)).sum(dim=1) / self.k

        return value


def _top(maps: Tensor, k: int) -> Tensor:
    """(N, k) places of the largest pixels of maps (N, H, W)."""
    pixels = maps[0].numel()
    require(k <= pixels, "metrics.k", k, f"at most the {pixels} pixels of an image")
    return maps.flatten(1).topk(k, dim=1).indices


@dataclass(frozen=True)
class MassCenter:
    """Move the centre of mass: its squared distance in pixels from the original one (Ghorbani et al. 2019, as released)."""

    reads_probabilities: ClassVar[bool] = False

    def bind(self, original: Original) -> Bound:
        """Distances are taken from the centres of the clean maps."""
        centers = mass_centers(original.maps).detach()
        return lambda maps, probabilities: (mass_centers(maps) - centers).square().sum(dim=1)


@dataclass(frozen=True)
class Manipulate:
    """Make the map that of another image and keep the output (Dombrowski et al. 2019, with the released factors).

    Value: -(map_weight * MSE(map, target map) + output_weight * MSE(probabilities, original probabilities)), with maps
    that sum to `map_sum` (1 in the paper's code; null means H*W, as in the released code of Wang et al. 2020, which makes
    the map term (H*W)^2 times heavier).
    """

    map_weight: float = 1e11
    output_weight: float = 1e6
    map_sum: float | None = 1.0

    def __post_init__(self) -> None:
        require_positive("attack.objective.map_weight", self.map_weight)
        require_at_least("attack.objective.output_weight", self.output_weight, 0)

    def bind(self, original: Original) -> Bound:
        """The target is the map of each example's partner image."""
        target, output = shares(original.partner_maps()).detach(), original.probabilities.detach()
        scale = float(target[0].numel()) if self.map_sum is None else self.map_sum

        def value(maps: Tensor, probabilities: Tensor) -> Tensor:
            distance = (scale * (shares(maps) - target)).square().mean(dim=(1, 2))
            change = (probabilities - output).square().mean(dim=1)
            return -(self.map_weight * distance + self.output_weight * change)

        return value
