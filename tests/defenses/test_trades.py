"""TRADES on a linear model, whose predictions can be moved only so far."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.attacks.engine import ProjectedGradient
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms
from runner.core.types import Batch
from runner.defenses.natural import Natural
from runner.defenses.trades import Trades, divergence

IMAGES = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
BATCH = Batch(IMAGES, torch.arange(8) % 2, rng.example_keys(3, range(8)), 0.0)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))


def defense(norm="l2", epsilon=0.2, **options):
    return Trades(epsilon, norm, partial(ProjectedGradient), **options)


def test_the_divergence_is_the_sum_of_p_log_p_over_q_and_never_negative():
    logits, others = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = logits.softmax(1), others.softmax(1)
    torch.testing.assert_close(divergence(logits, others), (p * (p / q).log()).sum(1))
    assert (divergence(logits, others) > 0).all()
    assert divergence(logits, logits).abs().max() == 0
    assert torch.isfinite(divergence(logits * 1000, others * -1000)).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_adversary_moves_a_linear_model_as_far_as_the_ball_lets_it(norm):
    model = linear()
    slope = (model[1].weight[1] - model[1].weight[0]).detach()
    reach = 0.2 * (slope.norm() if norm == "l2" else slope.abs().sum())
    moved = (defense(norm, steps=30, step_size=0.5).perturb(model, BATCH) - IMAGES).flatten(1) @ slope
    torch.testing.assert_close(moved.abs(), reach.expand(8), rtol=1e-4, atol=0)


def test_the_divergence_rises_with_steps():
    model = mlp()
    values = [
        defense(epsilon=1.0, steps=steps, step_size=None).loss(model, BATCH)[1]["penalty"].item()
        for steps in (1, 3, 20)
    ]
    start = divergence(model(IMAGES), model(IMAGES + 0.001 * rng.normal(rng.fold(BATCH.keys, 0), (1, 4, 4)))).mean()
    assert start.item() < values[0] < values[1] <= values[2] * (1 + 1e-6)


def test_the_loss_is_the_cross_entropy_plus_beta_times_the_divergence():
    model = mlp()
    loss, scalars = defense(beta=2.5).loss(model, BATCH)
    images = defense().perturb(model, BATCH)
    penalty = divergence(model(IMAGES), model(images)).mean()
    torch.testing.assert_close(loss, F.cross_entropy(model(IMAGES), BATCH.labels) + 2.5 * penalty)
    torch.testing.assert_close(scalars["penalty"], penalty.detach())
    torch.testing.assert_close(scalars["adversarial_loss"], F.cross_entropy(model(images), BATCH.labels).detach())
    torch.testing.assert_close(scalars["clean_loss"], Natural().loss(model, BATCH)[0].detach())


def test_the_divergence_trains_through_both_predictions():
    model, parts = mlp(), defense(beta=2.5)
    images = parts.perturb(model, BATCH)
    parts.loss(model, BATCH)[0].backward()
    found = model[1].weight.grad.clone()
    model.zero_grad()
    p, log_q = model(IMAGES).softmax(1), model(images).log_softmax(1)
    kl = (p * (p.log() - log_q)).sum(1).mean()
    (F.cross_entropy(model(IMAGES), BATCH.labels) + 2.5 * kl).backward()
    torch.testing.assert_close(found, model[1].weight.grad)


def test_beta_0_and_epsilon_0_are_natural_training():
    natural = Natural().loss(mlp(), BATCH)[0]
    torch.testing.assert_close(defense(beta=0.0).loss(mlp(), BATCH)[0], natural, rtol=0, atol=0)
    torch.testing.assert_close(defense(epsilon=0).loss(mlp(), BATCH)[0], natural)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_images_stay_in_the_ball_and_the_box_and_do_not_depend_on_the_batch(norm):
    model, parts = mlp(), defense(norm, "8/255", steps=5)
    images = parts.perturb(model, BATCH)
    assert (perturbation_norms(images, IMAGES, norm) <= 8 / 255).all()
    assert ((images >= 0) & (images <= 1)).all()
    alone = parts.perturb(model, Batch(IMAGES[2:3], BATCH.labels[2:3], BATCH.keys[2:3], 0.0))
    torch.testing.assert_close(images[2:3], alone, rtol=0, atol=1e-5)


def test_the_adversary_sees_evaluation_mode_and_training_mode_returns():
    model = nn.Sequential(nn.Dropout(0.9), *linear())
    modes = []
    model[0].register_forward_hook(lambda module, args, output: modes.append(module.training))
    defense(steps=2).loss(model.train(), BATCH)
    assert modes == [False, False, False, True, True]
    assert model.training


def test_training_on_it_lowers_the_divergence():
    model, parts = mlp(), defense(epsilon=0.5, beta=100.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = parts.loss(model, BATCH)[1]["penalty"].item()
    for _ in range(12):
        optimizer.zero_grad()
        parts.loss(model, BATCH)[0].backward()
        optimizer.step()
    assert parts.loss(model, BATCH)[1]["penalty"].item() < 0.5 * before


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"epsilon": -0.1}, "defense.epsilon"),
        ({"beta": -1.0}, "defense.beta"),
        ({"steps": 0}, "defense.steps"),
        ({"step_size": 0.0}, "defense.step_size"),
        ({"start_noise": -1.0}, "defense.start_noise"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        defense(**options)
