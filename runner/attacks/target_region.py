"""An objective that moves the map towards a region of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from runner.attacks.objectives import Bound, Original, shares
from runner.core.errors import require


@dataclass(frozen=True)
class TargetRegion:
    """Raise the share of the map's mass that lies inside a box (targeted attack of Ghorbani et al. 2019: D = sum over A).

    The box is given in shares of the image's height and width, from the upper left corner; it contains the pixels whose centres
    it contains.
    """

    top: float = 0.0
    left: float = 0.0
    bottom: float = 0.5
    right: float = 0.5
    reads_probabilities: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for low, high in (("top", "bottom"), ("left", "right")):
            first, last = getattr(self, low), getattr(self, high)
            require(0 <= first < 1, f"attack.objective.{low}", first, "from 0 to below 1, a share of the image")
            require(first < last <= 1, f"attack.objective.{high}", last, f"above {low}={first} and at most 1")

    def bind(self, original: Original) -> Bound:
        """Errors: `ConfigError` when no pixel has its centre in the box."""
        height, width = original.maps.shape[1:]
        rows = _inside(height, self.top, self.bottom, original.maps)
        columns = _inside(width, self.left, self.right, original.maps)
        box = f"[{self.top}, {self.left}, {self.bottom}, {self.right}]"
        held = bool(rows.any()) and bool(columns.any())
        require(held, "attack.objective", box, f"a box that holds a pixel of {height} x {width}")
        region = rows.unsqueeze(1) * columns
        return lambda maps, probabilities: (shares(maps) * region).sum(dim=(1, 2))


def _inside(count: int, first: float, last: float, like: Tensor) -> Tensor:
    """(count,) 1 for the pixels of an axis whose centre is inside, else 0."""
    centres = (torch.arange(count, dtype=torch.float64, device=like.device) + 0.5) / count
    return ((centres >= first) & (centres < last)).to(like.dtype)
