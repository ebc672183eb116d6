"""Double backpropagation against the closed form of a linear model and finite differences."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.input_gradient import InputGradient, input_gradient, sizes
from runner.defenses.natural import Natural

IMAGES = torch.rand(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0])
BATCH = Batch(IMAGES, LABELS, rng.example_keys(0, range(4)), 0.0)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3)).double()


def expected_gradient(model):
    return (model(IMAGES).softmax(1) - F.one_hot(LABELS, 3)) @ model[1].weight


def test_the_gradient_of_a_linear_model_is_w_transposed_times_p_minus_y():
    model = linear()
    found = input_gradient(model, IMAGES, LABELS)
    torch.testing.assert_close(found.flatten(1), expected_gradient(model), rtol=0, atol=1e-14)
    torch.testing.assert_close(input_gradient(model, IMAGES, LABELS, "logit").flatten(1), model[1].weight[LABELS])


@pytest.mark.parametrize("squared", [True, False])
def test_the_loss_is_the_cross_entropy_plus_the_weighted_penalty(squared):
    model = linear()
    norms = expected_gradient(model).norm(dim=1)
    penalty = (norms.square() if squared else norms).mean()
    loss, scalars = InputGradient(0.7, squared).loss(model, BATCH)
    clean = F.cross_entropy(model(IMAGES), LABELS)
    torch.testing.assert_close(loss, clean + 0.7 * penalty, rtol=1e-13, atol=0)
    torch.testing.assert_close(scalars, {"clean_loss": clean.detach(), "penalty": penalty.detach()})


def test_weight_0_is_natural_training():
    torch.testing.assert_close(InputGradient(0.0).loss(mlp(), BATCH)[0], Natural().loss(mlp(), BATCH)[0])


def test_a_zero_gradient_has_a_finite_slope():
    vectors = torch.zeros(2, 1, 2, 2, requires_grad=True)
    sizes(vectors, squared=False).sum().backward()
    assert vectors.grad.abs().sum() == 0


def test_each_example_has_its_own_penalty_with_batch_normalisation_in_training_mode():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)
    model = nn.Sequential(*layers).double().train()
    alone = [
        InputGradient().penalty(model, Batch(IMAGES[i : i + 1], LABELS[i : i + 1], BATCH.keys[i : i + 1], 0.0))
        for i in range(4)
    ]
    torch.testing.assert_close(InputGradient().penalty(model, BATCH), torch.stack(alone).mean())
    assert all(module.training for module in model.modules())


def test_training_on_the_penalty_lowers_it():
    model, defense = mlp(), InputGradient(10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = defense.penalty(model, BATCH).item()
    for _ in range(30):
        optimizer.zero_grad()
        defense.loss(model, BATCH)[0].backward()
        optimizer.step()
    assert defense.penalty(model, BATCH).item() < 0.5 * before


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="defense.weight"):
        InputGradient(-1.0)
