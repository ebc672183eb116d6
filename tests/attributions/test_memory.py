"""What a chunk is for: it bounds what autograd holds on to, and nothing else changes."""

import weakref

import pytest
import torch

from runner.attributions.cafo import Cafo
from runner.attributions.caso import Caso
from runner.attributions.expected_gradients import ExpectedGradients
from runner.attributions.saliency import Saliency
from runner.attributions.smoothgrad import SmoothGrad

MANY = {
    "cafo": lambda chunk: Cafo(samples=5, chunk=chunk),
    "caso": lambda chunk: Caso(samples=5, steps=3, chunk=chunk),
    "expected_gradients": lambda chunk: ExpectedGradients(samples=5, chunk=chunk).with_references(
        torch.rand(4, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    ),
}


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


@pytest.mark.parametrize("name", MANY)
def test_a_chunk_bounds_the_memory_of_maps_that_are_no_plain_mean(name, cnn, images, targets, keys):
    inputs = (cnn, *(torch.cat([part] * 3) for part in (images, targets, keys)))
    _, peak = memory(MANY[name](5), cnn, images, targets, keys)
    after, peak_of_more = memory(MANY[name](5), *inputs)
    whole, _ = memory(MANY[name](None), *inputs)
    assert after < 0.05 * whole
    assert peak_of_more < 1.2 * peak


def test_chunked_map_without_second_derivative_has_gradient_zero(linear, images, targets, keys):
    linear.requires_grad_(False)
    images.requires_grad_()
    maps = SmoothGrad(samples=5, chunk=4)(linear, images, targets, keys)
    (gradients,) = torch.autograd.grad(maps.sum(), images)
    assert torch.equal(gradients, torch.zeros_like(images))


@pytest.mark.parametrize("chunk", [1, 3, 7, None])
def test_no_image_is_passed_twice_or_left_out(chunk, cnn, images, targets, keys):
    sizes = []
    cnn.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    SmoothGrad(samples=4, chunk=chunk)(cnn, images, targets, keys)
    assert sum(sizes) == 20
    assert max(sizes) <= (chunk or 20)


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_gradient_passes_through_what_the_images_were_made_of(chunk, cnn, images, targets, keys):
    shift, leaf = torch.zeros_like(images, requires_grad=True), images.clone().requires_grad_()
    maps = [Saliency(chunk=chunk)(cnn, inputs, targets, keys).square().sum() for inputs in (images + shift, leaf)]
    torch.testing.assert_close(torch.autograd.grad(maps[0], shift), torch.autograd.grad(maps[1], leaf))
