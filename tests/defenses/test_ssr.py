"""The top eigenvalue of the input Hessian against autograd, power iteration and confident predictions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.ssr import SmoothSurface, top_eigenvalue


def mlp(seed=0, classes=5):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, classes)).double()


IMAGES = torch.rand(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def hessian(model, image, label=0):
    matrix = torch.autograd.functional.hessian(lambda x: F.cross_entropy(model(x[None]), torch.tensor([label])), image)
    return matrix.reshape(image.numel(), image.numel())


@pytest.mark.parametrize("label", [0, 3])
def test_it_equals_the_autograd_hessian_of_a_relu_network_whatever_the_label(label):
    model = mlp()
    expected = torch.stack([torch.linalg.eigvalsh(hessian(model, image, label))[-1] for image in IMAGES])
    torch.testing.assert_close(top_eigenvalue(model, IMAGES).detach(), expected, rtol=0, atol=1e-10)


def test_it_is_the_largest_variance_of_the_logit_slope():
    model = mlp()
    values, vectors = torch.linalg.eigh(hessian(model, IMAGES[0]))
    slopes = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], IMAGES[0]).flatten(1) @ vectors[:, -1]
    p = model(IMAGES[:1]).softmax(1)[0]
    variance = (p * slopes.square()).sum() - (p * slopes).sum().square()
    torch.testing.assert_close(top_eigenvalue(model, IMAGES[:1])[0], variance)
    torch.testing.assert_close(values[-1], variance)


def test_at_a_logit_gap_of_40_value_and_gradient_are_finite_in_float32():
    for seed in range(20):
        model = mlp(seed).float()
        with torch.no_grad():
            model[3].bias[0] += 40.0
        value = top_eigenvalue(model, IMAGES.float())
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
        double = top_eigenvalue(mlp_with(seed, 40.0), IMAGES)
        torch.testing.assert_close(value.detach().double(), double.detach(), rtol=1e-4, atol=1e-24)


@pytest.mark.parametrize("method", ["closed_form", "power"])
def test_a_diverged_network_gives_a_loss_that_is_not_finite(method):
    model = mlp()
    with torch.no_grad():
        model[1].weight.fill_(float("inf"))
    loss, _ = SmoothSurface(method=method).loss(model, batch())
    assert not torch.isfinite(loss)


def mlp_with(seed, bias):
    model = mlp(seed).float().double()
    with torch.no_grad():
        model[3].bias[0] += bias
    return model


def test_averaging_channels_first_is_the_hessian_of_a_grey_shift():
    model = mlp()
    matrix = hessian(model, IMAGES[0]).reshape(3, 4, 3, 4)
    grey = matrix.mean(dim=(0, 2))
    torch.testing.assert_close(top_eigenvalue(model, IMAGES[:1], "mean")[0], torch.linalg.eigvalsh(grey)[-1])


def batch(progress=0.5):
    return Batch(IMAGES, torch.tensor([0, 1, 2, 3]), rng.example_keys(0, range(4)), progress)


@pytest.mark.parametrize(("warm_up", "growth"), [(0.0, 1.0), (1.0, 0.5), (0.25, 1.0)])
def test_the_loss_is_the_weighted_sum(warm_up, growth):
    model = mlp()
    loss, scalars = SmoothSurface(alpha=0.3, s=7.0, warm_up=warm_up).loss(model, batch())
    clean = F.cross_entropy(model(IMAGES), batch().labels)
    penalty = top_eigenvalue(model, IMAGES).mean()
    torch.testing.assert_close(loss, 0.7 * clean + 0.3 * 7.0 * growth * penalty)
    torch.testing.assert_close(scalars["penalty"], penalty.detach())


def test_the_penalty_uses_the_evaluation_statistics_of_batch_normalisation():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4, momentum=0.0), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)
    model = nn.Sequential(*layers).double()
    alone = torch.cat([top_eigenvalue(model.eval(), image[None]) for image in IMAGES]).detach()
    _, scalars = SmoothSurface().loss(model.train(), batch_of_three())
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(scalars["penalty"], alone.mean())


def batch_of_three():
    return Batch(IMAGES, torch.tensor([0, 1, 2, 0]), rng.example_keys(0, range(4)), 0.0)


def test_training_on_the_penalty_lowers_it():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = top_eigenvalue(model, IMAGES).mean().item()
    for _ in range(30):
        loss, _ = SmoothSurface(alpha=0.9, s=10.0).loss(model, batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert top_eigenvalue(model, IMAGES).mean().item() < 0.5 * before


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"alpha": 1.0}, "defense.alpha"),
        ({"s": -1.0}, "defense.s"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        SmoothSurface(**options)
