"""Boundary-based integrated gradients: the path begins at the nearest point where the decision changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.attributions.boundary_search import BoundarySearch
from runner.attributions.gradients import weighted_gradients
from runner.attributions.integrated_gradients import Rule, quadrature
from runner.attributions.options import GradientOptions, amount
from runner.core.errors import require, require_at_least
from runner.core.grid import Number


@dataclass(frozen=True, kw_only=True)
class BoundaryIntegratedGradients(GradientOptions):
    """(x - b) * int_0^1 df_c(b + a (x - b))/dx da with b(x) the nearest adversarial point found (BIG; Wang et al., 2021).

    The search (`BoundarySearch`) takes `search_steps` l2 steps inside balls of the `budgets`, smallest first, and moves the point
    back to the boundary by `bisections`. The gradient of the map treats b as a constant. `steps` and `rule` are those of
    integrated gradients. Without `multiply_by_input`, the factor (x - b) is left out.
    """

    multiply_by_input: bool = True
    steps: int = 50
    rule: Rule = "riemann_middle"
    budgets: Sequence[Number] = field(default_factory=lambda: ["36/255", "64/255", 0.3, 0.5, 0.7, 0.9, 1.1])
    search_steps: int = 40
    bisections: int = 10
    stochastic: ClassVar[bool] = False
    exact_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attribution.steps", self.steps, 1)
        require_at_least("attribution.search_steps", self.search_steps, 1)
        require_at_least("attribution.bisections", self.bisections, 0)
        sizes = self.search.budgets
        growing = len(sizes) > 0 and all(small < large for small, large in pairwise((0.0, *sizes)))
        require(growing, "attribution.budgets", self.budgets, "at least one l2 budget above 0, smallest first")

    @property
    def search(self) -> BoundarySearch:
        """The search for boundary points."""
        budgets = tuple(amount("attribution.budgets", budget) for budget in self.budgets)
        return BoundarySearch(budgets, self.search_steps, self.bisections)

    def boundary(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """(N, C, H, W) boundary points, detached, from passes of at most `chunk` images."""
        size = self.chunk or len(images)
        parts = zip(images.split(size), targets.split(size), strict=True)
        return torch.cat([self.search(model, some, classes) for some, classes in parts])

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; with `multiply_by_input` they sum to about f_c(x) - f_c(b). `keys` are not used."""
        places, weights = quadrature(self.rule, self.steps)
        boundary = self.boundary(model, images, targets)

        def path(chosen: Tensor, numbers: Tensor, first: int, count: int) -> Tensor:
            start = boundary[numbers].unsqueeze(1)
            shares = images.new_tensor(places[first : first + count]).reshape(1, -1, 1, 1, 1)
            return start + shares * (chosen.unsqueeze(1) - start)

        numbers = torch.arange(len(images), device=images.device)
        maps = weighted_gradients(
            model, images, targets, numbers, points=path, weights=weights, output=self.output, chunk=self.chunk
        )
        return maps * (images - boundary) if self.multiply_by_input else maps
