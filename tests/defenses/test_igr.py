"""IGR on a linear model, whose maps and worst case are known, and by finite differences elsewhere."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.attacks.engine import ProjectedGradient
from runner.attributions.integrated_gradients import IntegratedGradients
from runner.attributions.smoothgrad import SmoothGrad
from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.adversarial_training import AdversarialTraining
from runner.defenses.igr import IntegratedGradientRegulariser
from runner.defenses.regulariser import Regulariser
from runner.models.twin import softplus_twin

IMAGES = torch.rand(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
LABELS = torch.tensor([0, 1, 1, 1])
BATCH = Batch(IMAGES, LABELS, rng.example_keys(3, range(4)), 0.0)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 2)).double()


def defense(**options):
    values = {"epsilon": 0.1, "norm": "linf", "attack": partial(ProjectedGradient), "steps": 3, "twin": softplus_twin}
    return IntegratedGradientRegulariser(**{**values, "attribution": IntegratedGradients(steps=4), **options})


@pytest.mark.parametrize("dissimilarity", ["cosine", "pearson"])
def test_on_a_linear_model_it_is_the_angle_of_x_w_to_the_worst_case(dissimilarity):
    model = linear()
    weights = model[1].weight.detach()
    away = (weights[1] - weights[0]).sign() * torch.where(LABELS == 1, -1.0, 1.0)[:, None]
    start = IMAGES.flatten(1) * weights[LABELS]
    end = (IMAGES.flatten(1) + 0.1 * away) * weights[LABELS]
    if dissimilarity == "pearson":
        start, end = (maps - maps.mean(dim=1, keepdim=True) for maps in (start, end))
    expected = (1 - F.cosine_similarity(start, end, dim=1)).mean()
    made = defense(random_start=False, step_size=1.0, steps=1, dissimilarity=dissimilarity)
    penalty = made.penalty(model, BATCH)
    torch.testing.assert_close(penalty.detach(), expected, rtol=1e-6, atol=1e-9)
    assert expected > 1e-4


@pytest.mark.parametrize("search_on", ["label", "map"])
def test_it_is_zero_at_the_image_itself(search_on):
    made = defense(epsilon=0.0, search_on=search_on, beta=10.0 if search_on == "map" else None)
    _, scalars = made.loss(mlp(), BATCH)
    torch.testing.assert_close(scalars["penalty"], torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-14)


def test_both_maps_of_a_stochastic_attribution_share_their_noise():
    penalty = defense(epsilon=0.0, attribution=SmoothGrad(samples=3)).penalty(mlp(), BATCH)
    assert penalty.item() == pytest.approx(0.0, abs=1e-12)


def test_searching_on_the_map_raises_the_penalty_with_steps_and_beyond_the_label():
    model, values = mlp(), []
    for steps in (1, 12):
        made = defense(steps=steps, step_size=0.25, search_on="map", beta=10.0)
        values.append(made.penalty(model, BATCH).item())
    assert values[0] < values[1]
    assert defense(steps=12, step_size=0.25, beta=10.0).penalty(model, BATCH).item() < values[1]


def test_parts_and_weights():
    model, made = mlp(), defense(weight=2.0, clean_weight=0.25)
    loss, scalars = made.loss(model, BATCH)
    torch.testing.assert_close(
        loss.detach(), 0.25 * scalars["clean_loss"] + 0.75 * scalars["adversarial_loss"] + 2 * scalars["penalty"]
    )
    madry = AdversarialTraining(0.1, "linf", partial(ProjectedGradient), steps=3)
    torch.testing.assert_close(defense(weight=0.0).loss(model, BATCH)[0], madry.loss(model, BATCH)[0])
    assert isinstance(made, Regulariser)


@pytest.mark.parametrize("attribution", [IntegratedGradients(steps=4), SmoothGrad(samples=3)])
def test_the_loss_does_not_depend_on_the_batch(attribution):
    model, made = mlp(), defense(attribution=attribution)
    alone = [
        made.loss(model, Batch(IMAGES[i : i + 1], LABELS[i : i + 1], BATCH.keys[i : i + 1], 0.0))[0] for i in range(4)
    ]
    torch.testing.assert_close(made.loss(model, BATCH)[0], torch.stack(alone).mean())


@pytest.mark.parametrize("beta", [None, 5.0])
def test_chunks_of_the_attribution_do_not_change_the_gradient_in_training_mode(beta):
    gradients = []
    for chunk in (None, 3):
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 2)
        model = nn.Sequential(*layers).double().train()
        before = model[1].running_mean.clone()
        made = defense(attribution=IntegratedGradients(steps=4, chunk=chunk), beta=beta)
        made.penalty(model, BATCH).backward()
        assert torch.equal(model[1].running_mean, before)
        assert all(module.training for module in model.modules())
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_training_on_the_penalty_lowers_it():
    model, made = mlp(), defense(weight=20.0, epsilon=0.2, clean_weight=1.0)
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
        ({"clean_weight": 1.5}, "defense.clean_weight"),
        ({"beta": 0.0}, "defense.beta"),
        ({"epsilon": -1}, "defense.epsilon"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        defense(**options)
