"""Smooth surface regularisation (Wang et al., NeurIPS 2020, Definition 4): penalise the top eigenvalue of the input Hessian.

The Hessian of the cross-entropy in one image, (d, d) with d = C * H * W, is never formed: `closed_form` uses the gradients of all
K logits (N, K, d), `power_iteration` products with vectors of the image's shape. Eigenvalues (N,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from runner.core.errors import require, require_at_least
from runner.core.types import Batch
from runner.defenses.closed_form import top_eigenvalue
from runner.defenses.modes import evaluating
from runner.defenses.power_iteration import top_eigenvalue_by_iteration
from runner.defenses.regulariser import regularised

MOST_CLASSES = 20
"""With more classes, `auto` uses power iteration: the closed form needs one backward pass per class."""


@dataclass(frozen=True)
class SmoothSurface:
    """(1 - alpha) * cross-entropy + alpha * s * mean top eigenvalue; beta of the paper is alpha / (1 - alpha).

    `s` is in units of [0, 1] images: the paper's 1e6 on [0, 255] images is 1e6 / 255^2 = 15.4 here.
    `warm_up`: share of the training over which s grows from 0 (our addition; 0 is the paper).
    `channel_reduce: mean` averages the logit gradients over the colour channels first, as the released code does; its
    eigenvalue is at most a third of the true one on colour images.
    `method`: `closed_form` (one backward pass per class), `power` (`rounds` of power iteration), or `auto`: `power` above 20
    classes.
    """

    alpha: float = 0.3
    s: float = 15.4
    warm_up: float = 0.0
    channel_reduce: Literal["none", "mean"] = "none"
    method: Literal["auto", "closed_form", "power"] = "auto"
    rounds: int = 2

    def __post_init__(self) -> None:
        require(0 <= self.alpha < 1, "defense.alpha", self.alpha, "at least 0 and below 1")
        require_at_least("defense.s", self.s, 0)
        require(0 <= self.warm_up <= 1, "defense.warm_up", self.warm_up, "a share of the training in [0, 1]")
        require_at_least("defense.rounds", self.rounds, 0)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The regularised loss; `penalty` is the mean top eigenvalue before weighting."""
        growth = min(batch.progress / self.warm_up, 1.0) if self.warm_up > 0 else 1.0
        return regularised(self, model, batch, self.alpha * self.s * growth, 1 - self.alpha)

    def penalty(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean top eigenvalue."""
        with evaluating(model):
            if self._iterates(model, batch.images):
                return top_eigenvalue_by_iteration(model, batch.images, self.rounds, self.channel_reduce).mean()
            return top_eigenvalue(model, batch.images, self.channel_reduce).mean()

    def _iterates(self, model: nn.Module, images: Tensor) -> bool:
        if self.method != "auto":
            return self.method == "power"
        with torch.no_grad():
            return int(model(images[:1]).shape[1]) > MOST_CLASSES
