"""CASO and CAFO: the closed form against autograd's Hessian, and the solution against its optimality conditions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner.attributions.cafo import Cafo, loss_gradients, soft
from runner.attributions.caso import Caso, curvature, top_eigenvalue
from runner.core.errors import ConfigError

PLAIN = {"samples": 1, "sigma": 0.0}


def close(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.fixture
def relu():
    torch.manual_seed(5)
    layers = (nn.Flatten(), nn.Linear(70, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4))
    model = nn.Sequential(*layers).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def exact(model, image, target):
    """Gradient (D,) and Hessian (D, D) of the cross-entropy at one image, by autograd."""

    def loss(flat):
        return F.cross_entropy(model(flat.reshape(1, *image.shape)), target.reshape(1))

    flat = image.flatten()
    return torch.autograd.functional.jacobian(loss, flat), torch.autograd.functional.hessian(loss, flat)


def test_the_closed_form_is_the_hessian_of_a_relu_network(relu, images, targets):
    found = curvature(relu, images.unsqueeze(1), targets, False).squeeze(1).detach()
    for row in range(5):
        gradient, hessian = exact(relu, images[row], targets[row])
        rows = found[row, 1:]
        close(found[row, 0], gradient, 1e-12)
        assert hessian.abs().max() > 1e-2
        close(rows.T @ rows, hessian, 1e-12)
        close(top_eigenvalue(rows.unsqueeze(0))[0], torch.linalg.eigvalsh(hessian)[-1], 1e-12)


def test_top_eigenvalue_of_tall_and_wide_factors():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 4, 9), (3, 9, 4)):
        factor = torch.randn(shape, dtype=torch.float64, generator=generator)
        close(top_eigenvalue(factor), torch.linalg.matrix_norm(factor, 2).square(), 1e-10)


def test_nothing_cancels_where_the_model_is_certain(relu, images, targets):
    sure = nn.Sequential(relu, nn.Linear(4, 4).double())
    with torch.no_grad():
        sure[1].weight.copy_(torch.eye(4))
        sure[1].bias.copy_(torch.tensor([40.0, 0.0, 0.0, 0.0]))
    zeros = torch.zeros(5, dtype=torch.int64)
    wanted = curvature(sure, images.unsqueeze(1), zeros, False).detach()
    steep = loss_gradients(sure, images.unsqueeze(1), zeros, False)
    assert 0 < wanted.abs().max() < 1e-6
    single, few = sure.float(), images.float().unsqueeze(1)
    rows = curvature(single, few, zeros, False).detach().double()
    assert ((rows - wanted).norm(dim=3) / wanted.norm(dim=3)).max() < 1e-4
    plain = loss_gradients(single, few, zeros, False).double()
    assert (plain - steep).norm() / steep.norm() < 1e-4


def test_soft_is_the_proximal_map_of_the_absolute_value():
    values, threshold = torch.tensor([[-3.0, -0.5, 0.0, 0.5, 3.0]]), torch.tensor([[1.0]])
    assert soft(values, threshold).tolist() == [[-2.0, 0.0, 0.0, 0.0, 2.0]]


def test_cafo_is_the_thresholded_gradient(relu, images, targets, keys):
    gradients = torch.stack([exact(relu, image, target)[0] for image, target in zip(images, targets, strict=True)])
    wanted = gradients.sign() * (gradients.abs() - 0.05).clamp_min(0) / 6
    found = Cafo(lambda1=0.05, lambda2=3, **PLAIN)(relu, images, targets, keys).flatten(1)
    close(found, wanted, 1e-12)
    assert 0.05 < (found == 0).double().mean() < 0.95
    share = Cafo(lambda1=0.25, lambda2=3, threshold="relative", **PLAIN)(relu, images, targets, keys).flatten(1)
    least = 0.25 * gradients.abs().amax(dim=1, keepdim=True)
    close(share, gradients.sign() * (gradients.abs() - least).clamp_min(0) / 6, 1e-12)


def test_cafo_averages_the_gradient_over_the_noise(relu, images, targets, keys):
    method = Cafo(lambda1=0, lambda2=0.5, samples=6)
    points = method.noise.points(images, keys, 0, 6)
    gradients = [exact(relu, points[0, s], targets[0])[0] for s in range(6)]
    close(method(relu, images, targets, keys)[0].flatten(), torch.stack(gradients).mean(dim=0), 1e-12)


def test_caso_without_curvature_is_cafo(linear, images, targets, keys):
    gradient = torch.randn(5, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = 0.3
    wanted = soft(gradient, torch.full((5, 1), weight, dtype=torch.float64)) / 20
    for steps in (1, 10):
        close(Caso(lambda1=weight, steps=steps).solve(gradient, gradient.new_zeros(5, 4, 70)), wanted, 1e-12)
    # a network whose logits agree everywhere has neither gradient nor Hessian
    with torch.no_grad():
        linear.weights.copy_(linear.weights[:, :1].expand(-1, 3))
    options = {"lambda1": 0.0, **PLAIN}
    close(Caso(**options)(linear, images, targets, keys), Cafo(**options)(linear, images, targets, keys), 1e-12)


@pytest.mark.parametrize(("lambda1", "lambda2"), [(0.02, 0.5), (0.1, 10.0), (0.0, 0.2)])
def test_the_solution_meets_the_optimality_conditions(lambda1, lambda2, relu, images, targets, keys):
    method = Caso(lambda1=lambda1, lambda2=lambda2, steps=3000, **PLAIN)
    found = method(relu, images, targets, keys).flatten(1)
    for row in range(5):
        gradient, hessian = exact(relu, images[row], targets[row])
        largest = torch.linalg.eigvalsh(hessian)[-1]
        slope = gradient + hessian @ found[row] - (2 * lambda2 + largest) * found[row]
        active = found[row] != 0
        close(slope[active], lambda1 * found[row][active].sign(), 1e-9)
        assert (slope[~active].abs() <= lambda1 + 1e-9).all()


def test_ten_steps_come_near_the_solution(relu, images, targets, keys):
    few = Caso(**PLAIN)(relu, images, targets, keys)
    many = Caso(steps=3000, **PLAIN)(relu, images, targets, keys)
    first_order = Cafo(**PLAIN)(relu, images, targets, keys)
    assert ((few - many).flatten(1).norm(dim=1) < 0.01 * many.flatten(1).norm(dim=1)).all()
    assert ((few - many).norm() < 0.2 * (first_order - many).norm()).all()


def test_gradient_and_hessian_are_means_over_the_noise(relu, images, targets, keys):
    method = Caso(lambda1=0, lambda2=2, samples=4, steps=3000)
    points = method.noise.points(images, keys, 0, 4)
    found = method(relu, images, targets, keys)
    for row in (0, 3):
        parts = [exact(relu, points[row, s], targets[row]) for s in range(4)]
        gradient, hessian = (torch.stack(items).mean(dim=0) for items in zip(*parts, strict=True))
        bend = 4 + torch.linalg.eigvalsh(hessian)[-1]
        wanted = torch.linalg.solve(bend * torch.eye(70, dtype=torch.float64) - hessian, gradient)
        close(found[row].flatten(), wanted, 1e-9)


def test_noise_is_what_makes_them_stochastic():
    assert Caso().stochastic
    assert not Cafo(**PLAIN).stochastic


@pytest.mark.parametrize("kind", [Cafo, Caso])
@pytest.mark.parametrize(
    ("key", "value"),
    [("lambda1", -1), ("lambda2", 0), ("lambda2", "much"), ("samples", 0), ("sigma", -0.1), ("chunk", 0)],
)
def test_wrong_values_of_both_are_refused_by_name(kind, key, value):
    with pytest.raises(ConfigError, match=rf"^attribution\.{key}="):
        kind(**{key: value})


@pytest.mark.parametrize(("key", "value"), [("steps", 0), ("learning_rate", 0), ("learning_rate", "x")])
def test_wrong_values_of_caso_are_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=rf"^attribution\.{key}="):
        Caso(**{key: value})


def test_the_step_is_short_enough_for_any_curvature():
    generator = torch.Generator().manual_seed(7)
    gradient = torch.randn(2, 30, dtype=torch.float64, generator=generator)
    factor = 15 * torch.randn(2, 4, 30, dtype=torch.float64, generator=generator)
    largest = top_eigenvalue(factor)
    assert largest.min() > 5000
    bend = (20 + largest).reshape(-1, 1, 1) * torch.eye(30, dtype=torch.float64)
    wanted = torch.linalg.solve(bend - factor.transpose(1, 2) @ factor, gradient)
    close(Caso(lambda1=0, steps=2000).solve(gradient, factor), wanted, 1e-4)
