"""Free adversarial training on a linear model, worked by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.core import rng
from runner.core.errors import ConfigError
from runner.core.types import Batch
from runner.defenses.free_at import FreeAdversarialTraining
from runner.defenses.natural import Natural

EPSILON = 0.05


def images(seed, count=6):
    return torch.rand(count, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 0.6 + 0.2


def batch(seed, count=6):
    return Batch(images(seed, count), torch.arange(count) % 3, rng.example_keys(seed, range(count)), 0.0)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).double()


def gradient(model, seen, labels):
    """Of the cross-entropy in the images, by hand: W^T (p - y)."""
    difference = model(seen).softmax(1) - F.one_hot(labels, 3)
    return (difference @ model[1].weight).reshape(seen.shape).detach()


def ball(noise, norm):
    if norm == "linf":
        return noise.clamp(-EPSILON, EPSILON)
    return noise * (EPSILON / noise.flatten(1).norm(dim=1).clamp_min(EPSILON)).reshape(-1, 1, 1, 1)


def ascent(slope, norm):
    return slope.sign() if norm == "linf" else slope / slope.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("step_size", [1.0, 0.4])
def test_with_one_replay_it_is_the_fast_gradient_method_with_carried_noise(norm, step_size):
    defense, model = FreeAdversarialTraining(EPSILON, norm, replays=1, step_size=step_size), linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    noise = torch.zeros_like(images(0))
    for seed in range(4):
        current = batch(seed)
        seen = current.images + noise
        loss, scalars = defense.loss(model, current)
        torch.testing.assert_close(loss, F.cross_entropy(model(seen), current.labels), rtol=0, atol=1e-12)
        torch.testing.assert_close(scalars["adversarial_loss"], loss.detach())
        noise = ball(noise + step_size * EPSILON * ascent(gradient(model, seen, current.labels), norm), norm)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(defense.state["perturbation"], noise, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_replays_raise_the_loss_of_a_fixed_model_to_its_maximum_in_the_ball(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).double()
    current = Batch(images(0), torch.arange(6) % 2, batch(0).keys, 0.0)
    slope = model[1].weight[1] - model[1].weight[0]
    reach = EPSILON * (slope.norm() if norm == "l2" else slope.abs().sum())
    logits = model(current.images)
    margin = torch.where(current.labels == 1, 1.0, -1.0) * (logits[:, 1] - logits[:, 0])
    defense, losses = FreeAdversarialTraining(EPSILON, norm, step_size=0.5), []
    for _ in range(defense.replays):
        loss, _ = defense.loss(model, current)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] < losses[1] < losses[2]
    assert losses[-1] == pytest.approx(F.softplus(-(margin - reach)).mean().item(), rel=1e-6)


def test_a_step_costs_one_forward_and_one_backward_pass():
    model, passes = linear(), []
    model.register_forward_hook(lambda *_: passes.append("forward"))
    model[1].register_full_backward_hook(lambda *_: passes.append("backward"))
    FreeAdversarialTraining(EPSILON, "linf").loss(model, batch(0))[0].backward()
    assert passes == ["forward", "backward"]


def test_without_a_backward_pass_nothing_moves():
    defense = FreeAdversarialTraining(EPSILON, "linf")
    defense.loss(linear(), batch(0))
    assert defense.state["perturbation"].abs().max() == 0


def test_the_parameters_receive_the_gradient_of_the_perturbed_images():
    defense, model, current = FreeAdversarialTraining(EPSILON, "linf"), linear(), batch(0)
    defense.loss(model, current)[0].backward()
    noise = defense.state["perturbation"].clone()
    model.zero_grad()
    defense.loss(model, current)[0].backward()
    found = model[1].weight.grad.clone()
    model.zero_grad()
    F.cross_entropy(model(current.images + noise), current.labels).backward()
    torch.testing.assert_close(found, model[1].weight.grad, rtol=0, atol=1e-12)


def test_a_smaller_batch_uses_the_first_places_and_a_larger_one_adds_zeros():
    defense, model = FreeAdversarialTraining(EPSILON, "linf"), linear()
    defense.loss(model, batch(0))[0].backward()
    before = defense.state["perturbation"].clone()
    small = Batch(images(1, 2), torch.tensor([2, 2]), batch(1, 2).keys, 0.0)  # other labels: another direction
    defense.loss(model, small)[0].backward()
    torch.testing.assert_close(defense.state["perturbation"][2:], before[2:], rtol=0, atol=0)
    assert (defense.state["perturbation"][:2] != before[:2]).any()
    kept = defense.state["perturbation"].clone()
    large = batch(2, 9)
    loss, _ = defense.loss(model, large)
    noise = torch.cat([kept, torch.zeros(3, 1, 3, 3, dtype=torch.float64)])
    torch.testing.assert_close(loss, F.cross_entropy(model(large.images + noise), large.labels), rtol=0, atol=1e-12)
    assert len(defense.state["perturbation"]) == 9


def test_a_restored_state_goes_on_as_if_nothing_had_happened():
    first, model = FreeAdversarialTraining(EPSILON, "l2"), linear()
    first.loss(model, batch(0))[0].backward()
    second = FreeAdversarialTraining(EPSILON, "l2")
    second.state.update({name: tensor.clone() for name, tensor in first.state.items()})
    for defense in (first, second):
        defense.loss(model, batch(1))[0].backward()
    torch.testing.assert_close(first.state, second.state, rtol=0, atol=0)
    assert FreeAdversarialTraining(EPSILON, "l2").state == {}


def test_images_leave_neither_the_ball_nor_the_box():
    seen = []
    model = linear()
    model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].detach()))
    current = Batch(images(0).round(), batch(0).labels, batch(0).keys, 0.0)  # pixels 0 and 1
    defense = FreeAdversarialTraining("8/255", "linf")
    for _ in range(3):
        defense.loss(model, current)[0].backward()
    assert all(((image >= 0) & (image <= 1)).all() for image in seen)
    assert all((image - current.images).abs().max() <= 8 / 255 for image in seen)
    assert defense.state["perturbation"].abs().max() > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_epsilon_0_is_natural_training(norm):
    defense = FreeAdversarialTraining(0, norm)
    for _ in range(2):
        loss, _ = defense.loss(linear(), batch(0))
        loss.backward()
    torch.testing.assert_close(loss, Natural().loss(linear(), batch(0))[0])


def test_training_on_it_lowers_the_adversarial_loss():
    defense, model = FreeAdversarialTraining(EPSILON, "linf"), linear()
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.5), []
    for _ in range(30):
        optimizer.zero_grad()
        loss, _ = defense.loss(model, batch(0))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[1]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"epsilon": -0.1}, "defense.epsilon"),
        ({"replays": 0}, "defense.replays"),
        ({"step_size": 0.0}, "defense.step_size"),
    ],
)
def test_bad_options_are_refused_by_name(options, key):
    with pytest.raises(ConfigError, match=key):
        FreeAdversarialTraining(**{"epsilon": 0.1, "norm": "linf"} | options)
