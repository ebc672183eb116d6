"""The Hessian penalty against the whole Hessian of a small network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.hessian_frobenius import HessianFrobenius, hessian_products
from runner.defenses.natural import Natural

IMAGES = torch.rand(4, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0])
BATCH = Batch(IMAGES, LABELS, rng.example_keys(0, range(4)), 0.0)


def mlp(activation=None):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 20), activation or nn.Softplus(3.0), nn.Linear(20, 3)).double()


def squared_frobenius(model, image, label, scalar):
    def value(x):
        logits = model(x[None])
        return logits[0, label] if scalar == "logit" else F.cross_entropy(logits, label[None])

    return torch.autograd.functional.hessian(value, image).square().sum()


def exact(model, scalar):
    return torch.stack([squared_frobenius(model, *pair, scalar) for pair in zip(IMAGES, LABELS, strict=True)])


@pytest.mark.parametrize(
    ("scalar", "activation"), [("logit", nn.Softplus(3.0)), ("loss", nn.Softplus(3.0)), ("loss", nn.ReLU())]
)
def test_the_products_with_all_basis_vectors_give_the_exact_norm(scalar, activation):
    model = mlp(activation)
    basis = torch.eye(6, dtype=torch.float64).reshape(6, 1, 1, 2, 3).expand(6, 4, 1, 2, 3)
    found = hessian_products(model, IMAGES, LABELS, basis, scalar).flatten(2).square().sum(dim=(0, 2))
    torch.testing.assert_close(found, exact(model, scalar), rtol=1e-10, atol=0)


def test_the_estimate_is_unbiased():
    model, count = mlp(), 20_000
    many = Batch(
        IMAGES[:1].expand(count, 1, 2, 3), LABELS[:1].expand(count), rng.example_keys(5, range(count)), progress=0.0
    )
    directions = rng.normal(rng.fold(many.keys, 0), (1, 2, 3)).double()[None]
    draws = hessian_products(model, many.images, many.labels, directions).flatten(2).square().sum(dim=2)[0]
    found, error = HessianFrobenius().penalty(model, many), draws.std() / count**0.5
    torch.testing.assert_close(found, draws.mean())
    assert error < 0.02 * found
    assert abs(found - exact(model, "logit")[0]) < 3 * error


def test_samples_are_averaged_and_are_not_one_draw_repeated():
    model = mlp()
    directions = torch.stack([rng.normal(rng.fold(BATCH.keys, i), (1, 2, 3)).double() for i in range(3)])
    expected = hessian_products(model, IMAGES, LABELS, directions).flatten(2).square().sum(dim=2)
    torch.testing.assert_close(HessianFrobenius(samples=3).penalty(model, BATCH), expected.mean())
    assert expected.std(dim=0).min() > 0


def test_the_loss_is_the_cross_entropy_plus_the_weighted_penalty():
    model = mlp()
    loss, scalars = HessianFrobenius(0.3).loss(model, BATCH)
    torch.testing.assert_close(scalars["penalty"], HessianFrobenius().penalty(model, BATCH).detach())
    torch.testing.assert_close(loss.detach(), scalars["clean_loss"] + 0.3 * scalars["penalty"])
    torch.testing.assert_close(HessianFrobenius(0.0).loss(model, BATCH)[0], Natural().loss(model, BATCH)[0])


@pytest.mark.parametrize("model", [mlp(nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()])
def test_logits_without_a_hessian_are_refused(model):
    with pytest.raises(ConfigError, match="model.activation=softplus"):
        HessianFrobenius().loss(model, BATCH)


def test_each_example_has_its_own_penalty_with_batch_normalisation_in_training_mode():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Softplus(), nn.Flatten(), nn.Linear(8, 3)
    model = nn.Sequential(*layers).double().train()
    alone = [
        HessianFrobenius().penalty(model, Batch(IMAGES[i : i + 1], LABELS[i : i + 1], BATCH.keys[i : i + 1], 0.0))
        for i in range(4)
    ]
    torch.testing.assert_close(HessianFrobenius().penalty(model, BATCH), torch.stack(alone).mean())
    assert all(module.training for module in model.modules())


def test_training_on_the_penalty_lowers_the_exact_norm():
    model, defense = mlp(), HessianFrobenius(100.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before = exact(model, "logit").mean().item()
    for _ in range(30):
        optimizer.zero_grad()
        defense.loss(model, BATCH)[0].backward()
        optimizer.step()
    assert exact(model, "logit").mean().item() < 0.5 * before


@pytest.mark.parametrize(
    ("options", "key"),
    [({"weight": -1.0}, "defense.weight"), ({"samples": 0}, "defense.samples")],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        HessianFrobenius(**options)
