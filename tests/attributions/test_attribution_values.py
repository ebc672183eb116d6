"""Maps on models whose maps are known exactly, and the values of Captum where it has the method."""

from typing import get_args

import captum.attr
import pytest
import torch

from runner.attributions.integrated_gradients import IntegratedGradients, Rule, quadrature
from runner.attributions.saliency import Saliency
from runner.attributions.smoothgrad import SmoothGrad
from runner.attributions.uniform_gradient import UniformGradient


def close(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def test_every_map_of_a_linear_model_is_its_weight(linear, images, targets, keys):
    weight = linear.weights.detach().T[targets].reshape_as(images)
    for method in (
        Saliency(),
        IntegratedGradients(multiply_by_input=False, steps=7),
        SmoothGrad(samples=5),
        UniformGradient(samples=5, multiply_by_input=False),
        UniformGradient(samples=5, multiply_by_input=False, shape="ball"),
    ):
        close(method(linear, images, targets, keys), weight)
    close(Saliency(multiply_by_input=True)(linear, images, targets, keys), images * weight)
    close(UniformGradient(samples=5)(linear, images, targets, keys), images * weight)
    close(SmoothGrad(samples=5, multiply_by_input=True)(linear, images, targets, keys), images * weight)
    close(IntegratedGradients(baseline=0.5)(linear, images, targets, keys), (images - 0.5) * weight)


def exact_gradient(quadratic, points, targets):
    gradients = torch.einsum("npq,nq->np", quadratic.matrices[targets], points.flatten(1)) + quadratic.slopes[targets]
    return gradients.detach().reshape_as(points)


def test_saliency_of_a_quadratic(quadratic, images, targets, keys):
    close(Saliency()(quadratic, images, targets, keys), exact_gradient(quadratic, images, targets))


@pytest.mark.parametrize("method", [SmoothGrad(samples=9), UniformGradient(samples=9, multiply_by_input=False)])
def test_noisy_maps_of_a_quadratic_are_the_gradient_at_the_mean_point(method, quadratic, images, targets, keys):
    mean_point = method.points(images, keys, 0, 9).mean(dim=1)
    close(method(quadratic, images, targets, keys), exact_gradient(quadratic, mean_point, targets))


def test_smoothgrad_of_a_quadratic_is_unbiased(quadratic, images, targets, keys):
    method = SmoothGrad(samples=4000, sigma=0.2, chunk=4000)
    error = method(quadratic, images, targets, keys) - Saliency()(quadratic, images, targets, keys)
    rows = quadratic.matrices.detach()[targets].norm(dim=2)
    standard_error = 0.2 * rows.reshape_as(images) / 4000**0.5
    scores = error / standard_error
    assert scores.abs().max() < 5
    assert 0.8 < scores.std() < 1.2


@pytest.mark.parametrize("rule", ["gausslegendre", "riemann_middle"])
def test_integrated_gradients_is_complete_on_a_quadratic(rule, quadratic, images, targets, keys):
    method = IntegratedGradients(steps=50, rule=rule, baseline=[0.25, "1/3"])
    baseline = torch.tensor([0.25, 1 / 3], dtype=torch.float64).reshape(1, 2, 1, 1).expand_as(images)
    rise = (quadratic(images) - quadratic(baseline)).gather(1, targets.unsqueeze(1)).squeeze(1)
    close(method(quadratic, images, targets, keys).sum(dim=(1, 2, 3)), rise.detach(), 1e-9)


def test_integrated_gradients_uses_the_points_of_the_released_code(quadratic, images, targets, keys):
    factor = sum((index + 1) / 50 for index in range(50)) / 50
    expected = images * exact_gradient(quadratic, factor * images, targets)
    close(IntegratedGradients()(quadratic, images, targets, keys), expected)


@pytest.mark.parametrize("rule", get_args(Rule))
def test_quadrature_has_the_points_and_weights_of_captum(rule):
    from captum.attr._utils.approximation_methods import approximation_parameters

    sizes, alphas = approximation_parameters(rule)
    points, weights = quadrature(rule, 13)
    assert points == pytest.approx(alphas(13), abs=1e-6)
    assert weights == pytest.approx(sizes(13), abs=1e-6)


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_saliency_and_input_x_gradient_agree_with_captum(output, cnn, images, targets, keys):
    forward = cnn if output == "logit" else lambda inputs: cnn(inputs).softmax(1)
    oracle = captum.attr.Saliency(forward).attribute(images.clone().requires_grad_(), targets, abs=False)
    close(Saliency(output=output)(cnn, images, targets, keys), oracle)
    oracle = captum.attr.InputXGradient(forward).attribute(images.clone().requires_grad_(), targets).detach()
    close(Saliency(output=output, multiply_by_input=True)(cnn, images, targets, keys), oracle)


@pytest.mark.parametrize("rule", get_args(Rule))
@pytest.mark.parametrize("output", ["logit", "probability"])
def test_integrated_gradients_agrees_with_captum(rule, output, cnn, images, targets, keys):
    forward = cnn if output == "logit" else lambda inputs: cnn(inputs).softmax(1)
    oracle = captum.attr.IntegratedGradients(forward).attribute(
        images, torch.full_like(images, 0.1), targets, n_steps=20, method=rule
    )
    method = IntegratedGradients(output=output, steps=20, rule=rule, baseline=0.1)
    # Captum rounds the points of its Riemann rules to float32.
    close(method(cnn, images, targets, keys), oracle.detach(), 1e-6 if rule.startswith("riemann") else 1e-10)


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("kind", [SmoothGrad, UniformGradient])
def test_noisy_maps_are_the_mean_of_captum_saliency_over_the_same_points(kind, output, cnn, images, targets, keys):
    method = kind(samples=6, output=output, multiply_by_input=False)
    forward = cnn if output == "logit" else lambda inputs: cnn(inputs).softmax(1)
    points = method.points(images, keys, 0, 6)
    saliency = captum.attr.Saliency(forward)
    maps = [saliency.attribute(points[:, i].clone().requires_grad_(), targets, abs=False) for i in range(6)]
    close(method(cnn, images, targets, keys), torch.stack(maps).mean(dim=0))


def test_gaussian_noise_has_the_stated_spread(images, keys):
    images = images * 0.5
    noise = SmoothGrad(samples=3000, sigma=0.3).points(images, keys, 0, 3000) - images.unsqueeze(1)
    assert noise.std().item() == pytest.approx(0.3, rel=0.01)
    noise = SmoothGrad(sigma=0.3, relative_to="image").points(images, keys, 0, 3000) - images.unsqueeze(1)
    spread = noise.flatten(1).std(dim=1)
    expected = 0.3 * (images.flatten(1).amax(dim=1) - images.flatten(1).amin(dim=1))
    torch.testing.assert_close(spread, expected, rtol=0.01, atol=0)


def test_uniform_noise_fills_its_shape(images, keys):
    cube = UniformGradient(radius="4/255").points(images, keys, 0, 500) - images.unsqueeze(1)
    assert 0.99 * 4 / 255 < cube.abs().max() <= 4 / 255
    assert cube.std().item() == pytest.approx(4 / 255 / 3**0.5, rel=0.01)
    ball = UniformGradient(radius=0.2, shape="ball").points(images, keys, 0, 500) - images.unsqueeze(1)
    radii = ball.flatten(2).norm(dim=2) / 0.2
    assert radii.max() <= 1 + 1e-6
    # In d dimensions the radius of a uniform point has the mean d / (d + 1).
    assert radii.mean().item() == pytest.approx(70 / 71, abs=0.002)
    assert radii.min() < 0.97
