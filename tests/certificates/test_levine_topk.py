"""The rank certificate: its counting against every corner of the box, the paper's formula, and coverage for a known map."""

import math
from itertools import product

import pytest
import torch
from known_maps import SparsifiedSmoothGrad, images_of, network, pushed, reported, subject_of
from torch import Tensor

from runner.attributions.sparsified_smoothgrad import SparsifiedSmoothGrad as RealMap
from runner.certificates.concentration import hoeffding
from runner.certificates.gaussian import shifted
from runner.certificates.levine_topk import Levels, LevineTopK, lost
from runner.metrics.reduction import REDUCTIONS
from runner.metrics.topk_intersection import TopKIntersection


def worst_by_hand(low: Tensor, high: Tensor, estimate: Tensor, k: int) -> int:
    """Over all corners of the box: the largest loss of the k largest of `estimate`, ties broken against it."""
    kept = set(estimate.argsort(descending=True)[:k].tolist())
    worst = 0
    for corner in product(*zip(low.tolist(), high.tolist(), strict=True)):
        order = sorted(range(len(corner)), key=lambda index: (-corner[index], index in kept))
        worst = max(worst, len(kept - set(order[:k])))
    return worst


def test_lost_is_the_worst_corner_of_the_box() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for k in (1, 2, 3, 5):
        for _ in range(12):
            estimate = torch.rand(6, generator=generator, dtype=torch.float64)
            width = 0.4 * torch.rand(2, 6, generator=generator, dtype=torch.float64)
            low, high = estimate - width[0], estimate + width[1]
            found = float(lost(low[None], high[None], estimate[None], k))
            assert found == worst_by_hand(low, high, estimate, k)
            seen.add(found)
    assert len(seen) >= 3


def test_the_note_is_the_formula_of_the_paper() -> None:
    """METHODS 17.G: #{i <= K: Phi(Phi^-1(g_i - err) - 2 rho / sigma) - err > g_(2K+1-i)}."""
    estimate, k, draws, sigma = torch.rand(3, 40, dtype=torch.float64), 8, 8192, 0.25
    error = hoeffding(draws, 0.05 / 2 / 40)
    for rho in (0.0, 0.01, 0.05, 0.2):
        ordered = estimate.sort(dim=1, descending=True).values
        lower = shifted((ordered - error).clamp_min(0.0), -2 * rho / sigma) - error
        stated = [
            sum(float(row[i - 1]) > float(full[2 * k - i]) for i in range(1, k + 1))
            for row, full in zip(lower, ordered, strict=True)
        ]
        moved = Levels.around(estimate, error).moved(rho / sigma)
        assert (k - lost(moved.low, moved.high, estimate, k)).tolist() == stated


def test_it_holds_as_often_as_it_says_for_a_known_map() -> None:
    """Images are pushed along the worst direction: the weakest of the top against the strongest of the rest."""
    attribution = SparsifiedSmoothGrad(samples=1000, sigma=0.15)
    images = images_of(120, 1, 4, seed=1)
    certificate = LevineTopK(k=4, reduction="abs_sum", confidence=0.8, samples=2000)
    subject = subject_of(attribution, images)
    epsilons = (0.0, 0.05, 0.15)
    bounds, notes = certificate.annotate(subject, epsilons)
    order = images.flatten(1).argsort(dim=1, descending=True)
    direction = torch.zeros_like(images.flatten(1)).scatter(1, order[:, 2:4], -1.0).scatter(1, order[:, 4:6], 1.0) / 2.0
    clean = reported(subject, images, "clean")
    for number, epsilon in enumerate(epsilons):
        moved = images + epsilon * direction.reshape(images.shape)
        values = TopKIntersection(4)(clean, reported(subject, moved, "moved"))
        assert float((values < bounds[:, number] - 1e-9).double().mean()) <= 0.2
        exact = TopKIntersection(4)(attribution.expected(images)[:, 0], attribution.expected(moved)[:, 0])
        assert float((exact < notes["smoothed"][:, number] - 1e-9).double().mean()) <= 0.2
    assert 0.1 < float(bounds[:, 0].mean()) < 1.0
    assert torch.all(bounds[:, 1:] <= bounds[:, :-1])
    assert torch.all(bounds <= notes["smoothed"] + 1e-12)


@pytest.mark.parametrize("features", ["values", "pixels"])
@pytest.mark.parametrize("reduction", sorted(REDUCTIONS))
def test_colour_maps_of_a_network(reduction: str, features: str) -> None:
    model, images = network(3, 3), images_of(6, 3, 3)
    attribution = RealMap(samples=400, sigma=0.3, tau=0.4, features=features)  # type: ignore[arg-type]
    subject = subject_of(attribution, images, model, reduction)
    certificate = LevineTopK(k=4, reduction=reduction, samples=2000, chunk=500)
    certificate.check(attribution, "l2", reduction)
    bounds = certificate(subject, [0.0, 0.02])
    clean = reported(subject, images, "clean")
    for seed in range(3):
        values = TopKIntersection(4)(clean, reported(subject, pushed(images, 0.02, seed), "moved"))
        assert torch.all(values >= bounds[:, 1])
    assert float(bounds[:, 0].max()) > 0.0


def test_a_wider_claim_is_weaker() -> None:
    subject = subject_of(SparsifiedSmoothGrad(samples=1000, sigma=0.15), images_of(10, 1, 4))
    means = [
        float(LevineTopK(k=4, reduction="abs_sum", confidence=confidence, samples=1000)(subject, [0.02]).mean())
        for confidence in (0.5, 0.95, 1 - 1e-6)
    ]
    assert means[0] >= means[1] > means[2]
    assert float(LevineTopK(k=4, reduction="abs_sum", samples=1000)(subject, [math.inf]).max()) == 0.0
