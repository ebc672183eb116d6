"""Our side of the attacks: the search of the jobs on one chunk of examples, without files, metrics and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.networks import Subject
from runner.api.door import Given
from runner.api.search import Asked, parts_of
from runner.attacking.chunk import Chunk
from runner.attacking.setup import Setup
from runner.core.attack_types import Best, Problem
from runner.core.types import Norm
from runner.runs.parts import Parts


@dataclass(frozen=True)
class Search:
    """An attack by name on `count` images of a subject, from number `first`, at rising budgets."""

    subject: Subject
    attack: str
    count: int
    epsilons: Sequence[float]
    attribution: str = "saliency"
    norm: Norm = "l2"
    metrics: Sequence[str] = ("topk_intersection",)
    k: int = 100
    reduction: str = "abs_sum"
    attribution_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0

    def __call__(self) -> list[Best]:
        """The best images of each budget. Everything is built anew, as for each chunk of a job."""
        problem, attack = self.problem(), self.parts.attack
        found = [attack.start(problem)]
        for epsilon in self.epsilons:
            found.append(attack.search(problem, epsilon, self.norm, found[-1]))
        return found[1:]

    def problem(self) -> Problem:
        """What the attack gets."""
        parts, chosen = self.parts, self.subject
        part = slice(self.first, self.first + self.count)
        images, labels = chosen.images[part].cpu(), chosen.labels[part].cpu()
        setup = Setup(
            model=chosen.model,
            attribution=parts.attribution,
            attack=parts.attack,
            explain=parts.explainer(parts.attribution),
            reduce=parts.reducer(),
            metrics=parts.metrics,
            epsilons=parts.grid.epsilons(),
            norm=self.norm,
            test=Given(images, labels, torch.arange(len(images))),
            device=chosen.device,
        )
        return Chunk.new(setup, torch.arange(len(images))).problem

    @cached_property
    def parts(self) -> Parts:
        """The objects of the search."""
        asked = Asked(
            attribution=self.attribution,
            attack=self.attack,
            epsilons=self.epsilons,
            norm=self.norm,
            metrics=self.metrics,
            k=self.k,
            reduction=self.reduction,
            common_noise=False,
            seed=0,
            attack_seed=0,
            attribution_options=dict(self.attribution_options),
            attack_options={"chunk": self.count, **self.options},
        )
        return parts_of(asked, self.subject.model, self.subject.images[:1])


def harm_of(problem: Problem, images: Tensor) -> Tensor:
    """(n,) harm of images (n, C, H, W) of the first n examples under fresh draws; that of the clean image if the label changed."""
    clean, targets, keys = (values[: len(images)] for values in (problem.images, problem.targets, problem.keys))
    reference, maps, same = (problem.explain(problem.model, x, targets, keys).detach() for x in (clean, images, clean))
    with torch.no_grad():
        kept = problem.model(images).argmax(dim=1) == targets
    return torch.where(kept, problem.harm(reference, maps), problem.harm(reference, same))
