"""Expected gradients: integrated gradients averaged over training images as baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.attributions.options import GradientOptions
from runner.attributions.passes import output_gradients, summed
from runner.core import rng
from runner.core.errors import require_at_least


@dataclass(frozen=True, kw_only=True)
class ExpectedGradients(GradientOptions):
    """E over x' and a ~ U(0, 1) of (x - x') * df_c(x' + a (x - x'))/dx (Erion et al., 2021), from `samples` draws.

    x' is one of `references` training images, which the job provides (`with_references`). In expectation, maps sum to f_c(x) minus
    the mean of f_c over the references. Without `multiply_by_input`, the factor (x - x') is left out.
    """

    multiply_by_input: bool = True
    references: int = 100
    samples: int = 50
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attribution.references", self.references, 1)
        require_at_least("attribution.samples", self.samples, 1)

    def with_references(self, images: Tensor) -> Compared:
        """The attribution that draws its baselines from these images (R, C, H, W)."""
        return Compared(options=self, baselines=images.detach())

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """Errors: `ValueError`, always: there is no map before `with_references`."""
        raise ValueError("expected gradients have no map before with_references(images)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Expected gradients over the baselines (R, C, H, W)."""

    options: ExpectedGradients
    baselines: Tensor
    stochastic: ClassVar[bool] = True

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; the draws of an example depend on its key in `keys` (N,) alone."""
        options = self.options

        def one_pass(chosen: Tensor, part: slice, first: int, count: int, create_graph: bool) -> Tensor:
            baselines, shares = self.draws(chosen, keys[part], first, count)
            away = chosen.unsqueeze(1) - baselines
            places = baselines + shares * away
            gradients = output_gradients(model, places, targets[part], options.output, create_graph)
            return (away * gradients if options.multiply_by_input else gradients).sum(dim=1) / options.samples

        return summed(model, images, options.samples, options.chunk, one_pass)

    def draws(self, images: Tensor, keys: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
        """(n, count, C, H, W) baselines and (n, count, 1, 1, 1) places on the path, of samples first .. first+count-1."""
        uniform = rng.uniform(rng.bits(keys, count, first).flatten(), (2,)).reshape(-1, count, 2)
        # in float32 a number just under 1 times R may round to R
        which = (uniform[..., 0].double() * len(self.baselines)).long()
        baselines = torch.index_select(self.baselines.to(images), 0, which.flatten().to(images.device))
        shares = uniform[..., 1].to(images).reshape(-1, count, 1, 1, 1)
        return baselines.reshape(-1, count, *images.shape[1:]), shares
