"""Transfer: scores images that another run found on this run's model and attribution, without a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runner.attacks.judge import Judge, require_metric
from runner.core.attack_types import Best, Problem
from runner.core.errors import ConfigError
from runner.core.types import PixelNorm


@dataclass(frozen=True)
class Transfer:
    """Keep the most harmful image of the `source` run, by `measure`, that preserves this model's label.

    The candidate at each budget is the image that the source kept there. A candidate that does less harm here than that of a
    smaller budget does not replace it, so harm never falls along the grid.
    """

    measure: str
    order: ClassVar[int] = 0
    norms: ClassVar[tuple[PixelNorm, ...]] = ("l2", "linf", "l0")
    takes_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_metric(self.measure)

    def start(self, problem: Problem) -> Best:
        """The clean images with their harm."""
        return Judge.by_measure(problem).start()

    def search(self, problem: Problem, epsilon: float, norm: PixelNorm, best: Best) -> Best:
        """The better of `best` and the stored images. Errors: `ConfigError` without a source."""
        if problem.stored is None:
            raise ConfigError("attack.source=null: must be the run that the images are taken from")
        return Judge.by_measure(problem).better(best, problem.stored(epsilon))
