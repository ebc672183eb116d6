"""An attack that notes each search it has finished, in the file that the environment variable COUNTED names, and takes its time."""

import os
import time
from dataclasses import dataclass

from runner.attacks.random import RandomAttack
from runner.core.types import Best, PixelNorm, Problem


@dataclass(frozen=True)
class CountedAttack(RandomAttack):
    """Random signs; the keys of the problem tell the seeds and the chunk."""

    pause: float = 0.0

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """Sleep, search, and add a line in one write."""
        time.sleep(self.pause)
        found = super().search(problem, epsilon, norm, best)
        with open(os.environ["COUNTED"], "a", buffering=1) as file:
            file.write(f"{int(problem.keys.flatten()[0])} {epsilon:g}\n")
        return found
