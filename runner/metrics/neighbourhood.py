"""Top pixels and their neighbourhoods, for the locality-sensitive metrics of Kamath et al. (AAAI 2024).

A window is a square with odd side around a pixel, cut at the border of the map. The released code (ksandeshk/LENS) uses flat
indices instead, so that a window wraps around to the other side of the map and the first pixel of a map never counts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from runner.core.errors import require, require_at_least
from runner.metrics.topk_intersection import top_mask


def check_settings(metric: str, k: int, window: int) -> None:
    """Refuse a k below 1 and a window that has no centre."""
    require_at_least("metrics.k", k, 1)
    odd = window >= 1 and window % 2 == 1
    require(odd, f"metrics.measured.{metric}.window", window, "an odd number of at least 1, such as 3, 5 or 7")


def top_pixels(maps: Tensor, k: int, window: int, diverse: bool) -> Tensor:
    """(N, H, W) bool: the k largest pixels of each map, or its k `diverse_top` ones. Errors: `ConfigError` when k exceeds
    the number of pixels."""
    pixels = maps[0].numel()
    require(k <= pixels, "metrics.k", k, f"at most {pixels}, the pixels of a map")
    return diverse_top(maps, k, window) if diverse else top_mask(maps, k).reshape(maps.shape)


def diverse_top(maps: Tensor, k: int, window: int) -> Tensor:
    """(N, H, W) bool, top-k-div: k times the largest pixel outside the windows of those already chosen.

    If no pixel is left before the k-th, fewer are chosen. Of equal values, the first counts. The released code skips the second
    pixel of this rule, an off-by-one error that is not repeated here.
    """
    height, width = maps.shape[1:]
    reach = torch.arange(window, device=maps.device) - window // 2
    free = maps.detach().flatten(1).clone()
    taken = torch.zeros_like(free, dtype=torch.bool)
    for _ in range(k):
        value, place = free.max(dim=1, keepdim=True)
        found = value > -torch.inf
        if not found.any():
            break
        taken.scatter_(1, place, taken.gather(1, place) | found)
        rows = (place.div(width, rounding_mode="floor") + reach).clamp(0, height - 1)
        columns = (place % width + reach).clamp(0, width - 1)
        free.scatter_(1, (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1), -torch.inf)
    return taken.reshape(maps.shape)


def dilate(chosen: Tensor, window: int) -> Tensor:
    """(N, H, W) bool: all pixels within the window of a chosen one."""
    grown: Tensor = max_pool2d(chosen.float().unsqueeze(1), window, stride=1, padding=window // 2)
    return grown.squeeze(1) > 0


def share(part: Tensor, whole: Tensor) -> Tensor:
    """(N,) float64: the pixels in both sets over the pixels in `whole`, which holds one at least."""
    return (part & whole).sum(dim=(1, 2)).double() / whole.sum(dim=(1, 2))
