"""Optimisers and learning-rate schedules by name. A schedule is a function of progress, so it has no state to save."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn

from runner.core.errors import ConfigError, require

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "one_cycle", "step")


@dataclass(frozen=True)
class Training:
    """How a model is fitted, whatever the defense.

    `schedule`: `constant`; `step`, times `gamma` at each of `milestones` (shares of the training); `cosine` to 0;
    `one_cycle`, linear from a 25th up to the peak at 30 % and down by cosine to 0 (Smith and Topin 2019).
    `augment`: the dataset's own augmentation. `ema`: decay of an exponential moving average of the weights, which is then tested
    and stored; null for none. Units: `learning_rate` per step, `epochs` in passes over the training split.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    gamma: float = 0.1
    augment: bool = False
    ema: float | None = None

    def __post_init__(self) -> None:
        require(self.epochs >= 0, "training.epochs", self.epochs, "at least 0")
        require(self.batch_size >= 1, "training.batch_size", self.batch_size, "at least 1")
        require(self.learning_rate > 0, "training.learning_rate", self.learning_rate, "above 0")
        require(0 <= self.momentum < 1, "training.momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "training.weight_decay", self.weight_decay, "at least 0")
        ordered = all(first < second for first, second in pairwise([0.0, *self.milestones, 1.0]))
        require(ordered, "training.milestones", self.milestones, "rising shares of the training between 0 and 1")
        require(0 < self.gamma <= 1, "training.gamma", self.gamma, "above 0 and at most 1")
        require(self.ema is None or 0 < self.ema < 1, "training.ema", self.ema, "in (0, 1), or null")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError.choice("training.optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise ConfigError.choice("training.schedule", self.schedule, SCHEDULES)

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser over all parameters of the model."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters,
                lr=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                nesterov=self.momentum > 0,
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)

    def rate(self, progress: float) -> float:
        """Learning rate at a progress in [0, 1]."""
        if self.schedule == "step":
            return self.learning_rate * self.gamma ** sum(progress >= milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "one_cycle":
            if progress < 0.3:
                return self.learning_rate * (0.04 + 0.96 * progress / 0.3)
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - 0.3) / 0.7))
        return self.learning_rate
