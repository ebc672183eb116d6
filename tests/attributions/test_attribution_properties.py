"""What holds for every attribution: true gradients, independence of batch, order and chunk, detached when asked."""

import dataclasses
import weakref

import pytest
import torch

from runner.attributions.integrated_gradients import IntegratedGradients
from runner.attributions.saliency import Saliency
from runner.attributions.smoothgrad import SmoothGrad
from runner.attributions.uniform_gradient import UniformGradient
from runner.core.types import Attribution

METHODS = {
    "saliency": Saliency(),
    "input_x_gradient": Saliency(multiply_by_input=True, output="probability"),
    "integrated_gradients": IntegratedGradients(steps=4, rule="gausslegendre", baseline=[0.1, 0.2]),
    "smoothgrad": SmoothGrad(samples=5),
    "smoothgrad_image": SmoothGrad(samples=5, relative_to="image", output="probability", multiply_by_input=True),
    "uniform_gradient": UniformGradient(samples=5, relative_to="image"),
    "uniform_gradient_ball": UniformGradient(samples=5, shape="ball", radius=0.5, multiply_by_input=False),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def gradient(method, model, images, targets, keys, direction):
    images = images.clone().requires_grad_()
    maps = method(model, images, targets, keys)
    (result,) = torch.autograd.grad((maps * direction).sum() + maps.square().sum(), images)
    return maps.detach(), result


@pytest.mark.parametrize("chunk", [None, 1, 4, 7])
def test_gradients_of_the_map_equal_finite_differences(method, chunk, cnn, images, targets, keys):
    method = dataclasses.replace(method, chunk=chunk)
    generator = torch.Generator().manual_seed(4)
    direction, move = (torch.randn(images.shape, dtype=torch.float64, generator=generator) for _ in range(2))
    _, slope = gradient(method, cnn, images, targets, keys, direction)

    def objective(shift):
        maps = method(cnn, images + shift * move, targets, keys)
        return (maps * direction + maps.square()).sum(dim=(1, 2, 3))

    step = 1e-5
    differences = (objective(step) - objective(-step)) / (2 * step)
    torch.testing.assert_close((slope * move).sum(dim=(1, 2, 3)), differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 8, 100])
def test_chunks_change_rounding_only(method, chunk, cnn, images, targets, keys):
    direction = torch.ones_like(images)
    whole = gradient(method, cnn, images, targets, keys, direction)
    parts = gradient(dataclasses.replace(method, chunk=chunk), cnn, images, targets, keys, direction)
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 12])
def test_no_forward_pass_has_more_images_than_a_chunk(method, chunk, cnn, images, targets, keys):
    sizes = []
    cnn.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    dataclasses.replace(method, chunk=chunk)(cnn, images, targets, keys)
    samples = getattr(method, "samples", getattr(method, "steps", 1))
    assert max(sizes) <= chunk
    assert sum(sizes) == len(images) * samples
    sizes.clear()
    dataclasses.replace(method, chunk=None)(cnn, images, targets, keys)
    assert sizes == [len(images) * samples]


def test_batch_and_order_do_not_matter(method, cnn, images, targets, keys):
    together = method(cnn, images, targets, keys)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = method(cnn, images[order], targets[order], keys[order])
    torch.testing.assert_close(shuffled, together[order], rtol=1e-10, atol=1e-12)
    single = [method(cnn, images[i : i + 1], targets[i : i + 1], keys[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(torch.cat(single), together, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["smoothgrad", "smoothgrad_image", "uniform_gradient", "uniform_gradient_ball"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 7, 9), (2, 5, 7)])
def test_noise_is_the_same_to_the_bit_whatever_the_batch_order_and_slice(name, dtype, shape, keys):
    method = METHODS[name]
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(6)).to(dtype)
    whole = method.points(images, keys, 0, 11)
    assert whole.dtype == dtype
    assert whole.shape == (5, 11, *shape)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(method.points(images[order], keys[order], 0, 11), whole[order])
    for first, count in ((0, 1), (1, 1), (3, 5), (10, 1)):
        for row in range(5):
            part = method.points(images[row : row + 1], keys[row : row + 1], first, count)
            assert torch.equal(part[0], whole[row, first : first + count])


def test_stochastic_says_whether_the_keys_matter(method, cnn, images, targets, keys):
    assert isinstance(method, Attribution)
    first = method(cnn, images, targets, keys)
    assert torch.equal(first, method(cnn, images, targets, keys))
    assert torch.equal(first, method(cnn, images, targets, keys + 1)) is not method.stochastic


@pytest.mark.parametrize("chunk", [None, 3])
def test_detached_without_grad_mode_or_without_images_that_require_grad(method, chunk, cnn, images, targets, keys):
    method = dataclasses.replace(method, chunk=chunk)
    differentiable = method(cnn, images.clone().requires_grad_(), targets, keys)
    assert differentiable.requires_grad
    with torch.no_grad():
        for inputs in (images, images.clone().requires_grad_()):
            maps = method(cnn, inputs, targets, keys)
            assert not maps.requires_grad
            torch.testing.assert_close(maps, differentiable.detach(), rtol=1e-12, atol=1e-12)
    maps = method(cnn, images, targets, keys)
    assert not maps.requires_grad
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in cnn.parameters())


def test_the_gradient_passes_through_what_the_images_were_made_of(method, cnn, images, targets, keys):
    shift = torch.zeros_like(images, requires_grad=True)
    (through,) = torch.autograd.grad(method(cnn, images + shift, targets, keys).square().sum(), shift)
    _, direct = gradient(method, cnn, images, targets, keys, torch.zeros_like(images))
    torch.testing.assert_close(through, direct)


@pytest.mark.parametrize("frozen", [False, True])
def test_chunks_keep_the_gradients_of_the_parameters(method, frozen, cnn, images, targets, keys):
    cnn[0].requires_grad_(not frozen)
    images.requires_grad_()
    trained = [parameter for parameter in cnn.parameters() if parameter.requires_grad]
    wanted = [images, *trained]
    losses = [
        dataclasses.replace(method, chunk=chunk)(cnn, images, targets, keys).square().sum() for chunk in (None, 4)
    ]
    whole, parts = (torch.autograd.grad(loss, wanted, materialize_grads=True, allow_unused=True) for loss in losses)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-11)


def test_chunked_map_without_second_derivative_has_gradient_zero(linear, images, targets, keys):
    linear.requires_grad_(False)
    images.requires_grad_()
    maps = SmoothGrad(samples=5, chunk=4)(linear, images, targets, keys)
    (gradients,) = torch.autograd.grad(maps.sum(), images)
    assert torch.equal(gradients, torch.zeros_like(images))


class Saved:
    """What autograd holds on to, measured whenever it saves one more tensor."""

    def __init__(self):
        self.alive, self.peak = weakref.WeakSet(), 0

    class Box:
        def __init__(self, tensor):
            self.tensor = tensor

    def pack(self, tensor):
        box = Saved.Box(tensor)
        self.alive.add(box)
        self.peak = max(self.peak, self.bytes())
        return box

    def bytes(self):
        storages = {box.tensor.untyped_storage().data_ptr(): box.tensor.untyped_storage() for box in self.alive}
        return sum(storage.nbytes() for storage in storages.values())


def memory(method, cnn, images, targets, keys):
    """Bytes that the graph of a map keeps alive until the backward pass, and the peak of both passes together."""
    saved = Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda box: box.tensor):
        images = images.clone().requires_grad_()
        maps = method(cnn, images, targets, keys)
        held = saved.bytes()
        torch.autograd.grad(maps.square().sum(), images)
    return held, saved.peak


def test_chunk_bounds_the_memory_of_a_differentiable_map(cnn, images, targets, keys):
    inputs = (cnn, images, targets, keys)
    held_whole, peak_whole = memory(SmoothGrad(samples=80), *inputs)
    held_few, peak_few = memory(SmoothGrad(samples=10, chunk=10), *inputs)
    held_many, peak_many = memory(SmoothGrad(samples=80, chunk=10), *inputs)
    assert held_many == held_few == images.nbytes + sum(parameter.nbytes for parameter in cnn.parameters())
    assert held_whole > 200 * held_many
    assert peak_many < 1.05 * peak_few
    assert peak_whole > 20 * peak_many
