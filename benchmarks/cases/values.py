"""Values of maps: integrated gradients and SmoothGrad against Captum at its best batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.case import Case, Sides, require
from benchmarks.networks import Subject
from runner.api import explain

_BATCHES = (100, 256, 1024)
"""Images in one pass that Captum may choose from; ours are those of conf/."""
_SIGMA = 0.2


def integrated_gradients(subject: Subject) -> Sides:
    """50 points of the path from a black image."""
    from captum.attr import IntegratedGradients

    count = subject.size(100, 4)
    images, targets = subject.images[:count], subject.targets[:count]
    method = IntegratedGradients(subject.model)

    def ours() -> Tensor:
        return explain(subject.model, images, targets, "integrated_gradients", steps=50)

    def theirs(batch: int) -> Tensor:
        found: Tensor = method.attribute(
            images, target=targets, n_steps=50, method="riemann_right", internal_batch_size=batch
        )
        return found

    def check() -> str:
        expected = theirs(_BATCHES[0]).cpu()
        worst = float((ours() - expected).abs().max() / expected.abs().max())
        return require(worst < 1e-4, f"largest difference {worst:.0e} of the largest value")

    return Sides(check, {"ours": ours, "theirs": _fastest(theirs, _BATCHES[: subject.size(3, 1)])})


def smoothgrad(subject: Subject) -> Sides:
    """50 draws of Gaussian noise."""
    from captum.attr import NoiseTunnel, Saliency

    count = subject.size(100, 4)
    images, targets = subject.images[:count], subject.targets[:count]
    method = NoiseTunnel(Saliency(subject.model))

    def ours() -> Tensor:
        return explain(subject.model, images, targets, "smoothgrad", samples=50, sigma=_SIGMA)

    def theirs(batch: int) -> Tensor:
        found: Tensor = method.attribute(
            images,
            nt_type="smoothgrad",
            nt_samples=50,
            nt_samples_batch_size=max(1, min(50, batch // count)),
            stdevs=_SIGMA,
            target=targets,
            abs=False,
        )
        return found.detach()

    def check() -> str:
        """Two draws of Captum's differ by noise alone; ours must differ from each by no more than that."""
        torch.manual_seed(0)
        first, second = (theirs(50 * count).cpu() for _ in range(2))
        between, apart = (float((other - first).square().mean().sqrt()) for other in (second, ours()))
        return require(abs(apart / between - 1) < 0.15, f"apart by {apart / between:.2f} of Captum's own noise")

    batches = [count * samples for samples in (1, 5, 50)][: subject.size(3, 1)]
    return Sides(check, {"ours": ours, "theirs": _fastest(theirs, batches)})


def _fastest(run: Callable[[int], Tensor], batches: Sequence[int]) -> Callable[[], Tensor]:
    """The run at the batch size that is fastest."""

    def seconds(batch: int) -> float:
        began = time.process_time()
        run(batch).sum().item()
        return time.process_time() - began

    best = min(batches, key=seconds) if len(batches) > 1 else batches[0]
    return lambda: run(best)


CASES = (
    Case(
        "ig_values",
        "values of IG(50), 100 images",
        "captum, best batch size",
        1.8,
        integrated_gradients,
        needs=("captum",),
    ),
    Case(
        "smoothgrad_values",
        "values of SmoothGrad(50), 100 images",
        "captum, best batch size",
        1.6,
        smoothgrad,
        needs=("captum",),
    ),
)
