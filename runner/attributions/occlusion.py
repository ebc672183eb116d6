"""Occlusion: how much the output falls when a window of the image is covered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.attributions.baseline import Baseline
from runner.attributions.masking import MaskingOptions
from runner.core.errors import require, require_at_least


@dataclass(frozen=True, kw_only=True)
class Occlusion(MaskingOptions):
    """f_c(x) - f_c(x with a window set to `baseline`), averaged over the windows that cover a pixel.

    Zeiler and Fergus (2014, section 4.2) slide a grey square. A square of `window` pixels, through all channels, moves by
    `stride` pixels; the last one of a row or column is cut off by the border.
    """

    baseline: Baseline = 0.5
    window: int = 4
    stride: int = 2
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("attribution.window", self.window, 1)
        require_at_least("attribution.stride", self.stride, 1)
        require(self.stride <= self.window, "attribution.stride", self.stride, "at most attribution.window")

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) detached maps in units of the output, the same for every channel; `keys` are not used.

        Errors: `ConfigError` for a window that is larger than the image.
        """
        height, width = images.shape[2:]
        side = min(height, width)
        require(self.window <= side, "attribution.window", self.window, f"at most the image's side, {side}")
        rows, columns = (self._covered(size, images) for size in (height, width))
        windows = len(rows) * len(columns)

        def masks(_: slice, first: int, count: int) -> Tensor:
            numbers = torch.arange(first, first + count, device=images.device)
            covered = rows[numbers // len(columns)].unsqueeze(2) & columns[numbers % len(columns)].unsqueeze(1)
            return ~covered.reshape(1, count, 1, height, width)

        def whole(_: slice, __: int, count: int) -> Tensor:
            return torch.ones(1, count, 1, 1, 1, dtype=torch.bool, device=images.device)

        images = images.detach()
        clean = self.scores(model, images, targets, whole, 1)
        falls = (clean - self.scores(model, images, targets, masks, windows)).reshape(-1, len(rows), len(columns))
        down, across = rows.to(images), columns.to(images)
        totals = torch.einsum("nij,ih,jw->nhw", falls, down, across)
        maps = totals / torch.outer(down.sum(dim=0), across.sum(dim=0))
        return maps.unsqueeze(1).repeat(1, images.shape[1], 1, 1)

    def _covered(self, size: int, images: Tensor) -> Tensor:
        """(windows, size) bool: which of `size` rows or columns each position of the window covers."""
        positions = -(-(size - self.window) // self.stride) + 1
        starts = torch.arange(positions, device=images.device).unsqueeze(1) * self.stride
        places = torch.arange(size, device=images.device)
        return (places >= starts) & (places < starts + self.window)
