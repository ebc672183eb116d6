"""What a suite checks besides harm: whether gradients exist, whether the twin is faithful, whether labels flip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runner.attacks.gradient import GradientAttack
from runner.core import rng
from runner.core.attack_types import Problem
from runner.core.cosine import map_cosines
from runner.core.norms import project, sample_ball
from runner.core.types import Norm

_STREAM = 5_000_011


def still(problem: Problem, attacks: Sequence[GradientAttack], epsilon: float, norm: Norm) -> Tensor:
    """(N,) 1 if all attacks have a zero gradient at a random point of the ball, else 0."""
    noise = sample_ball(rng.fold(problem.keys, _STREAM), tuple(problem.images.shape[1:]), epsilon, norm)
    point = project(problem.images + noise.to(problem.images.dtype), problem.images, epsilon, norm)
    slopes = [attack.direction(problem, point).flatten(1).abs().amax(dim=1) for attack in attacks]
    return torch.stack(slopes).amax(dim=0).eq(0).to(point.dtype)


def twin_gain(problem: Problem, beta: float | None, images: Tensor) -> Tensor:
    """(N,) harm of the images (N, C, H, W) to the map of the twin with this beta, minus that of the clean images."""
    network = _network(problem, beta)
    clean, moved = (_maps(problem, network, each, problem.keys) for each in (problem.images, images))
    return problem.harm(clean, moved) - problem.harm(clean, clean)


def twin_cosine(problem: Problem, attacks: Sequence[GradientAttack]) -> Tensor:
    """(N,) cosine of the clean maps of the model and of the most similar of the attacks' twins."""
    own = _maps(problem, problem.model, problem.images, problem.keys)
    others = (_maps(problem, _network(problem, attack.beta), problem.images, problem.keys) for attack in attacks)
    return torch.stack([map_cosines(own, other) for other in others]).amax(dim=0)


def noisy(problem: Problem) -> Tensor:
    """(N,) 1 if two draws of the clean map differ, else 0."""
    draws = (problem.keys, rng.fold(problem.keys, _STREAM))
    first, second = (_maps(problem, problem.model, problem.images, keys).flatten(1) for keys in draws)
    return first.ne(second).any(dim=1).to(first.dtype)


class Tally:
    """Counts the candidates that flip the label, per example."""

    def __init__(self, like: Tensor) -> None:
        self._flipped, self._seen = torch.zeros_like(like), 0

    def __call__(self, kept: Tensor) -> None:
        """Count one candidate per example, given whether it keeps the label (N,)."""
        self._flipped += (~kept).to(self._flipped.dtype)
        self._seen += 1

    def rejected(self) -> Tensor:
        """(N,) share of the candidates that flipped the label."""
        return self._flipped / max(self._seen, 1)


def _maps(problem: Problem, network: nn.Module, images: Tensor, keys: Tensor) -> Tensor:
    return problem.explain(network, images, problem.targets, keys).detach()


def _network(problem: Problem, beta: float | None) -> nn.Module:
    return problem.model if beta is None else problem.twin(beta)
