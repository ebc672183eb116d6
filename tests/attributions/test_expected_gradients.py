"""Expected gradients: exact at its own draws, and in the limit what Captum's GradientShap is."""

import captum.attr
import pytest
import torch

from runner.attributions.expected_gradients import ExpectedGradients
from runner.attributions.integrated_gradients import IntegratedGradients
from runner.core.types import Attribution, Referenced


def close(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.fixture
def references():
    return torch.rand(7, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


def test_the_job_knows_that_it_wants_references(references):
    options = ExpectedGradients(references=7)
    assert isinstance(options, Referenced)
    assert isinstance(options, Attribution)
    assert options.references == 7
    bound = options.with_references(references)
    assert isinstance(bound, Attribution)
    assert not isinstance(bound, Referenced)
    assert bound.stochastic


def test_there_is_no_map_without_references(linear, images, targets, keys):
    with pytest.raises(ValueError, match="with_references"):
        ExpectedGradients()(linear, images, targets, keys)


def test_linear_model_at_its_own_draws(linear, images, targets, keys, references):
    method = ExpectedGradients(samples=9).with_references(references)
    baselines, shares = method.draws(images, keys, 0, 9)
    assert shares.min() >= 0
    assert shares.max() < 1
    weight = linear.weights.detach().T[targets].reshape_as(images)
    found = method(linear, images, targets, keys)
    close(found, weight * (images - baselines.mean(dim=1)))
    rises = (linear(images).unsqueeze(1) - linear(baselines.flatten(0, 1)).reshape(5, 9, 3)).mean(dim=1)
    close(found.sum(dim=(1, 2, 3)), rises.gather(1, targets.unsqueeze(1)).squeeze(1).detach())
    plain = ExpectedGradients(samples=9, multiply_by_input=False).with_references(references)
    close(plain(linear, images, targets, keys), weight)


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_it_is_the_mean_of_captum_saliency_at_its_own_draws(output, cnn, images, targets, keys, references):
    method = ExpectedGradients(samples=6, output=output).with_references(references)
    forward = cnn if output == "logit" else lambda inputs: cnn(inputs).softmax(1)
    baselines, shares = method.draws(images, keys, 0, 6)
    saliency, total = captum.attr.Saliency(forward), torch.zeros_like(images)
    for sample in range(6):
        away = images - baselines[:, sample]
        place = (baselines[:, sample] + shares[:, sample] * away).requires_grad_()
        total += away * saliency.attribute(place, targets, abs=False) / 6
    close(method(cnn, images, targets, keys), total)


def test_one_reference_is_integrated_gradients_by_monte_carlo(quadratic, images, targets, keys):
    method = ExpectedGradients(samples=9).with_references(torch.full_like(images[:1], 0.25))
    _, shares = method.draws(images, keys, 0, 9)
    place = 0.25 + shares.mean(dim=1) * (images - 0.25)
    slopes = torch.einsum("npq,nq->np", quadratic.matrices[targets], place.flatten(1)) + quadratic.slopes[targets]
    close(method(quadratic, images, targets, keys), (images - 0.25) * slopes.detach().reshape_as(images))


def expectation(quadratic, images, targets, references):
    """The mean over the references of exact integrated gradients."""
    maps = [
        captum.attr.IntegratedGradients(quadratic).attribute(images, reference.expand_as(images), targets, n_steps=4)
        for reference in references
    ]
    return torch.stack(maps).mean(dim=0).detach()


def test_it_tends_to_the_expectation_as_gradient_shap_does(quadratic, images, targets, keys, references):
    # strong interactions of far pixels would only add noise
    with torch.no_grad():
        quadratic.matrices.mul_(0.2)
    limit = expectation(quadratic, images, targets, references)
    samples = 2000
    method = ExpectedGradients(samples=samples, chunk=2000).with_references(references)
    baselines, shares = method.draws(images, keys, 0, samples)
    away = (images.unsqueeze(1) - baselines).flatten(2)
    places = baselines.flatten(2) + shares.flatten(2) * away
    slopes = torch.einsum("npq,nsq->nsp", quadratic.matrices[targets], places) + quadratic.slopes[targets].unsqueeze(1)
    error = (away * slopes).std(dim=1).detach().reshape_as(images) / samples**0.5
    ours = (method(quadratic, images, targets, keys) - limit) / error
    assert ours.abs().max() < 5
    assert 0.8 < ours.std() < 1.2
    torch.manual_seed(0)
    shap = captum.attr.GradientShap(quadratic)
    parts = [shap.attribute(images, references, n_samples=500, stdevs=0.0, target=targets).detach() for _ in range(4)]
    theirs = (torch.stack(parts).mean(dim=0) - limit) / error
    assert theirs.abs().max() < 6
    rises = quadratic(images).gather(1, targets.unsqueeze(1)).squeeze(1) - quadratic(references)[:, targets].mean(dim=0)
    close(limit.sum(dim=(1, 2, 3)), rises.detach(), 1e-8)
    exact = IntegratedGradients(rule="gausslegendre", steps=4, baseline=0.25)(quadratic, images, targets, keys)
    close(expectation(quadratic, images, targets, torch.full_like(images[:1], 0.25)), exact)


def test_every_reference_is_drawn_equally_often(images, keys, references):
    levels = torch.arange(7, dtype=torch.float64).reshape(7, 1, 1, 1).expand(7, 2, 5, 7)
    method = ExpectedGradients(samples=1).with_references(levels)
    baselines, shares = method.draws(images, keys, 0, 1400)
    counts = baselines[..., 0, 0, 0].long().flatten().bincount(minlength=7)
    assert ((counts - 1000).abs() < 150).all()
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)


def test_draws_are_the_same_to_the_bit_whatever_the_slice(images, keys, references):
    method = ExpectedGradients(samples=11).with_references(references)
    baselines, shares = method.draws(images, keys, 0, 11)
    for first, count in ((0, 1), (3, 5), (10, 1)):
        some, parts = method.draws(images[2:3], keys[2:3], first, count)
        assert torch.equal(some[0], baselines[2, first : first + count])
        assert torch.equal(parts[0], shares[2, first : first + count])
