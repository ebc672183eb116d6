"""Metrics that look at the network: closed forms on linear and quadratic models, Captum, and what holds for all of them."""

from pathlib import Path

import captum.metrics
import pytest
import torch
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Context
from runner.metrics.draws import draw_keys
from runner.metrics.infidelity import Infidelity
from runner.metrics.local_lipschitz import LocalLipschitz
from runner.metrics.reduction import reduce
from runner.metrics.relative_stability import RelativeStability, representation

FOLDER = Path(__file__).parents[2] / "conf" / "metrics"
SHAPE = (2, 4, 5)
PIXELS = 40


def saliency(model, images, targets, keys):
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        chosen = model(images).gather(1, targets.unsqueeze(1)).sum()
    return reduce(torch.autograd.grad(chosen, images)[0], "sum")


class Linear(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, images):
        return images.flatten(1) @ self.weights.to(images.dtype)


class Quadratic(nn.Module):
    """Logit c is x^T A_c x / 2 on one channel, so its map is A_c x."""

    def __init__(self, matrices):
        super().__init__()
        self.matrices = matrices

    def forward(self, images):
        flat = images.flatten(1)
        return torch.einsum("np,cpq,nq->nc", flat, self.matrices, flat) / 2


def context_of(model, shape=SHAPE, count=6, explain=saliency, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    images, change = torch.rand(2, count, *shape, generator=generator, dtype=dtype)
    targets = torch.arange(count) % 3
    keys = rng.example_keys(0, torch.arange(count), "metric")
    return Context(model, explain, targets, images, (images + 0.2 * (change - 0.5)).clamp(0, 1), keys)


def maps_of(context):
    return tuple(
        context.explain(context.model, images, context.targets, context.keys)
        for images in (context.images, context.perturbed)
    )


@pytest.fixture
def weights():
    return torch.randn(PIXELS, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


@pytest.fixture
def linear(weights):
    return context_of(Linear(weights))


@pytest.fixture
def network():
    torch.manual_seed(7)
    layers = (
        nn.Flatten(),
        nn.Linear(PIXELS, 16),
        nn.Softplus(beta=3.0),
        nn.Linear(16, 12),
        nn.Tanh(),
        nn.Linear(12, 3),
    )
    return context_of(nn.Sequential(*layers).double().eval())


def draws(metric, context):
    """(N, S, C, H, W) the perturbations of an infidelity."""
    keys = draw_keys(context.keys, 1, 0, metric.samples)
    noise = metric.sigma * rng.normal(keys, (1, *SHAPE[1:])).double()
    return noise.reshape(-1, metric.samples, 1, *SHAPE[1:]).expand(-1, -1, *SHAPE)


# --- infidelity


@pytest.mark.parametrize("optimal_scale", [False, True])
@pytest.mark.parametrize("output", ["logit", "probability"])
def test_infidelity_equals_captum(network, optimal_scale, output):
    metric = Infidelity(samples=30, sigma=0.3, optimal_scale=optimal_scale, output=output)
    steps = draws(metric, network).flatten(0, 1)
    generator = torch.Generator().manual_seed(8)
    maps = torch.randn(6, *SHAPE, generator=generator, dtype=torch.float64)

    def forward(images):
        logits = network.model(images)
        return logits if output == "logit" else logits.softmax(dim=1)

    expected = captum.metrics.infidelity(
        forward,
        lambda inputs: (steps, inputs - steps),
        network.perturbed,
        maps,
        target=network.targets,
        n_perturb_samples=30,
        normalize=optimal_scale,
    )
    torch.testing.assert_close(metric(maps, maps.sum(dim=1), network), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimal_scale", [False, True])
def test_the_gradient_of_a_linear_model_is_faithful(linear, optimal_scale):
    reference, other = maps_of(linear)
    values = Infidelity(samples=50, optimal_scale=optimal_scale)(reference, other, linear)
    assert values.abs().max() < 1e-20


def test_only_optimal_scaling_forgives_a_wrong_scale(linear):
    """With maps 3 w the error of a draw is 2 I^T w."""
    reference, other = maps_of(linear)
    assert Infidelity(samples=50)(reference, 3 * other, linear).abs().max() < 1e-20
    metric = Infidelity(samples=50, optimal_scale=False)
    products = torch.einsum("nshw,nhw->ns", draws(metric, linear)[:, :, 0], other)
    expected = (2 * products).square().mean(dim=1)
    torch.testing.assert_close(metric(reference, 3 * other, linear), expected)


def test_infidelity_of_another_map_of_a_linear_model_is_its_closed_form(linear):
    """E (I^T v - I^T w)^2 = sigma^2 |v - w|^2; the best factor leaves sigma^2 (|w|^2 - (v^T w)^2 / |v|^2)."""
    other = maps_of(linear)[1]
    wrong = torch.randn(other.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    w, v = other.flatten(1), wrong.flatten(1)
    plain = 0.04 * (v - w).square().sum(dim=1)
    scaled = 0.04 * (w.square().sum(dim=1) - (v * w).sum(dim=1).square() / v.square().sum(dim=1))
    for optimal_scale, expected in ((False, plain), (True, scaled)):
        metric = Infidelity(samples=20_000, sigma="1/5", optimal_scale=optimal_scale, chunk=None)
        torch.testing.assert_close(metric(other, wrong, linear), expected, rtol=0.05, atol=0)


def test_a_zero_map_foretells_no_change(linear):
    reference, other = maps_of(linear)
    metric = Infidelity(samples=40)
    expected = torch.einsum("nshw,nhw->ns", draws(metric, linear)[:, :, 0], other).square().mean(dim=1)
    torch.testing.assert_close(metric(reference, torch.zeros_like(other), linear), expected)


def test_infidelity_is_that_of_the_perturbed_image(network):
    reference, other = maps_of(network)
    metric = Infidelity(samples=20)
    exchanged = Context(
        network.model, network.explain, network.targets, network.perturbed, network.images, network.keys
    )
    assert torch.equal(metric(reference, other, network), metric(torch.zeros_like(other), other, network))
    assert not torch.allclose(metric(reference, other, network), metric(reference, other, exchanged))


def test_unsigned_maps_are_refused():
    with pytest.raises(ConfigError, match=r"metrics\.reduction=abs_sum: must be sum for infidelity"):
        Infidelity(reduction="abs_sum")


# --- local Lipschitz estimate


def test_a_linear_model_has_a_flat_map(linear):
    assert LocalLipschitz(samples=5)(*maps_of(linear), linear).tolist() == [0.0] * 6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_slope_of_a_round_quadratic_is_its_curvature(norm):
    curvatures = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64)
    context = context_of(Quadratic(curvatures[:, None, None] * torch.eye(20, dtype=torch.float64)), (1, 4, 5))
    values = LocalLipschitz(samples=4, norm=norm)(*maps_of(context), context)
    assert values.tolist() == pytest.approx(curvatures.abs()[context.targets].tolist(), rel=1e-6)


def test_the_estimate_is_the_largest_sampled_slope_and_below_the_true_one():
    generator = torch.Generator().manual_seed(10)
    matrices = torch.randn(3, 20, 20, generator=generator, dtype=torch.float64)
    context = context_of(Quadratic(matrices + matrices.transpose(1, 2)), (1, 4, 5))
    metric = LocalLipschitz(samples=12, radius=0.3)
    values = metric(*maps_of(context), context)
    noise = rng.uniform(draw_keys(context.keys, 2, 0, 12), (1, 4, 5)).reshape(6, 12, 20) * 2 - 1
    start = context.perturbed.flatten(1).unsqueeze(1)
    change = (start + 0.3 * noise.double()).clamp(0, 1) - start
    moved = torch.einsum("npq,nsq->nsp", context.model.matrices[context.targets] + 0, change)
    moved = (moved + torch.einsum("nqp,nsq->nsp", context.model.matrices[context.targets], change)) / 2
    torch.testing.assert_close(values, (moved.norm(dim=2) / change.norm(dim=2)).amax(dim=1), rtol=1e-5, atol=0)
    bound = torch.linalg.matrix_norm(context.model.matrices, 2)[context.targets]
    assert (values < bound).all()
    more = LocalLipschitz(samples=40, radius=0.3)(*maps_of(context), context)
    assert (more >= values).all()
    assert (more > values).any()


def test_a_stochastic_map_keeps_its_noise_between_neighbours(linear):
    """A map that is noise and nothing else has no slope, though maps of different keys differ."""

    def noise(model, images, targets, keys):
        return rng.normal(keys, images.shape[2:]).to(images.dtype)

    context = Context(linear.model, noise, linear.targets, linear.images, linear.perturbed, rng.fold(linear.keys, 3))
    assert LocalLipschitz(samples=5)(*maps_of(linear), context).tolist() == [0.0] * 6


def test_a_neighbour_that_the_box_leaves_in_place_counts_nothing():
    def negative(keys, *_):
        return -torch.ones(len(keys), 1, 2, 2)

    context = context_of(Quadratic(torch.eye(4, dtype=torch.float64).expand(3, 4, 4)), (1, 2, 2))
    black = Context(context.model, saliency, context.targets, context.images, 0 * context.perturbed, context.keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.metrics.local_lipschitz.sample_ball", negative)
        assert LocalLipschitz(samples=3)(*maps_of(black), black).tolist() == [0.0] * 6


# --- relative stability


def relative(values, others):
    change = (values - others).flatten(1)
    return (change / values.flatten(1)).norm(dim=1)


def test_relative_stabilities_are_their_formulas(network):
    reference, other = maps_of(network)
    moved = relative(reference, other)
    model, images, perturbed = network.model, network.images, network.perturbed
    changes = {
        "input": relative(images, perturbed),
        "output": (model(images) - model(perturbed)).norm(dim=1),
        "representation": relative(model[:5](images), model[:5](perturbed)),
    }
    for of, change in changes.items():
        values = RelativeStability(of=of)(reference, other, network)
        torch.testing.assert_close(values, (moved / change).detach(), rtol=1e-9, atol=0)


def test_relative_stability_by_hand():
    """Map (2, 4) -> (1, 5): |(1/2, -1/4)|; image (0.5, 1) -> (0.25, 1): |(1/2, 0)|; logits 2 x: |(1/2, 0)|."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    model[1].weight.data = 2 * torch.eye(2, dtype=torch.float64)
    images = torch.tensor([[[[0.5, 1.0]]]], dtype=torch.float64)
    perturbed = torch.tensor([[[[0.25, 1.0]]]], dtype=torch.float64)
    context = Context(model, saliency, torch.tensor([0]), images, perturbed, torch.tensor([1]))
    maps = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[1.0, 5.0]]])
    for of in ("input", "output", "representation"):
        assert RelativeStability(of)(*maps, context).item() == pytest.approx((5 / 16) ** 0.5 / 0.5)


def test_zeros_are_divided_by_the_floor():
    """Map (0, 1) -> (1, 1) and image (0, 1) -> (0.5, 1): (1 / f) / (0.5 / f); without a change of the image: (1 / f) / f."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).double()
    images = torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float64)
    perturbed = torch.tensor([[[[0.5, 1.0]]]], dtype=torch.float64)
    maps = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[1.0, 1.0]]])
    context = Context(model, saliency, torch.tensor([0]), images, perturbed, torch.tensor([1]))
    assert RelativeStability("input", floor=1e-3)(*maps, context).item() == pytest.approx(2.0)
    unmoved = Context(model, saliency, torch.tensor([0]), images, images, torch.tensor([1]))
    for of in ("input", "output", "representation"):
        assert RelativeStability(of, floor="1/1000")(*maps, unmoved).item() == pytest.approx(1e6)
        assert RelativeStability(of)(maps[0], maps[0], unmoved).item() == 0.0


def hooks(model):
    return [hook for module in model.modules() for hook in module._forward_pre_hooks]


def test_the_representation_is_the_input_of_the_layer_that_runs_last():
    class Reversed(nn.Module):
        """Declares its layers in the opposite order of their use."""

        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 3), nn.Linear(20, 4)

        def forward(self, images):
            return self.last(self.first(images.flatten(1)).relu())

    model, images = Reversed(), torch.rand(5, 1, 4, 5)
    assert torch.equal(representation(model, images), model.first(images.flatten(1)).relu())
    assert hooks(model) == []


def test_the_hooks_are_removed_when_the_network_fails(network):
    with pytest.raises(RuntimeError):
        representation(network.model, torch.rand(1, 1, 2, 2).double())
    assert hooks(network.model) == []


def test_a_network_without_a_linear_layer_is_refused(linear):
    with pytest.raises(
        ConfigError, match="metrics.measured.relative_representation_stability: the model has no linear layer"
    ):
        RelativeStability("representation")(*maps_of(linear), linear)


# --- all of them


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Infidelity(samples=0), r"metrics\.measured\.infidelity\.samples=0: must be at least 1"),
        (lambda: Infidelity(chunk=0), r"metrics\.measured\.infidelity\.chunk=0: must be at least 1"),
        (lambda: Infidelity(sigma=0), r"metrics\.measured\.infidelity\.sigma=0: must be a number above 0"),
        (lambda: LocalLipschitz(radius="x"), r"metrics\.measured\.local_lipschitz\.radius=x: must be a number"),
        (
            lambda: RelativeStability("input", 0),
            r"metrics\.measured\.relative_input_stability\.floor=0: must be a number above 0",
        ),
    ],
)
def test_bad_settings_are_refused_by_name(make, told):
    with pytest.raises(ConfigError, match=told):
        make()
