"""Smooth surface regularisation (Wang et al., NeurIPS 2020, Definition 4): penalise the top eigenvalue of the input Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.core.types import Batch
from runner.defenses.closed_form import top_eigenvalue
from runner.defenses.modes import evaluating
from runner.defenses.power_iteration import top_eigenvalue_by_iteration
from runner.defenses.regulariser import regularised

METHODS = ("auto", "closed_form", "power")
MOST_CLASSES = 20


@dataclass(frozen=True)
class SmoothSurface:
    """(1 - alpha) * cross-entropy + alpha * s * mean top eigenvalue; beta of the paper is alpha / (1 - alpha).

    `s` is in units of [0, 1] images: the paper's 1e6 on [0, 255] images is 1e6 / 255^2 = 15.4 here.
    `warm_up`: share of the training over which s grows from 0 (an addition of ours; 0 is the paper).
    `channel_reduce: mean` averages the logit gradients over the colour channels first, as the released code does; its
    eigenvalue is at most a third of the true one on colour images.
    `method`: `closed_form` (a backward pass for each class), `power` (`rounds` of power iteration, whatever the number of
    classes), or `auto`: power above 20 classes.
    """

    alpha: float = 0.3
    s: float = 15.4
    warm_up: float = 0.0
    channel_reduce: Literal["none", "mean"] = "none"
    method: Literal["auto", "closed_form", "power"] = "auto"
    rounds: int = 2

    def __post_init__(self) -> None:
        require(0 <= self.alpha < 1, "defense.alpha", self.alpha, "at least 0 and below 1")
        require(self.s >= 0, "defense.s", self.s, "at least 0")
        require(0 <= self.warm_up <= 1, "defense.warm_up", self.warm_up, "a share of the training in [0, 1]")
        require(self.rounds >= 0, "defense.rounds", self.rounds, "at least 0")
        if self.channel_reduce not in ("none", "mean"):
            raise ConfigError.choice("defense.channel_reduce", self.channel_reduce, ("none", "mean"))
        if self.method not in METHODS:
            raise ConfigError.choice("defense.method", self.method, METHODS)

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
