"""Attacks: whole searches, at equal work or to equal strength, against loops over single images and against label attacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from benchmarks.case import COST, Case, Sides, UnequalError, require
from benchmarks.networks import Subject
from benchmarks.peers.one_by_one import MapOf, integrated_gradients, saliency, smoothgrad, topk_attack
from benchmarks.search import Search, harm_of
from runner.core.attack_types import Best

EPSILON = 0.5
"""l2, of the attacks on maps."""
NO_WEAKER = 0.01
"""By how much ours may fall behind in the mean of a measure in [0, 1] without counting as weaker."""
EQUAL = 0.002
"""The same where ours is given time to become as strong."""


def topk_saliency(subject: Subject) -> Sides:
    """Equal work: 50 images, 50 steps."""
    steps = subject.size(50, 4)
    ours, theirs = _against_loop(subject, "saliency", saliency, (50, 10), steps)
    return Sides(lambda: _no_weaker(ours, ours(), theirs()), {"ours": ours, "theirs": theirs}, _per_image(ours, theirs))


def topk_saliency_strength(subject: Subject) -> Sides:
    """Time to the strength that the loop has after 50 steps, with adaptive steps on our side."""
    full, (tried, theirs) = subject.size(50, 12), _against_loop(subject, "saliency", saliency, (50, 10), 1)
    theirs = Loop(subject, saliency, theirs.count, full)

    @cache
    def search() -> Search:
        """Ours with the fewest steps that suffice. Errors: `UnequalError` if none do.

        Adaptive steps are ahead of steps of fixed length only once they have found their length. Of a dozen steps that takes half,
        and ours may then need more steps than the loop, which the time shows.
        """
        goal = float(harm_of(tried.problem(), theirs()).mean())
        for steps in sorted({math.ceil(share * full) for share in (0.1, 0.14, 0.2, 0.28, 0.4, 0.6, 1.0, 2.0, 4.0)}):
            found = _search(subject, "saliency", tried.count, steps, update="halving")
            if float(harm_of(found.problem(), found()[-1].images[: theirs.count]).mean()) >= goal - EQUAL:
                return found
        raise UnequalError(f"ours does not reach harm {goal:.3f} in {4 * full} steps")

    def ours() -> list[Best]:
        return search()()

    def check() -> str:
        steps = search().options["steps"]
        return f"{_no_weaker(search(), ours(), theirs())}, after {steps} steps against {full}"

    return Sides(check, {"ours": ours, "theirs": theirs}, _per_image(tried, theirs))


def topk_averaged(attribution: str, map_of: MapOf) -> Callable[[Subject], Sides]:
    """10 images, with a map that averages 50 gradients: few steps, since each costs 50."""

    def prepare(subject: Subject) -> Sides:
        ours, theirs = _against_loop(subject, attribution, map_of, (10, 10), 2)
        return Sides(lambda: _no_weaker(ours, ours(), theirs()), {"ours": ours, "theirs": theirs})

    return prepare


def budgets(subject: Subject) -> Sides:
    """A curve of ten budgets, as a multiple of what the largest alone costs; separate attacks set the strength."""
    count, steps = subject.size(10, 6), subject.size(20, 6)
    grid = [round(0.1 * number, 1) for number in range(1, 11)]
    curve = _search(subject, "saliency", count, steps, grid)
    alone = [_search(subject, "saliency", count, steps, [epsilon]) for epsilon in grid]

    def check() -> str:
        ours = torch.stack([best.harm.mean() for best in curve()])
        theirs = torch.stack([search()[-1].harm.mean() for search in alone])
        says = f"mean harm {float(ours.mean()):.3f} against {float(theirs.mean()):.3f} of ten attacks"
        return require(bool((ours >= theirs - NO_WEAKER).all()), f"{says}, no budget weaker")

    return Sides(check, {"ours": curve, "theirs": alone[-1]})


def label_pgd(package: str) -> Callable[[Subject], Sides]:
    """l2 PGD on the label, 20 steps, in batches of 50 on both sides: 500 images to compare strength, 100 of them to time."""

    def prepare(subject: Subject) -> Sides:
        count, epsilon = subject.size(500, 60), 1.5
        search = Search(subject, "label_pgd", 50, [epsilon], metrics=["mse"], options={"steps": 20})
        parts = [replace(search, first=first) for first in range(0, count, 50)]
        peer = _PEERS[package](subject, epsilon)
        batches = list(zip(subject.images[:count].split(50), subject.targets[:count].split(50), strict=True))

        def ours(number: int) -> Tensor:
            return torch.cat([part()[-1].images for part in parts[:number]])

        def theirs(number: int) -> Tensor:
            return torch.cat([peer(images, targets) for images, targets in batches[:number]])

        def check() -> str:
            shares = [_flipped(subject, found) for found in (ours(len(parts)), theirs(len(parts)))]
            return require(shares[0] >= shares[1] - NO_WEAKER, "labels flipped: {:.3f} against {:.3f}".format(*shares))

        return Sides(check, {"ours": lambda: ours(2), "theirs": lambda: theirs(2)})

    return prepare


def _torchattacks(subject: Subject, epsilon: float) -> Callable[[Tensor, Tensor], Tensor]:
    import torchattacks

    attack = torchattacks.PGDL2(subject.model, eps=epsilon, alpha=2.5 * epsilon / 20, steps=20, random_start=True)
    found: Callable[[Tensor, Tensor], Tensor] = attack
    return found


def _foolbox(subject: Subject, epsilon: float) -> Callable[[Tensor, Tensor], Tensor]:
    import foolbox

    model = foolbox.PyTorchModel(subject.model, bounds=(0, 1), device=subject.device)
    attack = foolbox.attacks.L2PGD(rel_stepsize=2.5 / 20, steps=20)
    return lambda images, targets: attack(model, images, targets, epsilons=epsilon)[1]


_PEERS = {"torchattacks": _torchattacks, "foolbox": _foolbox}


class Loop:
    """The loop over single images, for the first `count` of a subject."""

    def __init__(self, subject: Subject, map_of: MapOf, count: int, steps: int) -> None:
        self.subject, self.map_of, self.count, self.steps, self.soft = subject, map_of, count, steps, subject.soft()

    def __call__(self) -> Tensor:
        """The images (count, C, H, W) that it finds."""
        torch.manual_seed(0)
        images = self.subject.images[: self.count]
        return topk_attack(self.subject.model, self.soft, images, self.map_of, EPSILON, self.steps, 100)


def _against_loop(
    subject: Subject, attribution: str, map_of: MapOf, counts: tuple[int, int], steps: int
) -> tuple[Search, Loop]:
    """Both sides on their numbers of images; the time of the loop is the same for each image, so that fewer do."""
    ours, theirs = (subject.size(count, min(count, 4)) for count in counts)
    return _search(subject, attribution, ours, steps), Loop(subject, map_of, theirs, steps)


def _search(
    subject: Subject, attribution: str, count: int, steps: int, epsilons: list[float] | None = None, **options: object
) -> Search:
    return Search(
        subject, "topk", count, epsilons or [EPSILON], attribution, options={"steps": steps, "chunk": count, **options}
    )


def _per_image(ours: Search, theirs: Loop) -> dict[str, float]:
    return {"ours": ours.count, "theirs": theirs.count}


def _no_weaker(search: Search, found: list[Best], theirs: Tensor) -> str:
    """Compares the harm of the same images, under draws that neither side has seen."""
    problem = search.problem()
    ours, peers = (float(-harm_of(problem, images).mean()) for images in (found[-1].images[: len(theirs)], theirs))
    return require(ours <= peers + NO_WEAKER, f"top-k intersection {ours:.3f} against {peers:.3f}")


def _flipped(subject: Subject, images: Tensor) -> float:
    with torch.no_grad():
        return float((subject.model(images).argmax(dim=1) != subject.targets[: len(images)]).float().mean())


CASES = (
    Case("topk_saliency", "top-k on saliency, 50 images, 50 steps, equal work", "loop over images", 2.5, topk_saliency),
    Case(
        "topk_saliency_strength",
        "top-k on saliency, 50 images, to the strength of 50 steps",
        "loop over images",
        12.0,
        topk_saliency_strength,
    ),
    Case(
        "topk_smoothgrad",
        "top-k on SmoothGrad(50), 10 images, 2 steps",
        "loop over images, samples batched",
        1.5,
        topk_averaged("smoothgrad", smoothgrad(50, 0.2)),
    ),
    Case(
        "topk_ig",
        "top-k on IG(50), 10 images, 2 steps",
        "loop over images, samples batched",
        1.5,
        topk_averaged("integrated_gradients", integrated_gradients(50)),
    ),
    Case(
        "pgd_torchattacks",
        "l2 PGD-20 on labels, batches of 50",
        "torchattacks",
        1.2,
        label_pgd("torchattacks"),
        needs=("torchattacks",),
    ),
    Case("pgd_foolbox", "l2 PGD-20 on labels, batches of 50", "foolbox", 1.2, label_pgd("foolbox"), needs=("foolbox",)),
    Case(
        "budgets",
        "curve of 10 budgets, 10 images, 20 steps each",
        "the largest budget alone",
        3.0,
        budgets,
        COST,
    ),
)
