"""What every defense promises: a loss of the batch, its gradient in the parameters, and nothing else."""

import copy
from typing import Any

import torch
from found import Plugin
from held import Held
from torch import Tensor, nn
from world import COUNT, images_of, keys_of, untouched

from runner.core.types import Batch, Defense, kept_state, steps_per_batch
from runner.runs.parts import Parts


def model_of(plugin: Plugin, dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    """The network that the YAML asks for, small, in training mode."""
    node = {**plugin.cheap["model"], "width": 3, **options}
    with torch.random.fork_rng():
        torch.manual_seed(12)
        model: nn.Module = Parts({"model": node}, {}).new_model()
    return model.to(dtype).train()


def batch_of(dtype: torch.dtype = torch.float32, copies: int = 1) -> Batch:
    """Five examples, each in so many copies, in the middle of a training."""
    images, labels = images_of(dtype, edge=0.0), torch.arange(COUNT) % 4
    return Batch(*(values.repeat(copies, *[1] * (values.dim() - 1)) for values in (images, labels, keys_of())), 0.5, 1)


def test_it_is_a_defense_with_a_scalar_loss(any_defense: Plugin) -> None:
    model, built = model_of(any_defense), any_defense.build()
    assert isinstance(built, Defense)
    loss, scalars = built.loss(model, batch_of())
    assert loss.shape == ()
    assert torch.isfinite(loss)
    for name, value in scalars.items():
        assert value.shape == (), name
        assert not value.requires_grad, name
        assert torch.isfinite(value), name


def test_every_parameter_is_trained(defense: Plugin) -> None:
    model = model_of(defense)
    before = copy.deepcopy(model.state_dict())
    loss, _ = defense.build().loss(model, batch_of())
    assert all(parameter.grad is None for parameter in model.parameters())
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert not torch.equal(parameter, before[name]), name


def test_equal_batches_give_equal_bits(defense: Plugin) -> None:
    losses = [defense.build().loss(model_of(defense), batch_of()) for _ in range(2)]
    assert torch.equal(losses[0][0], losses[1][0])
    assert losses[0][1].keys() == losses[1][1].keys()
    assert all(torch.equal(value, losses[1][1][name]) for name, value in losses[0][1].items())


def test_the_loss_is_a_mean_over_the_batch(any_defense: Plugin) -> None:
    """A batch in which every example stands twice has the same loss and gradient."""
    found = []
    for copies in (1, 2):
        model = model_of(any_defense, torch.float64)
        loss, _ = any_defense.build().loss(model, batch_of(torch.float64, copies))
        found.append((loss, *torch.autograd.grad(loss, list(model.parameters()))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-10)


def test_the_model_and_the_batch_are_left_as_they_were(any_defense: Plugin) -> None:
    for training in (True, False):
        model, batch = model_of(any_defense).train(training), batch_of()
        with untouched(model, batch.images, batch.labels, batch.keys):
            any_defense.build().loss(model, batch)


def test_its_gradient_is_that_of_finite_differences(any_defense: Plugin) -> None:
    """In float64 on a smooth network, along a random move of all parameters; constants are held, see `held`."""
    model = model_of(any_defense, torch.float64, activation="softplus", beta=3.0, pool="avg")
    parameters, batch = list(model.parameters()), batch_of(torch.float64)
    with Held() as found:
        loss, _ = any_defense.build().loss(model, batch)
    gradients = torch.autograd.grad(loss, parameters)
    generator = torch.Generator().manual_seed(7)
    move = [torch.randn(values.shape, dtype=torch.float64, generator=generator) for values in parameters]
    exact = sum((gradient * step).sum().item() for gradient, step in zip(gradients, move, strict=True))
    errors = [
        abs(exact - _slope(any_defense, model, batch, move, width, found.remembered)) for width in (1e-5, 1e-6, 1e-7)
    ]
    assert min(errors) < 1e-5 * max(abs(exact), 1e-2), (exact, errors)


def _slope(
    plugin: Plugin, model: nn.Module, batch: Batch, move: list[Tensor], width: float, constants: list[Any]
) -> float:
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for parameter, step in zip(moved.parameters(), move, strict=True):
                parameter += sign * width * step
        with Held(constants) as held:
            ends.append(plugin.build().loss(moved, batch)[0].item())
        assert held.place == len(constants)
    return (ends[0] - ends[1]) / (2 * width)


def test_it_goes_on_from_its_state(any_defense: Plugin) -> None:
    """The second step of a defense that was resumed after the first is that of one that was not."""
    model, whole, resumed = model_of(any_defense), any_defense.build(), any_defense.build()
    whole.loss(model, batch_of())[0].backward()
    kept = {name: value.clone() for name, value in kept_state(whole).items()}
    assert kept or not hasattr(whole, "state")
    kept_state(resumed).update(kept)
    assert steps_per_batch(whole) >= 1
    losses = [built.loss(model, batch_of())[0] for built in (whole, resumed)]
    assert torch.equal(*losses)
