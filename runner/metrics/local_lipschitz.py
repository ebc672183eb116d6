"""Local Lipschitz estimate: the steepest change of the map among random neighbours of the perturbed image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from runner.core.chunking import passes
from runner.core.grid import Number
from runner.core.norms import sample_ball
from runner.core.types import Context, Direction, Norm
from runner.metrics.draws import check_draws, draw_keys, size_of
from runner.metrics.undefined import of_values

_STREAM = 2
_FLOOR = 1e-12


@dataclass(frozen=True)
class LocalLipschitz:
    """max over x' of ||z(x) - z(x')||_2 / ||x - x'||_2 (Alvarez-Melis and Jaakkola, 2018), x the perturbed image.

    The x' are `samples` uniform draws from the ball of `radius` around x, clamped to [0, 1]; a sampled maximum is a lower
    bound of the true one, and an attack finds more. z is the reduced map; a stochastic one has the same noise at x and x'.
    A neighbour that the clamp leaves at x itself counts 0: distances are floored at 1e-12. nan if the maps of the clean and of the
    perturbed image are both zero: a map that is zero everywhere is steady because it says nothing.
    """

    samples: int = 50
    radius: Number = 0.1
    norm: Norm = "linf"
    chunk: int | None = 128
    needs_context: ClassVar[Literal[True]] = True
    direction: ClassVar[Direction] = "lower"
    compares: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_draws("local_lipschitz", self.samples, self.chunk)
        size_of("metrics.measured.local_lipschitz.radius", self.radius)

    def __call__(self, reference: Tensor, other: Tensor, context: Context) -> Tensor:
        """Maps (N, H, W) of the clean and of the perturbed images -> (N,) float64, around the perturbed ones."""
        images = context.perturbed.detach()
        maps = context.explain(context.model, images, context.targets, context.keys).detach().double()
        steepest = torch.zeros(len(images), dtype=torch.float64, device=images.device)
        for part, first, count in passes(len(images), self.samples, self.chunk):
            slopes = self._slopes(images[part], maps[part], context, part, first, count)
            steepest[part] = torch.maximum(steepest[part], slopes.amax(dim=1))
        return of_values(steepest, reference, other)

    def _slopes(self, images: Tensor, maps: Tensor, context: Context, part: slice, first: int, count: int) -> Tensor:
        """(n, count) float64 ratios of draws first .. first+count-1."""
        keys, targets = context.keys[part], context.targets[part]
        radius = size_of("metrics.measured.local_lipschitz.radius", self.radius)
        draws = sample_ball(draw_keys(keys, _STREAM, first, count), tuple(images.shape[1:]), radius, self.norm)
        centres = images.repeat_interleave(count, dim=0)
        neighbours = (centres + draws.to(images.dtype)).clamp(0.0, 1.0)
        repeated = [values.repeat_interleave(count) for values in (targets, keys)]
        others = context.explain(context.model, neighbours, *repeated).detach().double()
        change = (others - maps.repeat_interleave(count, dim=0)).flatten(1).norm(dim=1)
        distance = (neighbours.double() - centres.double()).flatten(1).norm(dim=1)
        slopes: Tensor = change / distance.clamp_min(_FLOOR)
        return slopes.reshape(-1, count)
