"""ART on a two-class linear model worked out by hand, the mining against loops, and what the search may touch."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.attacks.engine import ProjectedGradient
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.art import AttributionalRobustnessTraining, class_gradients
from runner.defenses.regulariser import Regulariser
from runner.models.mlp import mlp as classifier
from runner.models.twin import softplus_twin

IMAGES = torch.rand(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
LABELS = torch.tensor([0, 1, 2, 0])
BATCH = Batch(IMAGES, LABELS, rng.example_keys(3, range(4)), 0.0)


def mlp(seed=0):
    torch.manual_seed(seed)
    return classifier(shape=(1, 4, 4), classes=3, widths=(24,), mean=(0.4,), std=(0.2,)).double()


def by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
        model[1].bias.zero_()
    return model, Batch(
        torch.tensor([[[[0.3, 0.4]]]], dtype=torch.float64), torch.tensor([0]), rng.example_keys(0, [0]), 0.0
    )


def defense(**options):
    values = {"epsilon": 0.1, "norm": "linf", "attack": partial(ProjectedGradient), "steps": 3, "step_size": 0.625}
    return AttributionalRobustnessTraining(**{**values, "twin": softplus_twin, "k_top": 16, "beta": 10.0, **options})


def test_the_loss_of_a_linear_model_by_hand():
    """x = (.3, .4), gradients (1, 0) and (0, 1), label 0: cosines .6 and .8, so L_attr = log(1 + e^.2); logits are x."""
    model, batch = by_hand()
    loss, scalars = defense(epsilon=0.0, k_top=2, center=False, weight=0.5).loss(model, batch)
    assert scalars["penalty"].item() == pytest.approx(math.log1p(math.exp(0.2)), rel=1e-9)
    assert scalars["adversarial_loss"].item() == pytest.approx(math.log1p(math.exp(0.1)), rel=1e-9)
    assert loss.item() == pytest.approx(math.log1p(math.exp(0.1)) + 0.5 * math.log1p(math.exp(0.2)), rel=1e-9)


def test_the_search_step_of_a_linear_model_by_hand():
    """cos(x, (0, 1)) - cos(x, (1, 0)) = (b - a) / ||x|| rises when a falls and b rises."""
    model, batch = by_hand()
    made = defense(k_top=2, center=False, random_start=False, steps=1, step_size=1.0)
    expected = torch.tensor([[[[0.2, 0.5]]]], dtype=torch.float64)
    torch.testing.assert_close(made.perturb(model, batch), expected, rtol=0, atol=1e-9)
    cosines = [[0.6, 0.8], [0.2 / math.hypot(0.2, 0.5), 0.5 / math.hypot(0.2, 0.5)]]
    triplets = [math.log1p(math.exp(other - true)) for true, other in cosines]
    assert made.triplets(model, batch, expected).tolist()[0] == pytest.approx(triplets, rel=1e-9)


def test_mining_takes_the_harder_copy_of_the_same_image():
    model, other = mlp(), IMAGES.flip(2)
    network = softplus_twin(model.eval(), 10.0)
    copies = [class_gradients(network, images.clone().requires_grad_(), LABELS) for images in (IMAGES, other)]
    expected = torch.zeros(4, 2, dtype=torch.float64)
    for anchor, images in enumerate((IMAGES, other)):
        x = ((images - 0.4) / 0.2).flatten(1)
        far = [[1 - F.cosine_similarity(x, g.flatten(1), dim=1) for g in copy] for copy in copies]
        hardest_true = torch.maximum(far[0][0], far[1][0])
        hardest_other = torch.minimum(far[0][1], far[1][1])
        expected[:, anchor] = F.softplus(-(hardest_other - hardest_true)).detach()
    found = defense().triplets(model, BATCH, other)
    torch.testing.assert_close(found.detach(), expected)
    assert (found[:, 0] - found[:, 1]).abs().min() > 1e-6


def test_the_gradients_are_those_of_the_label_and_of_the_highest_other_logit():
    model = mlp()
    leaf = IMAGES.clone().requires_grad_()
    true, other = class_gradients(model, leaf, LABELS)
    for i, label in enumerate(LABELS.tolist()):
        logits = model(leaf)[i]
        rival = max((k for k in range(3) if k != label), key=lambda k: logits[k].item())
        for found, k in ((true, label), (other, rival)):
            (expected,) = torch.autograd.grad(logits[k], leaf, retain_graph=True)
            torch.testing.assert_close(found[i].detach(), expected[i])


@pytest.mark.parametrize(("k_top", "count"), [(0.3255, 5), (3, 3), (16, 16)])
def test_on_a_linear_model_the_search_moves_the_top_coordinates_alone(k_top, count):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    made = defense(k_top=k_top, center=False, random_start=False)
    moved = (made.perturb(model, BATCH) != IMAGES).flatten(1)
    top = model[1].weight[LABELS].abs().topk(count, dim=1).indices
    assert moved.sum().item() <= 4 * count
    assert not (moved & ~torch.zeros_like(moved).scatter(1, top, True)).any()
    assert moved.any(dim=1).all()


def test_the_coordinates_are_chosen_once_at_the_first_point(monkeypatch):
    chosen = []

    def top_coordinates(self, model, images, labels):
        chosen.append(images.detach().clone())
        return torch.arange(4).expand(len(images), 4)

    monkeypatch.setattr(AttributionalRobustnessTraining, "top_coordinates", top_coordinates)
    defense(random_start=False).perturb(mlp(), BATCH)
    assert len(chosen) == 1
    assert torch.equal(chosen[0], IMAGES)


def test_a_tiny_share_is_one_coordinate():
    assert defense(k_top=0.001).top_coordinates(mlp(), IMAGES, LABELS).shape == (4, 1)


def test_the_attribution_loss_rises_with_the_steps():
    values = [defense(steps=steps, step_size=0.25).penalty(mlp(), BATCH).item() for steps in (1, 4, 16)]
    assert values[0] < values[1] < values[2] * (1 + 1e-6)


def test_the_twin_is_in_evaluation_mode_and_the_model_in_its_own():
    model = mlp().train()
    seen = []

    def twin(given, beta):
        seen.append((given.training, beta))
        return softplus_twin(given, beta)

    defense(twin=twin, beta=50.0).loss(model, BATCH)
    assert set(seen) == {(False, 50.0)}
    assert all(module.training for module in model.modules())


def test_training_on_the_penalty_lowers_it():
    model, made = mlp(), defense(weight=20.0)
    assert isinstance(made, Regulariser)
    before = made.penalty(model, BATCH).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(30):
        loss, _ = made.loss(model, BATCH)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert made.penalty(model, BATCH).item() < before - 0.1


def test_a_model_that_does_not_normalise_is_refused():
    with pytest.raises(ConfigError, match="defense.center"):
        defense(k_top=2).loss(*by_hand())


def test_more_coordinates_than_the_image_has_are_refused():
    with pytest.raises(ConfigError, match="defense.k_top=17"):
        defense(k_top=17).loss(mlp(), BATCH)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"k_top": 0}, "defense.k_top"),
        ({"k_top": 2.5}, "defense.k_top"),
        ({"beta": 0.0}, "defense.beta"),
        ({"weight": -0.1}, "defense.weight"),
        ({"step_size": -1.0}, "defense.step_size"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        defense(**options)
