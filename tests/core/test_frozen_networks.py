"""Whatever a user's network does inside its pass, frozen passes give torch's values and derivatives."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from runner.core.frozen_passes import FrozenPasses

WEIGHT = torch.linspace(-1, 1, 36, dtype=torch.float64).reshape(2, 2, 3, 3).requires_grad_(False)


class Function(nn.Module):
    """A network of one function of images (N, 2, 8, 8)."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.modules_used = function, nn.ModuleList(modules)

    def forward(self, images):
        return self.function(images, *self.modules_used).flatten(1)


def convolved(**options):
    return nn.Conv2d(2, 2, 3, **options)


def autocast(images, convolution):
    with torch.autocast("cpu", torch.bfloat16):
        return F.softplus(convolution(images).float())


def layer(images, *modules):
    return F.softplus(nn.Sequential(*modules)(images), 2.0)


def twice(images, convolution):
    return convolution(F.softplus(convolution(images)))


NETWORKS = {
    "functional": lambda: Function(lambda x: F.softplus(F.conv2d(x, WEIGHT, padding=(1, 0), stride=2), beta=3)),
    "keywords": lambda: Function(lambda x: F.softplus(F.conv2d(input=x, weight=WEIGHT, dilation=[2], groups=1))),
    "one image": lambda: Function(lambda x: torch.stack([F.softplus(F.conv2d(one, WEIGHT)) for one in x])),
    "shared module": lambda: Function(twice, convolved(padding=1)),
    "groups and padding": lambda: Function(layer, convolved(groups=2, padding=2, padding_mode="reflect", dilation=2)),
    "channels last": lambda: Function(layer, convolved(padding=1)).to(memory_format=torch.channels_last),
    "transposed": lambda: Function(layer, nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Conv2d(3, 2, 2, stride=3)),
    "in training mode": lambda: Function(layer, convolved(), nn.BatchNorm2d(2).train()),
    "without statistics": lambda: Function(layer, convolved(), nn.BatchNorm2d(2, track_running_stats=False)),
    "inner checkpoint": lambda: Function(lambda x, f: F.softplus(checkpoint(f, x, use_reentrant=False)), convolved()),
    "scripted": lambda: Function(layer, torch.jit.trace(convolved().double(), torch.rand(1, 2, 8, 8).double())),
    "autocast": lambda: Function(autocast, convolved()),
    "hooks": lambda: Function(layer, hooked(convolved())),
    "parametrised": lambda: Function(layer, nn.utils.parametrizations.weight_norm(convolved())),
}


def hooked(module):
    module.register_forward_hook(lambda _, inputs, output: 2 * output)
    module.register_full_backward_hook(lambda _, inputs, outputs: (3 * inputs[0],))
    return module


def slopes(model, images, within):
    """The values, the gradient of their squares, and the gradient of its squares."""
    leaf = images.clone().requires_grad_()
    with within:
        values = model(leaf)
    (first,) = torch.autograd.grad(values.square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    return values.detach(), first.detach(), second


@pytest.mark.filterwarnings("ignore:.torch.jit.trace.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_equal_and_derivatives_up_to_rounding(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().requires_grad_(False)
    dtype = torch.float32 if name == "autocast" else torch.float64  # autocast leaves float64 as it is
    model = model if name == "scripted" else model.to(dtype)
    images = torch.randn(3, 2, 8, 8, dtype=dtype).to(memory_format=torch.channels_last)
    plain, cheap = slopes(model, images, nullcontext()), slopes(model, images, FrozenPasses())
    assert torch.equal(plain[0], cheap[0])
    for one, other in zip(plain[1:], cheap[1:], strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("trained", ["weight", "bias"])
def test_a_parameter_that_requires_a_gradient_gets_it(trained):
    torch.manual_seed(0)
    model = Function(layer, convolved(), nn.BatchNorm2d(2).eval()).double().requires_grad_(False)
    chosen = [getattr(module, trained).requires_grad_() for module in model.modules_used]
    images, found = torch.randn(3, 2, 8, 8).double().requires_grad_(), []
    for within in (nullcontext(), FrozenPasses()):
        with within:
            values = model(images)
        found.append(torch.autograd.grad(values.square().sum(), chosen))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)
