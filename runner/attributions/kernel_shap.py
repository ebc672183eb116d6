"""Kernel SHAP: Shapley values of the cells of a grid, by weighted least squares on masked images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.attributions.masking import MaskingOptions
from runner.core import rng
from runner.core.errors import require, require_at_least

CUTOFF = 1e-9


@dataclass(frozen=True, kw_only=True)
class KernelShap(MaskingOptions):
    """The linear model of the cells that fits f_c on masked images best, in the Shapley kernel (Lundberg and Lee, 2017).

    The features are the cells of a `grid` x `grid` of rectangles; a cell outside the coalition is set to `baseline`. The
    values of a coalition z are weighted by (M - 1) / (binom(M, |z|) |z| (M - |z|)), and the values of the cells sum exactly to
    f_c(x) - f_c(b). If `samples` allows, all 2^M - 2 coalitions are used, which gives the exact Shapley values. Otherwise
    `samples` are drawn in proportion to the kernel, each with its complement (Covert and Lee, 2021).
    """

    grid: int = 4
    samples: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attribution.grid", self.grid, 2)
        # complements add no information about single cells: with fewer samples the fit is often not unique
        least = min(4 * self.grid * self.grid, self._coalitions)
        allowed = f"at least {least}, four for each of the {self.grid * self.grid} cells or every coalition"
        require(self.samples >= least, "attribution.samples", self.samples, allowed)

    @property
    def stochastic(self) -> bool:
        """Whether coalitions are drawn at random; false if there are few enough to use all."""
        return self.samples < self._coalitions

    @property
    def _coalitions(self) -> int:
        """The number of coalitions, without the empty and the full one."""
        return (1 << self.grid * self.grid) - 2

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) detached maps: the value of each cell spread evenly over its C * h * w entries.

        A map sums to f_c(x) - f_c(b). The draws of an example depend on its key in `keys` (N,) alone.
        Errors: `ConfigError` for a grid that is finer than the image.
        """
        images = images.detach()
        cells = self._cells(images)
        coalitions, weights = self.coalitions(keys.to(images.device))
        ends = torch.tensor([[False], [True]], device=images.device).expand(1, 2, self.grid**2)

        def masks_of(chosen: Tensor) -> Tensor:
            return chosen[:, :, cells].unsqueeze(2)

        def masks(part: slice, first: int, count: int) -> Tensor:
            rows = part if len(coalitions) > 1 else slice(None)
            return masks_of(coalitions[rows, first : first + count])

        count = coalitions.shape[1]
        values = self.scores(model, images, targets, masks, count)
        empty, full = (
            self.scores(model, images, targets, lambda _, first, count: masks_of(ends[:, first : first + count]), 2)
            .double()
            .unbind(dim=1)
        )
        shapley = weighted_least_squares(
            coalitions.double(), weights, values.double() - empty.unsqueeze(1), full - empty
        )
        sizes = cells.flatten().bincount(minlength=self.grid**2) * images.shape[1]
        maps = (shapley / sizes)[:, cells].to(images.dtype)
        return maps.unsqueeze(1).repeat(1, images.shape[1], 1, 1)

    def coalitions(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(N, S, M) bool coalitions and their weights (S,); (1, S, M) if all coalitions are used."""
        count = self.grid**2
        sizes = torch.arange(1, count, device=keys.device)
        kernel = (count - 1) / (sizes.double() * (count - sizes))
        if not self.stochastic:
            numbers = torch.arange(1, 2**count - 1, device=keys.device).unsqueeze(1)
            members = (numbers >> torch.arange(count, device=keys.device)) & 1 == 1
            of_size = torch.tensor([math.comb(count, size) for size in range(1, count)], device=keys.device).double()
            return members.unsqueeze(0), (kernel / of_size)[members.sum(dim=1) - 1]
        pairs = (self.samples + 1) // 2
        draws = rng.uniform(rng.bits(keys, pairs).flatten(), (count + 1,)).reshape(len(keys), pairs, count + 1)
        limits = (kernel.cumsum(dim=0) / kernel.sum())[:-1]
        size = torch.bucketize(draws[..., 0].double(), limits, right=True) + 1
        members = draws[..., 1:].argsort(dim=2, stable=True).argsort(dim=2) < size.unsqueeze(2)
        both = torch.stack((members, ~members), dim=2).flatten(1, 2)[:, : self.samples]
        return both, torch.ones(self.samples, dtype=torch.float64, device=keys.device)

    def _cells(self, images: Tensor) -> Tensor:
        """(H, W) number of the cell of each pixel."""
        side = min(images.shape[2:])
        require(self.grid <= side, "attribution.grid", self.grid, f"at most the image's side, {side}")
        rows, columns = (torch.arange(size, device=images.device) * self.grid // size for size in images.shape[2:])
        return rows.unsqueeze(1) * self.grid + columns


def weighted_least_squares(coalitions: Tensor, weights: Tensor, values: Tensor, total: Tensor) -> Tensor:
    """(N, M) phi that minimise sum_s weights_s (values_s - z_s . phi)^2 among those that sum to `total` (N,).

    Coalitions (N or 1, S, M), weights (S,), values (N, S), all float64. phi is an equal share of the total plus a part that sums
    to 0; if phi is not unique, that part has the smallest norm.
    """
    count = coalitions.shape[2]
    centred = coalitions - coalitions.mean(dim=2, keepdim=True)
    rest = values - coalitions.mean(dim=2) * total.unsqueeze(1)
    normal = torch.einsum("nsi,s,nsj->nij", centred, weights, centred)
    moment = torch.einsum("nsi,ns->ni", centred.expand(len(values), -1, -1), weights * rest)
    inverse = torch.linalg.pinv(normal, rtol=CUTOFF, hermitian=True)
    return total.unsqueeze(1) / count + torch.einsum("nij,nj->ni", inverse.expand(len(values), -1, -1), moment)
