"""The attack that rotates, shifts and recolours the image, instead of adding a perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.attacks.gradient import GradientAttack
from runner.attacks.transforms import Limits, Padding
from runner.core import rng
from runner.core.attack_types import Best, Climb, Problem
from runner.core.errors import require, require_at_least
from runner.core.norms import project
from runner.core.types import Budget

_DRAW_STREAM = 5_000_077
_NAMES = ("rotation", "shift_down", "shift_right")


@dataclass(frozen=True)
class SpatialAttack(GradientAttack):
    """Raise `objective` with a rotation, a shift and a gain of each channel, each at most epsilon times its limit.

    Limits are `rotation` in degrees, `shift` in pixels along each axis and `colour`, the relative gain of a channel. At each
    budget, `samples` random transforms are tried (worst of k, Engstrom et al. 2019), and projected gradient ascent on the
    3 + C parameters starts at the best one. Images are resampled bilinearly and stay in the box; `padding` fills the uncovered
    area. Notes contain the parameters as shares of their limits, and the largest of them, `transform_size`.

    By default a map that moves along with its object counts as changed. With `align`, the map of the moved image is moved back
    first, in the objective and in the harm (`attack_harm`), but not in the other columns.
    """

    rotation: float = 30.0
    shift: float = 3.0
    colour: float = 0.3
    samples: int = 20
    padding: Padding = "zeros"
    align: bool = False
    norms: ClassVar[tuple[Budget, ...]] = ("spatial",)
    ball: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.limits
        require(self.update == "normalised", "attack.update", self.update, "normalised for transforms")
        require_at_least("attack.samples", self.samples, 0)

    @property
    def limits(self) -> Limits:
        """The largest transform."""
        return Limits(self.rotation, self.shift, self.colour)

    def start(self, problem: Problem) -> Best:
        """The clean images, without a transform."""
        space = _Space(self, problem)
        return space.leave(super().start(space.problem))

    def search(self, problem: Problem, epsilon: float, norm: Budget, best: Best) -> Best:
        """The most harmful transforms, from the search and `best`."""
        space = _Space(self, problem)
        judge, inner = self._judge(space.problem), space.enter(best)
        for number in range(self.samples):
            keys = rng.fold(problem.keys, _DRAW_STREAM + number)
            draws = rng.uniform(keys, space.clean.shape[1:]).to(space.clean.dtype)
            points = project(space.clean + (draws - 0.5) * epsilon, space.clean, epsilon / 2, "linf")
            inner = judge.better(inner, points)
        return space.leave(super().search(space.problem, epsilon / 2, "linf", inner))

    def climbs(self, problem: Problem, epsilon: float, norm: Budget) -> Sequence[Climb]:
        """The ascent in the parameters of the transform."""
        return super().climbs(_Space(self, problem).problem, epsilon / 2, "linf")


class _Space:
    """A problem whose images are the parameters of a transform: points (N, 3 + C) of the unit cube, 1/2 for no change.

    Share s of a limit is the point (1 + s) / 2, so that the box [0, 1] fits both and the search for images works unchanged.
    """

    def __init__(self, attack: SpatialAttack, problem: Problem) -> None:
        self.attack, self.original = attack, problem
        images = problem.images
        allowed = attack.limits.allowed(images.shape[1])
        self.allowed = torch.tensor(allowed, dtype=images.dtype, device=images.device)
        self.clean = images.new_full((len(images), len(allowed)), 0.5)
        self.problem = replace(
            problem,
            model=_Moved(problem.model, self),
            twin=lambda beta: _Moved(problem.twin(beta), self),
            explain=self._explain,
            images=self.clean,
        )

    def move(self, points: Tensor) -> Tensor:
        """Images (N, C, H, W) of points; inputs that are images already (the partners) are returned unchanged."""
        if points.dim() > 2:
            return points
        return self.attack.limits.apply(self.original.images, self._shares(points), self.attack.padding)

    def enter(self, best: Best) -> Best:
        """The best images as points."""
        channels = self.original.images.shape[1]
        columns = [best.notes[name] for name in _names(channels)]
        points = (1 + torch.stack(columns, dim=1)) / 2
        return replace(best, images=points.to(self.clean.dtype))

    def leave(self, best: Best) -> Best:
        """The best points as images, with their parameters as notes."""
        shares = (2 * best.images.double() - 1) * self.allowed
        notes = dict(zip(_names(self.original.images.shape[1]), shares.unbind(dim=1), strict=True))
        images = self.move(best.images).detach()
        return Best(images, best.harm, best.found, notes | {"transform_size": shares.abs().amax(dim=1)})

    def _shares(self, points: Tensor) -> Tensor:
        return (2 * points - 1) * self.allowed

    def _explain(self, moved: nn.Module, points: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        assert isinstance(moved, _Moved)
        maps = self.original.explain(moved.network, self.move(points), targets, keys)
        if not self.attack.align or points.dim() > 2:
            return maps
        return self.attack.limits.undo(maps, self._shares(points))


class _Moved(nn.Module):
    """A model of points: applies the model to their images."""

    def __init__(self, network: nn.Module, space: _Space) -> None:
        super().__init__()
        self.network, self.space = network, space

    def forward(self, points: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.network(self.space.move(points))
        return logits


def _names(channels: int) -> list[str]:
    return [*_NAMES, *(f"gain_{channel}" for channel in range(channels))]
