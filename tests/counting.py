"""A defense and an attack that note the work they have done, in the file that the environment variable COUNTED names."""

import os
import time
from dataclasses import dataclass

from torch import Tensor, nn

from runner.attacks.random import RandomAttack
from runner.core.attack_types import Best, Problem
from runner.core.types import Batch, PixelNorm
from runner.defenses.natural import Natural


@dataclass(frozen=True)
class CountedTraining(Natural):
    """Natural training that notes each batch; its keys tell the seeds and the epochs."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and a line."""
        found = super().loss(model, batch)
        _note(f"{int(batch.keys.flatten()[0])} batch")
        return found


@dataclass(frozen=True)
class CountedAttack(RandomAttack):
    """Random signs, in no hurry; notes each search. The keys of the problem tell the seeds and the chunk."""

    pause: float = 0.0

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """Sleep, search, and a line."""
        time.sleep(self.pause)
        found = super().search(problem, epsilon, norm, best)
        _note(f"{int(problem.keys.flatten()[0])} {epsilon:g}")
        return found


def _note(line: str) -> None:
    """Add a line in one write."""
    with open(os.environ["COUNTED"], "a", buffering=1) as file:
        file.write(f"{line}\n")
