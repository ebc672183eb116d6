"""What every attribution promises, whatever it explains and however."""

from functools import cache

import torch
from found import Plugin
from oracles import oracle_of
from torch import Tensor, nn
from world import (
    COUNT,
    PARTS,
    Passes,
    explainer,
    images_of,
    keys_of,
    network,
    predicted,
    slope_error,
    smooth_network,
    untouched,
    with_references,
)

from runner.attacks.gradient import GradientAttack
from runner.attacks.objectives import TopK
from runner.core.attack_types import Problem
from runner.core.types import Attribution, differentiable, exact_gradient
from runner.models.twin import softplus_twin

Case = tuple[Attribution, nn.Module, Tensor, Tensor, Tensor]


@cache
def case(plugin: Plugin, dtype: torch.dtype = torch.float32, smooth: bool = False) -> Case:
    """The attribution, and what it is called with."""
    model = smooth_network() if smooth else network(dtype)
    images = images_of(dtype, edge=0.0 if smooth else 0.1)  # equal largest pixels are a kink of their maximum
    return with_references(plugin.build(), dtype), model, images, predicted(model, images), keys_of()


def test_it_is_an_attribution_of_the_shape_and_type_of_the_images(attribution: Plugin) -> None:
    for dtype in (torch.float32, torch.float64):
        method, *inputs = case(attribution, dtype)
        assert isinstance(method, Attribution)
        maps = method(*inputs)
        assert maps.shape == inputs[1].shape
        assert maps.dtype == dtype
        assert torch.isfinite(maps).all()
        assert maps.any()


def test_keys_matter_if_it_says_that_it_is_stochastic(any_attribution: Plugin) -> None:
    method, model, images, targets, keys = case(any_attribution)
    maps = method(model, images, targets, keys)
    assert torch.equal(maps, method(model, images, targets, keys))
    assert torch.equal(maps, method(model, images, targets, keys_of(1))) is not method.stochastic


def test_neither_batch_nor_order_nor_chunk_matters(any_attribution: Plugin) -> None:
    method, model, images, targets, keys = case(any_attribution, torch.float64)
    maps = method(model, images, targets, keys)
    for rows in PARTS:
        part = method(model, images[rows], targets[rows], keys[rows])
        torch.testing.assert_close(part, maps[rows], rtol=1e-8, atol=1e-10)
    for chunk in chunks(any_attribution):
        smaller = with_references(any_attribution.build(chunk=chunk), torch.float64)
        torch.testing.assert_close(smaller(model, images, targets, keys), maps, rtol=1e-8, atol=1e-10)


def test_a_chunk_does_not_matter_to_its_gradients(any_attribution: Plugin) -> None:
    """Those in the images and in the parameters, which a defense takes; a frozen parameter has none."""
    method, model, *inputs = case(any_attribution, torch.float64, smooth=True)
    if not differentiable(method) or not exact_gradient(method):
        return
    model.network[0].bias.requires_grad_(False)
    whole, *parts = (gradients(any_attribution, chunk, model, *inputs) for chunk in (None, *chunks(any_attribution)))
    model.network[0].bias.requires_grad_(True)
    for part in parts:
        torch.testing.assert_close(part, whole, rtol=1e-8, atol=1e-10)


def gradients(
    plugin: Plugin, chunk: int | None, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor
) -> tuple[Tensor, ...]:
    """Those of the sum of the map's squares."""
    method = with_references(plugin.build(**({} if chunk is None else {"chunk": chunk})), torch.float64)
    leaf = images.clone().requires_grad_()
    total = method(model, leaf, targets, keys).square().sum()
    wanted = [leaf, *(parameter for parameter in model.parameters() if parameter.requires_grad)]
    return torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)


def test_no_pass_is_larger_than_the_chunk(any_attribution: Plugin) -> None:
    """With and without a graph: the memory of an attack step is bounded too."""
    _, model, images, targets, keys = case(any_attribution)
    for chunk in chunks(any_attribution):
        method = with_references(any_attribution.build(chunk=chunk), torch.float32)
        with Passes() as passes:
            method(model, images, targets, keys)
            if differentiable(method):
                leaf = images.clone().requires_grad_()
                torch.autograd.grad(method(model, leaf, targets, keys).sum(), leaf, allow_unused=True)
        assert max(passes.sizes) <= chunk


def test_its_gradient_is_that_of_finite_differences(any_attribution: Plugin) -> None:
    """Of a random weighted sum of the map; where it differentiates a stand-in, the gradient is at least there."""
    method, model, images, targets, keys = case(any_attribution, torch.float64, smooth=True)
    leaf = images.clone().requires_grad_()
    maps = method(model, leaf, targets, keys)
    assert maps.requires_grad is differentiable(method)
    if not differentiable(method):
        return
    weights = torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(6))
    (gradient,) = torch.autograd.grad((maps * weights).sum(), leaf)
    assert torch.isfinite(gradient).all()
    assert gradient.any()
    if exact_gradient(method):
        summed = lambda inputs: (method(model, inputs, targets, keys) * weights).flatten(1).sum(dim=1)  # noqa: E731
        assert slope_error(summed, images, gradient) < 1e-4


def test_there_is_no_graph_unless_one_is_asked_for(any_attribution: Plugin) -> None:
    method, model, images, targets, keys = case(any_attribution)
    maps = method(model, images, targets, keys)
    assert not maps.requires_grad
    with torch.no_grad():
        for inputs in (images, images.clone().requires_grad_()):
            quiet = method(model, inputs, targets, keys)
            assert not quiet.requires_grad
            torch.testing.assert_close(quiet, maps, rtol=1e-4, atol=1e-6)


def test_the_model_and_the_images_are_left_as_they_were(any_attribution: Plugin) -> None:
    method, model, images, targets, keys = case(any_attribution)
    model.network[0].weight.requires_grad_(False)
    with untouched(model, images, targets, keys):
        method(model, images, targets, keys)
        if differentiable(method):
            leaf = images.clone().requires_grad_()
            torch.autograd.grad(method(model, leaf, targets, keys).square().sum(), leaf, allow_unused=True)
    model.network[0].weight.requires_grad_(True)


def test_its_values_are_those_of_the_oracle(attribution: Plugin) -> None:
    """Of the one that the YAML names, if it names one."""
    method, _, images, _, keys = case(attribution, torch.float64)
    model = network(torch.float64, pool="avg")  # after two maximum poolings Captum's DeepLIFT does not add up
    targets = predicted(model, images)
    if (oracle := oracle_of(attribution)) is not None:
        expected = oracle(method, model, images, targets, keys)
        torch.testing.assert_close(method(model, images, targets, keys), expected.double(), rtol=2e-6, atol=2e-6)


def chunks(plugin: Plugin) -> tuple[int, ...]:
    """Sizes to bound the passes to: none for a method without `chunk`."""
    return (1, COUNT + 2) if hasattr(plugin.build(), "chunk") else ()


def test_a_gradient_attack_on_it_does_harm(attribution: Plugin) -> None:
    """One that takes its gradients from the softplus twin, and is judged on the true map."""
    method, model, images, targets, keys = case(attribution, torch.float64)
    if not differentiable(method):
        return
    problem = Problem(
        model=model,
        twin=lambda beta: softplus_twin(model, beta).eval(),
        explain=explainer(method, "abs_sum"),
        harm=lambda reference, maps: (maps - reference).abs().sum(dim=(1, 2)),
        images=images,
        targets=targets,
        partners=images.flip(0),
        keys=keys,
    )
    attack = GradientAttack(TopK(10), "objective", steps=4)
    start = attack.start(problem)
    found = attack.search(problem, 0.9, "l2", start)
    assert (found.harm > start.harm).any()
