"""Power iteration on the input Hessian against the closed form, autograd and confident predictions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses import ssr
from runner.defenses.power_iteration import top_eigenvalue_by_iteration
from runner.defenses.ssr import SmoothSurface, top_eigenvalue

IMAGES = torch.rand(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def mlp(seed=0, classes=5, gap=0.0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, classes))
    with torch.no_grad():
        model[3].bias[0] += gap
    return model.double()


def random_start(images):
    return rng.normal(rng.example_keys(3, range(len(images))), images.shape[1:]).to(images)


def hessian(model, image):
    matrix = torch.autograd.functional.hessian(lambda x: F.cross_entropy(model(x[None]), torch.tensor([0])), image)
    return matrix.reshape(image.numel(), image.numel())


def test_with_enough_rounds_it_equals_the_autograd_hessian_of_a_relu_network():
    model = mlp()
    expected = torch.stack([torch.linalg.eigvalsh(hessian(model, image))[-1] for image in IMAGES])
    found = top_eigenvalue_by_iteration(model, IMAGES, rounds=300)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-8, atol=0)


def test_one_round_is_one_product_with_the_hessian():
    model, start = mlp(), random_start(IMAGES)
    for rounds in (0, 1, 3):
        found = top_eigenvalue_by_iteration(model, IMAGES, rounds, start=start)
        for image, vector, value in zip(IMAGES, start.flatten(1), found, strict=True):
            matrix = hessian(model, image)
            turned = torch.linalg.matrix_power(matrix / matrix.norm(), rounds) @ vector
            torch.testing.assert_close(turned @ matrix @ turned / turned.square().sum(), value)


def test_the_start_is_the_input_gradient():
    model = mlp(gap=3.0)
    leaf = IMAGES.clone().requires_grad_(True)
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1), reduction="sum"), leaf)
    given = top_eigenvalue_by_iteration(model, IMAGES, 0, start=gradient)
    torch.testing.assert_close(top_eigenvalue_by_iteration(model, IMAGES, 0), given)


def test_at_confident_predictions_the_input_gradient_is_the_top_eigenvector():
    model = mlp(classes=2, gap=15.0)
    exact = top_eigenvalue(model, IMAGES)
    torch.testing.assert_close(top_eigenvalue_by_iteration(model, IMAGES, 0), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("channel_reduce", ["none", "mean"])
def test_it_agrees_with_the_closed_form_and_never_exceeds_it(classes, channel_reduce):
    model = mlp(classes=classes)
    exact = top_eigenvalue(model, IMAGES, channel_reduce)
    values = [top_eigenvalue_by_iteration(model, IMAGES, rounds, channel_reduce) for rounds in (0, 2, 5, 200)]
    for before, after in zip(values, [*values[1:], exact], strict=True):
        assert (before <= after * (1 + 1e-12)).all()
    torch.testing.assert_close(values[-1], exact, rtol=1e-4, atol=0)


def gradients(model, value):
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(value.sum(), list(model.parameters())[:-1])])


def test_its_gradient_in_the_parameters_is_that_of_the_closed_form():
    model = mlp()
    exact = gradients(model, top_eigenvalue(model, IMAGES))
    found = gradients(model, top_eigenvalue_by_iteration(model, IMAGES, 300))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-6 * float(exact.abs().max()))


def test_the_direction_is_held_fixed():
    model, start = mlp(), random_start(IMAGES)
    weight, step = model[1].weight, 1e-6
    top_eigenvalue_by_iteration(model, IMAGES, 0, start=start).sum().backward()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[2, 3] += sign * step
            values.append(top_eigenvalue_by_iteration(model, IMAGES, 0, start=start).sum().item())
            weight[2, 3] -= sign * step
    assert weight.grad[2, 3].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("gap", [10.0, 20.0, 40.0, 80.0])
def test_at_large_logit_gaps_float32_agrees_with_float64(gap):
    for seed in range(5):
        model = mlp(seed).float()
        with torch.no_grad():
            model[3].bias[0] += gap
        value = top_eigenvalue_by_iteration(model, IMAGES.float(), 3)
        value.sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
        double = top_eigenvalue_by_iteration(model.double(), IMAGES.float().double(), 3)
        assert (double > 0).all()
        torch.testing.assert_close(value.detach().double(), double.detach(), rtol=1e-3, atol=1e-37)


def test_where_all_other_probabilities_underflow_value_and_gradient_are_zero():
    model = mlp(gap=200.0).float()
    value = top_eigenvalue_by_iteration(model, IMAGES.float(), 2)
    value.sum().backward()
    assert not value.any()
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_it_takes_the_softplus_networks_curvature_of_the_loss_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Softplus(2.0), nn.Flatten(), nn.Linear(4, 5)).double()
    exact = top_eigenvalue(model, IMAGES)
    torch.testing.assert_close(top_eigenvalue_by_iteration(model, IMAGES, 200), exact, rtol=1e-4, atol=0)


def batch():
    return Batch(IMAGES, torch.tensor([0, 1, 2, 3]), rng.example_keys(0, range(4)), 0.5)


@pytest.mark.parametrize(
    ("method", "classes", "iterated"),
    [("auto", 20, False), ("auto", 21, True), ("closed_form", 21, False), ("power", 5, True)],
)
def test_the_method_follows_the_number_of_classes_unless_given(monkeypatch, method, classes, iterated):
    called = []
    original = ssr.top_eigenvalue_by_iteration
    monkeypatch.setattr(ssr, "top_eigenvalue_by_iteration", lambda *args: called.append(args[2]) or original(*args))
    SmoothSurface(method=method, rounds=3).penalty(mlp(classes=classes), batch())
    assert called == ([3] if iterated else [])


def test_both_methods_give_the_same_loss_with_enough_rounds():
    model = mlp()
    closed, iterated = (SmoothSurface(method=method, rounds=300) for method in ("closed_form", "power"))
    torch.testing.assert_close(closed.loss(model, batch())[0], iterated.loss(model, batch())[0], rtol=1e-6, atol=0)


def test_training_on_the_iterated_penalty_lowers_the_exact_one():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = top_eigenvalue(model, IMAGES).mean().item()
    for _ in range(30):
        loss, _ = SmoothSurface(alpha=0.9, s=10.0, method="power", rounds=1).loss(model, batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert top_eigenvalue(model, IMAGES).mean().item() < 0.5 * before


@pytest.mark.parametrize("options", [{"rounds": -1}])
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(ConfigError, match=f"defense.{next(iter(options))}"):
        SmoothSurface(**options)
