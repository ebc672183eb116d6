"""Training on noisy images: what the noise is, and its exact effect on a linear model."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.gaussian_noise import GaussianNoise
from runner.defenses.natural import Natural

IMAGES = torch.rand(6, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
BATCH = Batch(IMAGES, torch.arange(6) % 2, rng.example_keys(0, range(6)), 0.0)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()


def test_on_a_linear_model_the_noise_shifts_each_logit_by_sigma_times_w_dot_the_draw():
    model = linear()
    draw = rng.normal(BATCH.keys, (3, 4, 4)).double().flatten(1)
    logits = model(IMAGES) + 0.25 * draw @ model[1].weight.T
    torch.testing.assert_close(GaussianNoise(0.25).loss(model, BATCH)[0], F.cross_entropy(logits, BATCH.labels))


def test_the_noise_has_the_standard_deviation_sigma_and_is_not_clamped():
    count = 2000
    many = Batch(torch.zeros(count, 1, 5, 5), torch.zeros(count).long(), rng.example_keys(1, range(count)), 0.0)
    noise = GaussianNoise(0.5).noisy(many)
    assert noise.std().item() == pytest.approx(0.5, rel=0.01)
    assert abs(noise.mean().item()) < 4 * 0.5 / (25 * count) ** 0.5


def test_sigma_0_is_natural_training():
    torch.testing.assert_close(GaussianNoise(0.0).loss(linear(), BATCH)[0], Natural().loss(linear(), BATCH)[0])


def test_a_negative_sigma_is_refused():
    with pytest.raises(ConfigError, match="defense.sigma"):
        GaussianNoise(-0.1)
