"""IG-NORM and IG-SUM-NORM: completeness, the search on the approximated path, reductions, and chunks in training mode."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from differences import slopes
from torch import nn

from runner.attacks.engine import ProjectedGradient
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms
from runner.core.types import Batch
from runner.defenses.adversarial_training import AdversarialTraining
from runner.defenses.ig_regulariser import IntegratedGradientsRegulariser, path_attribution
from runner.defenses.natural import Natural
from runner.defenses.regulariser import Regulariser

IMAGES = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OTHERS = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(6) % 3
BATCH = Batch(IMAGES, LABELS, rng.example_keys(3, range(6)), 0.0)


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 3)).double()


def batch_normalised():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)
    return nn.Sequential(*layers).double()


def defense(**options):
    values = {
        "epsilon": 0.2,
        "norm": "linf",
        "attack": partial(ProjectedGradient),
        "steps": 3,
        "points": 10,
        "approx_factor": 5,
    }
    return IntegratedGradientsRegulariser(**{**values, **options})


def entropies(model, images):
    return F.cross_entropy(model(images), LABELS, reduction="none")


def shares(points):
    return [index / points for index in range(1, points + 1)]


def test_the_signed_sum_is_the_change_of_the_loss_and_converges():
    model = mlp()
    change = entropies(model, OTHERS) - entropies(model, IMAGES)
    errors = []
    for points in (30, 300):
        signed = path_attribution(model, IMAGES, OTHERS, LABELS, shares(points)).sum(dim=(1, 2, 3))
        errors.append((signed - change).abs().max().item())
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 5
    assert change.abs().min() > 10 * errors[1]


def test_a_linear_model_has_the_integral_in_closed_form():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    labels = torch.zeros(6, dtype=torch.int64)
    slope, shift = model[1].weight[1] - model[1].weight[0], model[1].bias[1] - model[1].bias[0]
    start, end = (images.flatten(1) @ slope + shift for images in (IMAGES, OTHERS))
    mean_probability = (F.softplus(end) - F.softplus(start)) / (end - start)
    expected = (OTHERS - IMAGES).flatten(1) * mean_probability[:, None] * slope
    found = path_attribution(model, IMAGES, OTHERS, labels, shares(1000)).flatten(1)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-5)


def test_the_search_approximates_the_path_by_every_so_manyth_point():
    model, other = mlp(), defense(points=12, approx_factor=4)
    coarse = path_attribution(model, IMAGES, OTHERS, LABELS, [4 / 12, 8 / 12, 1.0]).abs().sum(dim=(1, 2, 3))
    torch.testing.assert_close(other.norms(model, BATCH, OTHERS, other.approx_factor), coarse)
    fine = path_attribution(model, IMAGES, OTHERS, LABELS, shares(12)).abs().sum(dim=(1, 2, 3))
    torch.testing.assert_close(other.norms(model, BATCH, OTHERS), fine)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_norm_rises_with_the_steps_and_stays_in_the_ball(norm):
    model, values = mlp(), []
    for steps in (1, 4, 16):
        made = defense(steps=steps, norm=norm, step_size=0.25)
        perturbed = made.perturb(model, BATCH)
        values.append(made.norms(model, BATCH, perturbed).mean().item())
        assert (perturbation_norms(perturbed, IMAGES, norm) <= 0.2).all()
        assert ((perturbed >= 0) & (perturbed <= 1)).all()
    assert values[0] < values[1] < values[2] * (1 + 1e-6)


def test_sum_norm_raises_the_loss_and_the_norm_together():
    model, totals = mlp(), []
    for steps in (1, 16):
        made = defense(size="sum_norm", steps=steps, weight=0.5, step_size=0.25, approx_factor=1)
        perturbed = made.perturb(model, BATCH)
        totals.append((entropies(model, perturbed) + 0.5 * made.norms(model, BATCH, perturbed)).mean().item())
    assert totals[0] < totals[1]


@pytest.mark.parametrize(("size", "name"), [("norm", "clean_loss"), ("sum_norm", "adversarial_loss")])
def test_the_three_reductions(size, name):
    model = mlp()
    made = {how: defense(size=size, weight=0.7, reduction=how) for how in ("mean", "sum", "mixed")}
    perturbed = made["mean"].perturb(model, BATCH)
    entropy = entropies(model, IMAGES if size == "norm" else perturbed)
    norms = made["mean"].norms(model, BATCH, perturbed)
    expected = {
        "mean": entropy.mean() + 0.7 * norms.mean(),
        "sum": entropy.sum() + 0.7 * norms.sum(),
        "mixed": entropy.mean() + 0.7 * norms.sum(),
    }
    for how, value in expected.items():
        loss, scalars = made[how].loss(model, BATCH)
        torch.testing.assert_close(loss, value)
        torch.testing.assert_close(scalars["penalty"], norms.mean().detach())
        torch.testing.assert_close(scalars[name], entropy.mean().detach())


def test_weight_zero_leaves_the_cross_entropy():
    model = mlp()
    torch.testing.assert_close(defense(weight=0.0).loss(model, BATCH)[0], Natural().loss(model, BATCH)[0])
    madry = AdversarialTraining(0.2, "linf", partial(ProjectedGradient), steps=3)
    summed = defense(weight=0.0, size="sum_norm").loss(model, BATCH)[0]
    torch.testing.assert_close(summed, madry.loss(model, BATCH)[0])


def test_epsilon_zero_has_no_penalty():
    assert defense(epsilon=0.0).loss(mlp(), BATCH)[1]["penalty"] == 0.0


def test_its_gradient_in_several_passes_agrees_with_finite_differences():
    model, made = mlp(), defense(size="sum_norm", weight=0.5, chunk=12)
    exact, numeric = slopes(model, lambda: made.loss(model, BATCH)[0])
    torch.testing.assert_close(exact, numeric, rtol=1e-6, atol=1e-7)
    assert exact.abs().max() > 1e-3


def test_chunks_change_neither_the_search_nor_the_gradient_in_training_mode():
    gradients = []
    for chunk in (None, 6, 18):
        model, made = batch_normalised().train(), defense(points=8, approx_factor=2, chunk=chunk)
        before = model[1].running_mean.clone()
        made.penalty(model, BATCH).backward()
        assert torch.equal(model[1].running_mean, before)
        assert model.training
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


def test_training_on_the_penalty_lowers_it():
    model, made = mlp(), defense(weight=5.0, steps=2, points=4, approx_factor=1)
    assert isinstance(made, Regulariser)
    before = made.penalty(model, BATCH).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(30):
        loss, _ = made.loss(model, BATCH)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert made.penalty(model, BATCH).item() < 0.5 * before
    assert math.isfinite(loss.item())


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"weight": -1.0}, "defense.weight"),
        ({"points": 0}, "defense.points"),
        ({"points": 10, "approx_factor": 3}, "defense.approx_factor"),
        ({"chunk": 0}, "defense.chunk"),
        ({"steps": 0}, "defense.steps"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        defense(**{"approx_factor": 1, **options})
