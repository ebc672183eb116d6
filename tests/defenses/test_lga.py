"""Local gradient alignment: its two distances, and what scaling the logits does to each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.norms import perturbation_norms
from runner.core.types import Batch
from runner.defenses.lga import LocalGradientAlignment
from runner.defenses.natural import Natural

IMAGES = torch.rand(4, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0])
BATCH = Batch(IMAGES, LABELS, rng.example_keys(0, range(4)), 0.0)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 20), nn.Softplus(5.0), nn.Linear(20, 3)).double()


def logit_gradient(model, image, label):
    return torch.autograd.functional.jacobian(lambda x: model(x[None])[0, label], image).flatten()


def gradients(model, images):
    return torch.stack([logit_gradient(model, *pair) for pair in zip(images, LABELS, strict=True)])


def defense(**options):
    return LocalGradientAlignment(**{"epsilon": 0.3, "l2_weight": 0.2, "cosine_weight": 3.0} | options)


def test_the_distances_are_those_of_the_gradients_of_the_labels_logit():
    model = mlp()
    source, near = gradients(model, IMAGES), gradients(model, defense().neighbours(BATCH))
    cosine = (source * near).sum(1) / (source.norm(dim=1) * near.norm(dim=1))
    l2, turn = (source - near).square().sum(1).mean(), ((1 - cosine) / 2).mean()
    found = defense().misalignment(model, BATCH)
    torch.testing.assert_close(found, (l2, turn), rtol=1e-10, atol=0)
    loss, scalars = defense().loss(model, BATCH)
    clean = F.cross_entropy(model(IMAGES), LABELS).detach()
    torch.testing.assert_close(loss.detach(), clean + 0.2 * l2 + 3 * turn)
    parts = {"clean_loss": clean, "penalty": 0.2 * l2 + 3 * turn, "l2_penalty": l2, "cosine_penalty": turn}
    torch.testing.assert_close(scalars, parts)
    torch.testing.assert_close(defense().penalty(model, BATCH).detach(), parts["penalty"])


def test_scaling_the_logits_leaves_the_cosine_alone_and_squares_in_l2():
    model = mlp()
    l2, turn = defense().misalignment(model, BATCH)
    with torch.no_grad():
        model[3].weight *= 7
        model[3].bias *= 7
    scaled_l2, scaled_turn = defense().misalignment(model, BATCH)
    torch.testing.assert_close(scaled_turn, turn, rtol=1e-10, atol=0)
    torch.testing.assert_close(scaled_l2, 49 * l2)
    assert turn > 1e-4


def test_a_linear_model_is_aligned_everywhere():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()
    torch.testing.assert_close(defense().penalty(model, BATCH).item(), 0.0, rtol=0, atol=1e-15)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_neighbours_fill_the_ball_and_depend_on_the_key_alone(norm):
    count = 500
    many = Batch(IMAGES[:1].expand(count, 1, 2, 3), LABELS[:1].expand(count), rng.example_keys(2, range(count)), 0.0)
    near = defense(norm=norm, epsilon="4/255").neighbours(many)
    norms = perturbation_norms(near, many.images, norm) / (4 / 255)
    assert norms.max() <= 1 + 1e-6
    assert norms.mean().item() == pytest.approx(6 / 7, abs=0.03)  # radius of a uniform point in a ball of 6 dimensions
    alone = defense(norm=norm, epsilon="4/255").neighbours(Batch(many.images[7:8], LABELS[:1], many.keys[7:8], 0.0))
    torch.testing.assert_close(near[7:8], alone, rtol=0, atol=0)


def test_epsilon_0_and_weights_0_are_natural_training():
    natural = Natural().loss(mlp(), BATCH)[0]
    torch.testing.assert_close(defense(epsilon=0).loss(mlp(), BATCH)[0], natural)
    torch.testing.assert_close(defense(l2_weight=0.0, cosine_weight=0.0).loss(mlp(), BATCH)[0], natural)


def slope(model, value, step=1e-6):
    """Central difference of `value()` in one weight."""
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            model[1].weight[2, 3] += sign * step
        values.append(value().item())
        with torch.no_grad():
            model[1].weight[2, 3] -= sign * step
    return (values[0] - values[1]) / (2 * step)


def test_a_detached_source_is_a_fixed_target():
    model = mlp()
    source = gradients(model, IMAGES)

    def frozen():
        near = gradients(model, defense().neighbours(BATCH))
        turn = (1 - F.cosine_similarity(source, near)) / 2
        return (0.2 * (source - near).square().sum(1) + 3 * turn).mean()

    defense().penalty(model, BATCH).backward()
    assert model[1].weight.grad[2, 3].item() == pytest.approx(slope(model, frozen), rel=1e-6)


def test_each_example_has_its_own_penalty_with_batch_normalisation_in_training_mode():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)
    model = nn.Sequential(*layers).double().train()
    alone = [
        defense().penalty(model, Batch(IMAGES[i : i + 1], LABELS[i : i + 1], BATCH.keys[i : i + 1], 0.0))
        for i in range(4)
    ]
    torch.testing.assert_close(defense().penalty(model, BATCH), torch.stack(alone).mean())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("detach", [True, False])
def test_training_on_the_penalty_lowers_it(detach):
    model, trained = mlp(), defense(l2_weight=10.0, cosine_weight=10.0, detach_source=detach)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = trained.penalty(model, BATCH).item()
    for _ in range(30):
        optimizer.zero_grad()
        trained.penalty(model, BATCH).backward()
        optimizer.step()
    assert trained.penalty(model, BATCH).item() < 0.5 * before


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"epsilon": -0.1}, "defense.epsilon"),
        ({"l2_weight": -1.0}, "defense.l2_weight"),
        ({"cosine_weight": -1.0}, "defense.cosine_weight"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        defense(**options)
