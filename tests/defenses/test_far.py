"""AAT and AdvAAT: a quadratic model whose maps are known, the three modes, finite differences."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.attacks.engine import ProjectedGradient
from runner.attributions.integrated_gradients import IntegratedGradients
from runner.attributions.saliency import Saliency
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms
from runner.core.types import Batch
from runner.defenses.adversarial_training import AdversarialTraining
from runner.defenses.far import AttributionalTraining
from runner.defenses.maps import distance
from runner.defenses.regulariser import Regulariser
from runner.models.twin import softplus_twin

IMAGES = torch.rand(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
LABELS = torch.tensor([0, 1, 1, 1])
BATCH = Batch(IMAGES, LABELS, rng.example_keys(3, range(4)), 0.0)
MODES = ["aat", "advaat", "advaat_two"]


class Quadratic(nn.Module):
    """Two logits +-(x' D x / 2) with a diagonal D, so that the saliency of a class is +-D x."""

    def __init__(self, diagonal):
        super().__init__()
        self.diagonal = nn.Parameter(diagonal)

    def forward(self, images):
        value = 0.5 * (self.diagonal * images.flatten(1).square()).sum(dim=1)
        return torch.stack((value, -value), dim=1)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 2)).double()


def defense(**options):
    values = {"epsilon": 0.1, "norm": "linf", "attack": partial(ProjectedGradient), "steps": 3, "twin": softplus_twin}
    return AttributionalTraining(**{**values, "attribution": Saliency(), "beta": 5.0, **options})


def test_the_distances_by_hand():
    first = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 2, 2)
    turned = torch.tensor([4.0, 3.0, 2.0, 1.0]).reshape(1, 1, 2, 2)
    assert distance(first, 2 * first + 7, "pearson").item() == pytest.approx(0.0, abs=1e-6)
    assert distance(first, turned, "pearson").item() == pytest.approx(2.0, abs=1e-6)
    assert distance(first, turned, "cosine").item() == pytest.approx(1 - 20 / 30, abs=1e-6)
    assert distance(first, torch.zeros_like(first), "cosine").item() == 1.0


def test_the_search_finds_the_largest_angle_of_a_quadratic_model():
    """With D the identity the maps are the images: the farthest of a ball lies at the angle asin(epsilon / ||x||)."""
    model = Quadratic(torch.ones(16, dtype=torch.float64))
    made = defense(norm="l2", steps=200, step_size=0.05, dissimilarity="cosine", beta=None, epsilon=0.2)
    perturbed = made.perturb(model, BATCH)
    sine = 0.2 / IMAGES.flatten(1).norm(dim=1)
    torch.testing.assert_close(
        made.distances(model, BATCH, perturbed).detach(), 1 - (1 - sine.square()).sqrt(), rtol=1e-2, atol=0
    )
    assert (perturbation_norms(perturbed, IMAGES, "l2") <= 0.2).all()


@pytest.mark.parametrize("mode", MODES)
def test_it_is_zero_at_the_image_itself(mode):
    made = defense(epsilon=0.0, mode=mode, attribution=IntegratedGradients(steps=4))
    _, scalars = made.loss(mlp(), BATCH)
    torch.testing.assert_close(scalars["penalty"], torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-14)


def test_the_dissimilarity_rises_with_the_steps():
    values = [defense(steps=steps, step_size=0.25).penalty(mlp(), BATCH).item() for steps in (1, 4, 16)]
    assert values[0] < values[1] < values[2] * (1 + 1e-6)


def test_the_modes_differ_in_what_they_attack_and_train_on():
    model = mlp()
    clean = F.cross_entropy(model(IMAGES), LABELS).detach()
    parts = {mode: defense(mode=mode, weight=2.0, steps=8).loss(model, BATCH) for mode in MODES}
    torch.testing.assert_close(parts["aat"][1]["clean_loss"], clean)
    for mode, name in zip(MODES, ("clean_loss", "adversarial_loss", "adversarial_loss"), strict=True):
        loss, scalars = parts[mode]
        torch.testing.assert_close(loss.detach(), scalars[name] + 2 * scalars["penalty"])
    torch.testing.assert_close(parts["aat"][1]["penalty"], parts["advaat_two"][1]["penalty"])
    joint = {mode: parts[mode][1] for mode in ("advaat", "advaat_two")}
    assert clean < joint["advaat"]["adversarial_loss"] <= joint["advaat_two"]["adversarial_loss"]
    assert joint["advaat"]["penalty"] < joint["advaat_two"]["penalty"]


def test_the_search_of_advaat_goes_for_the_map_as_its_weight_grows():
    model, parts = mlp(), []
    for weight in (0.0, 100.0):
        made = defense(mode="advaat", weight=weight, steps=12, step_size=0.25)
        perturbed = made.perturb(model, BATCH)
        entropy = F.cross_entropy(model(perturbed), LABELS).item()
        parts.append((entropy, made.distances(model, BATCH, perturbed).mean().item()))
    assert parts[1][0] < parts[0][0]
    assert parts[1][1] > parts[0][1] * 1.1


def test_advaat_of_weight_zero_is_adversarial_training():
    model = mlp()
    madry = AdversarialTraining(0.1, "linf", partial(ProjectedGradient), steps=3)
    found = defense(weight=0.0, mode="advaat").loss(model, BATCH)[0]
    torch.testing.assert_close(found, madry.loss(model, BATCH)[0])


def test_training_on_the_penalty_lowers_it():
    model, made = mlp(), defense(weight=10.0, epsilon=0.2)
    assert isinstance(made, Regulariser)
    before = made.penalty(model, BATCH).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(30):
        loss, _ = made.loss(model, BATCH)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert made.penalty(model, BATCH).item() < 0.5 * before


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"weight": -1.0}, "defense.weight"),
        ({"beta": -1.0}, "defense.beta"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        defense(**options)
