"""Infidelity: how badly a map predicts the change of the network's output under random perturbations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from runner.core import rng
from runner.core.chunking import passes
from runner.core.errors import require
from runner.core.grid import Number
from runner.core.types import Context, Direction
from runner.metrics.draws import check_draws, draw_keys, size_of
from runner.metrics.undefined import of_values

Output = Literal["logit", "probability"]

_STREAM = 1


@dataclass(frozen=True)
class Infidelity:
    """E_I (I^T z - (f(x) - f(x - I)))^2 (Yeh et al., NeurIPS 2019), x the perturbed image and z its map.

    I is Gaussian of standard deviation `sigma`, the same in all channels of a pixel, so that I^T z needs only the map
    summed over channels: `metrics.reduction` must be `sum`, since absolute values lose the sign of the change. f is the
    score of the explained class. With `optimal_scale` the map is first multiplied by its own best factor
    beta = E[d e] / E[e^2], e = I^T z and d = f(x) - f(x - I), as in their released code, so that the scale of a map does not
    matter. For gradient-like maps; a map multiplied by the input predicts the effect of removal, not of such an I.
    """

    samples: int = 500
    sigma: Number = 0.2
    optimal_scale: bool = True
    output: Output = "logit"
    reduction: str = "sum"
    chunk: int | None = 512
    needs_context: ClassVar[Literal[True]] = True
    direction: ClassVar[Direction] = "lower"
    compares: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_draws("infidelity", self.samples, self.chunk)
        size_of("metrics.measured.infidelity.sigma", self.sigma)
        require(
            self.reduction == "sum", "metrics.reduction", self.reduction, "sum for infidelity, which needs signed maps"
        )

    def __call__(self, reference: Tensor, other: Tensor, context: Context) -> Tensor:
        """Maps (N, H, W) of the clean and of the perturbed images -> (N,) float64, of the perturbed ones."""
        told, change = self.told_and_change(other, context)
        square, product = told.square().mean(dim=1), (told * change).mean(dim=1)
        scale = product / torch.where(square == 0, 1.0, square) if self.optimal_scale else torch.ones_like(square)
        return of_values((scale.unsqueeze(1) * told - change).square().mean(dim=1), reference, other)

    def told_and_change(self, maps: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Two (N, S) float64: I^T z and f(x) - f(x - I) of each draw."""
        images, targets = context.perturbed.detach(), context.targets
        told, change = torch.empty(2, len(images), self.samples, dtype=torch.float64, device=images.device)
        with torch.no_grad():
            start = self._scores(context.model, images, targets)
            for part, first, count in passes(len(images), self.samples, self.chunk):
                steps = self._steps(images[part], context.keys[part], first, count)
                moved = (images[part].unsqueeze(1) - steps).flatten(0, 1)
                scores = self._scores(context.model, moved, targets[part].repeat_interleave(count))
                place = (part, slice(first, first + count))
                change[place] = start[part].unsqueeze(1) - scores.reshape(-1, count)
                told[place] = torch.einsum("nshw,nhw->ns", steps.squeeze(2).double(), maps[part].detach().double())
        return told, change

    def _steps(self, images: Tensor, keys: Tensor, first: int, count: int) -> Tensor:
        """(n, count, 1, H, W) draws of I."""
        noise = rng.normal(draw_keys(keys, _STREAM, first, count), (1, *images.shape[2:]))
        sigma = size_of("metrics.measured.infidelity.sigma", self.sigma)
        return sigma * noise.to(images.dtype).reshape(len(images), count, 1, *images.shape[2:])

    def _scores(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        logits = model(images).double()
        scores = logits if self.output == "logit" else logits.softmax(dim=1)
        chosen: Tensor = scores.gather(1, targets.unsqueeze(1)).squeeze(1)
        return chosen
