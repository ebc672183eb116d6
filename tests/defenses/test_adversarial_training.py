"""Adversarial training on a linear model, whose worst case in the ball is known."""

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
from runner.defenses.adversarial_training import AdversarialTraining
from runner.defenses.natural import Natural

IMAGES = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
BATCH = Batch(IMAGES, torch.arange(8) % 2, rng.example_keys(3, range(8)), 0.0)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def defense(norm="l2", epsilon=0.2, **options):
    return AdversarialTraining(epsilon, norm, partial(ProjectedGradient), **options)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_adversary_finds_the_worst_case_of_a_linear_model(norm):
    model = linear()
    slope = model[1].weight[1] - model[1].weight[0]
    reach = 0.2 * (slope.norm() if norm == "l2" else slope.abs().sum())
    logits = model(IMAGES)
    margin = torch.where(BATCH.labels == 1, 1.0, -1.0) * (logits[:, 1] - logits[:, 0])
    expected = F.softplus(-(margin - reach)).mean()
    loss, scalars = defense(norm, steps=20, random_start=False).loss(model, BATCH)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(scalars["adversarial_loss"], loss.detach())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_adversarial_images_stay_in_the_ball_and_the_box(norm):
    images = defense(norm, "8/255", steps=5).perturb(linear(), BATCH)
    assert (perturbation_norms(images, IMAGES, norm) <= 8 / 255).all()
    assert ((images >= 0) & (images <= 1)).all()


def test_the_inner_loss_rises_with_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    losses = [
        defense(epsilon=1.0, steps=steps, random_start=False).loss(model, BATCH)[0].item() for steps in (1, 3, 20)
    ]
    assert losses[0] < losses[1] <= losses[2] * (1 + 1e-6)


def test_epsilon_zero_is_natural_training():
    torch.testing.assert_close(defense(epsilon=0.0).loss(linear(), BATCH)[0], Natural().loss(linear(), BATCH)[0])


def test_clean_weight_mixes_both_losses():
    model = linear()
    mixed, scalars = defense(clean_weight=0.25).loss(model, BATCH)
    torch.testing.assert_close(mixed, 0.25 * scalars["clean_loss"] + 0.75 * scalars["adversarial_loss"])
    torch.testing.assert_close(scalars["clean_loss"], Natural().loss(model, BATCH)[0].detach())


def test_the_adversary_sees_evaluation_mode_and_training_mode_returns():
    model = nn.Sequential(nn.Dropout(0.9), *linear())
    modes = []
    model[0].register_forward_hook(lambda module, args, output: modes.append(module.training))
    defense(steps=2).loss(model.train(), BATCH)
    assert modes == [False, False, True]
    assert model.training


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"epsilon": -0.1}, "defense.epsilon"),
        ({"steps": 0}, "defense.steps"),
        ({"clean_weight": 1.0}, "defense.clean_weight"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        defense(**options)
