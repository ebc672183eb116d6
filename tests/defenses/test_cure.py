"""CURE on a model whose cross-entropy is a quadratic: the change of its gradient is h times the Hessian times z."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.cure import CurvatureRegularisation, gradient_change
from runner.defenses.natural import Natural

IMAGES = torch.rand(5, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.zeros(5, dtype=torch.int64)


class Quadratic(nn.Module):
    """Logits (log p, log(1 - p)) with p = exp(-q), so that the cross-entropy of class 0 is q = x A x / 2 + b x + 9."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        root = torch.randn(6, 6, dtype=torch.float64, generator=generator)
        self.matrix = nn.Parameter((root + root.T) / 2)
        self.slope = nn.Parameter(torch.randn(6, dtype=torch.float64, generator=generator))

    def forward(self, images):
        flat = images.flatten(1)
        value = torch.einsum("nd,de,ne->n", flat, self.matrix, flat) / 2 + flat @ self.slope + 9
        return torch.stack((-value, torch.log1p(-torch.exp(-value))), dim=1)


def mlp(channels=1):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6 * channels, 20), nn.Softplus(5.0), nn.Linear(20, 3)).double()


def batch(labels=LABELS, epoch=0):
    return Batch(IMAGES, labels, rng.example_keys(0, range(5)), 0.0, epoch)


@pytest.mark.parametrize("h", [0.01, 1.5])
def test_on_a_quadratic_it_is_h_times_the_hessian_times_the_normalised_sign(h):
    model = Quadratic()
    gradient = IMAGES.flatten(1) @ model.matrix + model.slope
    direction = gradient.sign() / 6**0.5
    expected = h * direction @ model.matrix
    found = gradient_change(model, IMAGES, LABELS, h).flatten(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_a_small_h_gives_the_autograd_hessian_vector_product():
    model, h = mlp(), 1e-5
    labels = torch.tensor([0, 1, 2, 0, 1])
    found = gradient_change(model, IMAGES, labels, h).detach() / h
    for image, label, product in zip(IMAGES, labels, found, strict=True):

        def loss(x, label=label):
            return F.cross_entropy(model(x[None]), label[None])

        gradient = torch.autograd.functional.jacobian(loss, image)
        _, expected = torch.autograd.functional.hvp(loss, image, gradient.sign() / 6**0.5)
        torch.testing.assert_close(product, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("squared", [True, False])
def test_the_loss_is_the_cross_entropy_plus_the_weighted_penalty(squared):
    model = Quadratic()
    norms = gradient_change(model, IMAGES, LABELS, 1.5).flatten(1).norm(dim=1)
    penalty = (norms.square() if squared else norms).mean()
    clean = F.cross_entropy(model(IMAGES), LABELS)
    loss, scalars = CurvatureRegularisation(4.0, 1.5, [1.0], squared).loss(model, batch())
    torch.testing.assert_close(loss, clean + 4 * penalty)
    torch.testing.assert_close(scalars, {"clean_loss": clean.detach(), "penalty": penalty.detach()})


def test_h_follows_the_ramp_epoch_by_epoch_and_then_stays():
    defense = CurvatureRegularisation(h=1.5)
    assert [defense.reach(epoch) for epoch in (0, 1, 2, 3, 4, 5, 90)] == pytest.approx([0.3, 0.6, 0.9, 1.2] + [1.5] * 3)
    model = Quadratic()
    first, sixth = (defense.penalty(model, batch(epoch=epoch)) for epoch in (0, 5))
    torch.testing.assert_close(sixth, 25 * first)


def test_weight_0_is_natural_training():
    torch.testing.assert_close(CurvatureRegularisation(0.0).loss(mlp(), batch())[0], Natural().loss(mlp(), batch())[0])


def test_a_saturated_prediction_has_a_zero_penalty_and_a_finite_gradient():
    model = mlp().float()
    with torch.no_grad():
        model[3].bias[0] += 200.0
    one = Batch(IMAGES.float(), LABELS, rng.example_keys(0, range(5)), 0.0)
    penalty = CurvatureRegularisation(squared=False).penalty(model, one)
    penalty.backward()
    assert penalty == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_each_example_has_its_own_penalty_with_batch_normalisation_in_training_mode():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)
    model = nn.Sequential(*layers).double().train()
    defense = CurvatureRegularisation()
    alone = [
        defense.penalty(model, Batch(IMAGES[i : i + 1], LABELS[i : i + 1], batch().keys[i : i + 1], 0.0))
        for i in range(5)
    ]
    torch.testing.assert_close(defense.penalty(model, batch()), torch.stack(alone).mean())
    assert all(module.training for module in model.modules())


def test_training_on_the_penalty_lowers_it():
    model, defense = mlp(), CurvatureRegularisation(10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    before = defense.penalty(model, batch(epoch=9)).item()
    for _ in range(30):
        optimizer.zero_grad()
        defense.loss(model, batch(epoch=9))[0].backward()
        optimizer.step()
    assert defense.penalty(model, batch(epoch=9)).item() < 0.5 * before


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"weight": -1.0}, "defense.weight"),
        ({"h": 0.0}, "defense.h"),
        ({"ramp": []}, "defense.ramp"),
        ({"ramp": [0.5, 0.0]}, "defense.ramp"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        CurvatureRegularisation(**options)
