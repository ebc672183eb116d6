"""Growth of the attack's time with its sizes, as slopes of log-log fits (1 is linear), and its share of the machine's peak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.case import SHARE, SLOPE, Case, Run, Sides, require
from benchmarks.networks import Subject, new_network
from benchmarks.search import Search
from runner.api import explain

_SIDE = 1024
"""Of the square matrices whose product is the peak."""


def growth(of: Callable[[Subject, int], Run], sizes: Sequence[int], tiny: Sequence[int]) -> Callable[[Subject], Sides]:
    """Three sizes of one run."""

    def prepare(subject: Subject) -> Sides:
        chosen = tiny if subject.tiny else sizes
        runs = {str(size): of(subject, size) for size in chosen}

        def check() -> str:
            for run in runs.values():
                run()
            return require(len(runs) == len(sizes), f"ran at {', '.join(runs)}")

        return Sides(check, runs, {str(size): float(size) for size in chosen})

    return prepare


def peak(subject: Subject) -> Sides:
    """The inner loop of the top-k attack on saliency against the product of two large matrices, per operation."""
    search = _topk(subject, subject.size(50, 8), [0.5], 5)
    problem, attack = search.problem(), search.parts.attack
    start = attack.start(problem)
    matrix = torch.rand(_SIDE, _SIDE, device=subject.device)

    def ours() -> object:
        return attack.search(problem, 0.5, "l2", start)

    with _Operations() as counter:
        ours()
    operations = counter.total

    def check() -> str:
        return require(operations > 0, f"{operations:.2e} operations against {2.0 * _SIDE**3:.2e}")

    return Sides(
        check, {"ours": ours, "theirs": lambda: matrix @ matrix}, {"ours": operations, "theirs": 2.0 * _SIDE**3}
    )


class _Operations(TorchDispatchMode):
    """Counts floating-point operations; torch's `FlopCounterMode` does not see gradients inside a gradient."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation itself, counted if it multiplies matrices or convolves."""
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=found)
        return found


def _topk(subject: Subject, count: int, epsilons: list[float], steps: int, k: int = 100) -> Search:
    return Search(subject, "topk", count, epsilons, k=k, options={"steps": steps})


def _examples(subject: Subject, count: int) -> Run:
    return replace(_topk(subject, count, [0.5], 3), options={"steps": 3, "chunk": 50})


def _budgets(subject: Subject, count: int) -> Run:
    return _topk(subject, subject.size(20, 4), [0.1 * (number + 1) for number in range(count)], subject.size(5, 1))


def _samples(subject: Subject, count: int) -> Run:
    images, targets = (values[: subject.size(20, 2)] for values in (subject.images, subject.targets))
    return lambda: explain(subject.model, images, targets, "integrated_gradients", steps=count)


def _pixels(subject: Subject, pixels: int) -> Run:
    side = round(pixels**0.5)
    images = torch.nn.functional.interpolate(subject.images[: subject.size(16, 2)], (side, side))
    network = new_network(subject.name, 10, shape=[images.shape[1], side, side])
    return _topk(_other(subject, network, images), len(images), [0.5], 3)


def _classes(subject: Subject, classes: int) -> Run:
    network = new_network(subject.name, classes)
    return _topk(_other(subject, network, subject.images), subject.size(50, 4), [0.5], 3)


def _other(subject: Subject, network: nn.Module, images: torch.Tensor) -> Subject:
    return replace(subject, model=network.to(subject.device).eval().requires_grad_(False), images=images)


def _row(name: str, what: str, of: Callable[[Subject, int], Run], sizes: Sequence[int], tiny: Sequence[int]) -> Case:
    told = ", ".join(str(size) for size in sizes)
    return Case(name, f"growth of {what}: {told}", "none", None, growth(of, sizes, tiny), SLOPE, where=("one", "gpu"))


CASES = (
    Case("peak", "share of the peak, inner loop of top-k on saliency", "matrix product of 1024", None, peak, SHARE),
    _row("growth_examples", "top-k on saliency with examples", _examples, (50, 100, 200), (2, 4, 8)),
    _row("growth_budgets", "top-k on saliency with budgets", _budgets, (2, 4, 8), (1, 2, 3)),
    _row("growth_samples", "values of IG with samples", _samples, (25, 50, 100), (2, 4, 8)),
    _row("growth_pixels", "top-k on saliency with pixels", _pixels, (28**2, 56**2, 112**2), (12**2, 16**2, 20**2)),
    _row("growth_classes", "top-k on saliency with classes", _classes, (10, 100, 1000), (10, 20, 40)),
)
