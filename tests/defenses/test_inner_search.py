"""What the searching defenses share: their budget, the mix of two cross-entropies, and a model left as it was."""

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
from runner.defenses.inner_search import InnerSearch, frozen, label_loss, mixed_entropy

IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
LABELS = torch.arange(6) % 2
BATCH = Batch(IMAGES, LABELS, rng.example_keys(3, range(6)), 0.0)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def search(**options):
    values = {"epsilon": "8/255", "norm": "linf", "attack": partial(ProjectedGradient), "steps": 3}
    return InnerSearch(**{**values, **options})


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_adversary_of_the_label_finds_the_worst_case_of_a_linear_model(norm):
    model = linear()
    made = search(norm=norm, steps=20, epsilon=0.1, random_start=False)
    found = made.search(model, label_loss(model, LABELS), IMAGES, BATCH.keys)
    slope = (model[1].weight[1] - model[1].weight[0]) * torch.where(LABELS == 1, -1.0, 1.0)[:, None]
    away = slope.sign() if norm == "linf" else slope / slope.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, IMAGES + 0.1 * away.reshape(IMAGES.shape), rtol=0, atol=1e-4)
    assert (perturbation_norms(found, IMAGES, norm) <= 0.1).all()


def test_the_model_is_evaluated_and_frozen_during_the_search_and_as_it_was_after():
    model = nn.Sequential(nn.Dropout(0.5), *linear()).train()
    model[2].bias.requires_grad_(False)
    seen = []

    def objective(images, step):
        seen.append((model.training, [parameter.requires_grad for parameter in model.parameters()]))
        return model(images).sum(dim=1)

    search(steps=2).search(model, objective, IMAGES, BATCH.keys)
    assert seen == [(False, [False, False])] * 2
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False]


def test_a_loss_made_before_freezing_still_reaches_the_parameters():
    model = linear()
    loss = model(IMAGES).sum()
    with frozen(model):
        assert not model[1].weight.requires_grad
    loss.backward()
    assert model[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("weight", "logged"),
    [(0.0, {"adversarial_loss"}), (1.0, {"clean_loss"}), (0.25, {"clean_loss", "adversarial_loss"})],
)
def test_the_mix_of_both_cross_entropies(weight, logged):
    model, perturbed = linear(), IMAGES + 0.1
    loss, scalars = mixed_entropy(model, BATCH, perturbed, weight)
    clean, adversarial = (F.cross_entropy(model(images), LABELS) for images in (IMAGES, perturbed))
    torch.testing.assert_close(loss, weight * clean + (1 - weight) * adversarial)
    assert set(scalars) == logged


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"epsilon": -0.1}, "defense.epsilon"),
        ({"epsilon": "inf"}, "defense.epsilon"),
        ({"steps": 0}, "defense.steps"),
        ({"step_size": 0.0}, "defense.step_size"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        search(**options)
