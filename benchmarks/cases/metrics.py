"""Metrics: SENS-MAX against Quantus and Captum, rank correlations against a loop over scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Case, Sides, require
from benchmarks.networks import Subject
from benchmarks.search import Search
from runner.api import explain
from runner.metrics.kendall import Kendall
from runner.metrics.spearman import Spearman

_RADIUS, _DRAWS = 0.02, 50
"""linf; draws are cut to [0, 1] on both sides."""


def sens_max(peer: Callable[[Subject, int], Callable[[], Any]]) -> Callable[[Subject], Sides]:
    """The largest relative change of the saliency map over 50 draws, for 100 images."""

    def prepare(subject: Subject) -> Sides:
        count = subject.size(100, 20)
        search = Search(
            subject,
            "random_ball",
            count,
            [_RADIUS],
            norm="linf",
            metrics=["l2_ratio"],
            reduction="sum",
            options={"draws": _DRAWS, "measure": "l2_ratio"},
        )
        theirs = peer(subject, count)

        def check() -> str:
            """The draws differ, so that maxima of single images do; their means over the images must not."""
            ours, expected = float(search()[-1].harm.mean()), float(np.mean(np.asarray(theirs())))
            return require(abs(ours / expected - 1) < 0.1, f"mean maximum {ours:.3f} against {expected:.3f}")

        return Sides(check, {"ours": search, "theirs": theirs})

    return prepare


def _captum(subject: Subject, count: int) -> Callable[[], Any]:
    from captum.attr import Saliency
    from captum.metrics import sensitivity_max

    images, targets, method = subject.images[:count], subject.targets[:count], Saliency(subject.model)

    def draw(given: Any, radius: float) -> Tensor:
        places: Tensor = given if isinstance(given, Tensor) else given[0]
        return (places + (2 * torch.rand_like(places) - 1) * radius).clamp(0, 1)

    def run() -> Tensor:
        torch.manual_seed(0)
        found: Tensor = sensitivity_max(
            method.attribute,
            images,
            draw,
            _RADIUS,
            n_perturb_samples=_DRAWS,
            max_examples_per_batch=count,
            target=targets,
            abs=False,
        )
        return found.detach().cpu()

    return run


def _quantus(subject: Subject, count: int) -> Callable[[], Any]:
    import quantus

    images, targets = (values[:count].cpu().numpy() for values in (subject.images, subject.targets))

    def maps(model: Any, inputs: Any, targets: Any, **_: Any) -> Any:
        batch = torch.as_tensor(np.asarray(inputs), dtype=torch.float32, device=subject.device)
        leaf = batch.reshape(-1, *subject.images.shape[1:]).requires_grad_(True)
        chosen = model(leaf).gather(1, torch.as_tensor(targets, device=leaf.device).reshape(-1, 1))
        return torch.autograd.grad(chosen.sum(), leaf)[0].cpu().numpy()

    def draw(arr: Any, indices: Any, **_: Any) -> Any:
        return np.clip(arr + np.random.default_rng().uniform(-_RADIUS, _RADIUS, arr.shape), 0, 1).astype(np.float32)

    metric = quantus.MaxSensitivity(
        nr_samples=_DRAWS,
        perturb_func=draw,
        lower_bound=_RADIUS,
        abs=False,
        normalise=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    clean = maps(subject.model, images, targets)

    def run() -> Any:
        return metric(
            subject.model,
            images,
            targets,
            a_batch=clean,
            explain_func=maps,
            device=str(subject.device),
            batch_size=count,
            channel_first=True,
            softmax=False,
        )

    return run


def ranks(metric: Spearman | Kendall, statistic: str) -> Callable[[Subject], Sides]:
    """1,000 pairs of saliency maps of 32x32 pixels: of images, and of the same with noise."""

    def prepare(subject: Subject) -> Sides:
        import scipy.stats

        count, side = subject.size(1000, 20), 32
        noise = torch.randn(subject.images[:count].shape, generator=torch.Generator().manual_seed(0))
        clean = subject.images[:count].cpu()
        pair = [
            explain(subject.model, images, subject.targets[:count].cpu()) for images in (clean, _near(clean, noise))
        ]
        first, second = (_resized(maps.abs().sum(dim=1), side).to(subject.device) for maps in pair)
        function = getattr(scipy.stats, statistic)
        rows = [values.cpu().double().flatten(1).numpy() for values in (first, second)]

        def theirs() -> list[float]:
            return [function(one, other).statistic for one, other in zip(*rows, strict=True)]

        def check() -> str:
            worst = float((metric(first, second).cpu() - torch.tensor(theirs())).abs().max())
            return require(worst < 1e-9, f"largest difference {worst:.0e}")

        return Sides(check, {"ours": lambda: metric(first, second), "theirs": theirs})

    return prepare


def _near(images: Tensor, noise: Tensor) -> Tensor:
    return (images + 0.1 * noise).clamp(0, 1)


def _resized(maps: Tensor, side: int) -> Tensor:
    resized: Tensor = torch.nn.functional.interpolate(maps.unsqueeze(1), (side, side), mode="bilinear")
    return resized.squeeze(1)


_SENS = Case("", "SENS-MAX of saliency, 50 draws, 100 images", "", 2.0, sens_max(_captum))

CASES = (
    replace(_SENS, name="sens_max_quantus", peer="quantus", prepare=sens_max(_quantus), needs=("quantus",)),
    replace(_SENS, name="sens_max_captum", peer="captum", needs=("captum",)),
    Case("spearman", "Spearman, 1,000 pairs of maps of 32x32", "loop over scipy", 6.0, ranks(Spearman(), "spearmanr")),
    Case("kendall", "Kendall, 1,000 pairs of maps of 32x32", "loop over scipy", 1.5, ranks(Kendall(), "kendalltau")),
)
