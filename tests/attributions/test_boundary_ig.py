"""Boundary-based integrated gradients: exact distances on linear models, completeness, and Captum with the same baseline."""

import captum.attr
import pytest
import torch
from networks import Linear, slope_and_difference

from runner.attributions.boundary_ig import BoundaryIntegratedGradients
from runner.attributions.boundary_search import BoundarySearch
from runner.core.errors import ConfigError


def close(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.fixture
def halves():
    """Two logits of a linear model; the boundary is a plane at a known distance from images in the middle of the box."""
    generator = torch.Generator().manual_seed(3)
    model = Linear(0.3 * torch.randn(70, 2, dtype=torch.float64, generator=generator))
    images = 0.5 + 0.1 * torch.rand(6, 2, 5, 7, dtype=torch.float64, generator=generator)
    normal = (model.weights[:, 0] - model.weights[:, 1]).detach()
    distance = images.flatten(1) @ normal / normal.norm()
    return model, images, normal, distance


def test_the_point_is_the_foot_on_a_linear_boundary(halves):
    model, images, normal, distance = halves
    targets = (distance < 0).long()
    search = BoundarySearch((0.1, 0.3, 0.6, 1.2, 2.4), steps=40, bisections=30)
    points = search(model, images, targets)
    foot = images.flatten(1) - torch.outer(distance, normal / normal.norm())
    assert distance.abs().max() < 2.4
    assert (foot > 0).all()
    close(points.flatten(1), foot, 1e-7)
    assert (model(points).argmax(dim=1) != targets).all()


def test_without_bisection_it_lies_at_most_a_step_beyond(halves):
    model, images, _, distance = halves
    targets = (distance < 0).long()
    points = BoundarySearch((2.4,), steps=40, bisections=0)(model, images, targets)
    beyond = (points - images).flatten(1).norm(dim=1) - distance.abs()
    assert (beyond > 0).all()
    assert (beyond <= 2 * 2.4 / 40 + 1e-9).all()


def test_the_smallest_budget_that_suffices_is_taken(halves):
    model, images, _, distance = halves
    targets = (distance < 0).long()
    small = (distance.abs().min() + distance.abs().max()) / 2
    points = BoundarySearch((float(small), 5.0), steps=10, bisections=0)(model, images, targets)
    alone = BoundarySearch((float(small),), steps=10, bisections=0)(model, images, targets)
    near = distance.abs() < small * 0.99
    assert near.any()
    assert not near.all()
    assert torch.equal(points[near], alone[near])
    assert ((points - images).flatten(1).norm(dim=1)[near] <= small).all()


def test_where_every_budget_fails_it_is_the_last_iterate_of_the_largest(halves):
    model, images, normal, distance = halves
    targets = (distance < 0).long()
    budget = float(distance.abs().min()) / 2
    points = BoundarySearch((budget / 2, budget), steps=5, bisections=10)(model, images, targets)
    wanted = images.flatten(1) - torch.outer(distance.sign() * budget, normal / normal.norm())
    close(points.flatten(1), wanted, 1e-9)


def test_an_image_that_is_not_given_its_target_is_moved_until_it_is(halves):
    model, images, _, distance = halves
    wrong = (distance > 0).long()
    points = BoundarySearch((2.4,), steps=40, bisections=30)(model, images, wrong)
    assert (model(points).argmax(dim=1) == wrong).all()
    close((points - images).flatten(1).norm(dim=1), distance.abs(), 1e-7)


def test_points_stay_in_the_box_and_the_ball(cnn, images, targets):
    predicted = cnn(images).argmax(dim=1)
    search = BoundarySearch((0.5, 1.0, 8.0), steps=20, bisections=8)
    points = search(cnn, images, predicted)
    assert not points.requires_grad
    assert points.min() >= 0
    assert points.max() <= 1
    assert ((points - images).flatten(1).norm(dim=1) <= 8.0).all()


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_the_map_is_captum_integrated_gradients_from_the_boundary(output, cnn, images, targets, keys):
    method = BoundaryIntegratedGradients(output=output, rule="gausslegendre", steps=20, search_steps=5)
    boundary = method.boundary(cnn, images, targets)
    assert (boundary != images).flatten(1).any(dim=1).all()
    forward = cnn if output == "logit" else lambda inputs: cnn(inputs).softmax(1)
    oracle = captum.attr.IntegratedGradients(forward).attribute(images, boundary, targets, n_steps=20)
    close(method(cnn, images, targets, keys), oracle.detach())


@pytest.mark.parametrize("chunk", [None, 7])
def test_maps_sum_to_the_rise_from_the_boundary(chunk, cnn, images, targets, keys):
    method = BoundaryIntegratedGradients(rule="gausslegendre", steps=20, search_steps=5, chunk=chunk)
    rise = cnn(images) - cnn(method.boundary(cnn, images, targets))
    found = method(cnn, images, targets, keys).sum(dim=(1, 2, 3))
    close(found, rise.gather(1, targets.unsqueeze(1)).squeeze(1).detach(), 1e-9)


def test_the_boundary_is_a_constant_in_the_gradient(quadratic, images, targets, keys):
    method = BoundaryIntegratedGradients(rule="gausslegendre", steps=2, search_steps=3)
    boundary = method.boundary(quadratic, images, targets)
    images.requires_grad_()
    (gradients,) = torch.autograd.grad(method(quadratic, images, targets, keys).sum(), images)
    # the map sums to f(x) - f(b), whose gradient with b held fixed is that of f
    slopes = torch.einsum("npq,nq->np", quadratic.matrices[targets], images.flatten(1)) + quadratic.slopes[targets]
    close(gradients.flatten(1), slopes.detach(), 1e-8)
    assert not boundary.requires_grad


@pytest.mark.parametrize("chunk", [None, 3])
def test_its_gradients_equal_finite_differences_where_the_boundary_is_held(
    chunk, cnn, images, targets, keys, monkeypatch
):
    options = {"steps": 4, "search_steps": 4, "bisections": 3, "output": "probability"}
    method = BoundaryIntegratedGradients(**options, chunk=chunk)
    boundary = method.boundary(cnn, images, targets)
    monkeypatch.setattr(BoundaryIntegratedGradients, "boundary", lambda *_: boundary)
    slope, difference = slope_and_difference(lambda inputs: method(cnn, inputs, targets, keys), images)
    assert slope.abs().min() > 1e-4
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-7)
    wanted, found = [images.requires_grad_(), *cnn.parameters()], []
    for size in (None, chunk):
        maps = BoundaryIntegratedGradients(**options, chunk=size)(cnn, images, targets, keys)
        found.append(torch.autograd.grad(maps.square().sum(), wanted, materialize_grads=True, allow_unused=True))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("budgets", value) for value in ([], [0.5, 0.5], [0, 1], ["x"])),
        *(("bisections", -1), ("search_steps", 0), ("steps", 0)),
    ],
)
def test_wrong_values_are_refused_by_their_name(key, value):
    with pytest.raises(ConfigError, match=rf"^attribution\.{key}="):
        BoundaryIntegratedGradients(**{key: value})
