"""The softplus twin of a model: the same weights, but activations with a second derivative.

ReLU networks have zero second derivative almost everywhere, so gradients of their attributions vanish; Dombrowski et
al. (NeurIPS 2019) and Ghorbani et al. (AAAI 2019) take them from a twin with softplus_beta(x) = log(1 + exp(beta x)) /
beta, which approaches ReLU as beta grows. torch's softplus is linear where beta x > 20; there the true second derivative is
below beta * 2e-9, which float32 cannot resolve next to the others.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from runner.core.errors import require, require_positive
from runner.models.parts import Activation, make_activation
from runner.models.soft_activations import RELU6_LEAST_BETA, Softened, SoftplusReLU6


def softplus_twin(model: nn.Module, beta: float, everywhere: bool = False) -> nn.Module:
    """A copy of `model` that shares its parameters and buffers, with every piecewise linear activation smoothed.

    Activations are found when the network calls them, as modules, functions or methods (`runner.models.soft_activations`). Smooth
    ones are kept; with `everywhere`, softplus ones get this `beta` too. The training mode is kept. Make it after
    `model.to(device)`, which replaces buffers. Errors: `ConfigError` for a beta that is not positive; when the twin is called, for
    ReLU6 and a beta below 10, and for an activation without a smooth form.
    """
    require_positive("attack.beta", beta)
    shared = {id(tensor): tensor for module in model.modules() for tensor in _tensors(module)}
    twin = copy.deepcopy(model, dict(shared))
    for module in twin.modules():  # each, since attributions also call layers by themselves
        forward = module.forward
        if isinstance(forward, Softened):
            if not everywhere:
                return twin  # a smooth network is its own twin
            forward = forward.forward
        module.forward = Softened(forward, float(beta), everywhere)
    return twin


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters, buffers and other tensors of a module, which a copy cannot or should not repeat."""
    plain = [value for value in vars(module).values() if isinstance(value, Tensor)]
    return [*module.parameters(recurse=False), *module.buffers(recurse=False), *plain]


def has_second_derivative(model: nn.Module, images: Tensor) -> bool:
    """Whether logits have a second derivative at the images (N, C, H, W), along one random direction of each.

    If not, attacks with second-order gradients get only zeros. The network is asked, whatever its activations are. An operation
    whose second derivative torch does not have counts as none.
    """
    try:
        return bool((_curvature(model, images) != 0).any())
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        return False


def _curvature(model: nn.Module, images: Tensor) -> Tensor:
    """Hessian times a random vector, of a random combination of the logits, at each image."""
    leaf = images.detach().clone().requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        logits = model(leaf)
        weights = torch.randn(logits.shape, generator=generator).to(logits)
        (slopes,) = torch.autograd.grad((logits * weights).sum(), leaf, create_graph=True)
        if not slopes.requires_grad:
            return torch.zeros_like(images)
        along = (slopes * torch.randn(slopes.shape, generator=generator).to(slopes)).sum()
        (curvature,) = torch.autograd.grad(along, leaf, allow_unused=True, materialize_grads=True)
    return curvature


def replace_activations(model: nn.Module, kind: Activation, beta: float) -> nn.Module:
    """Change the ReLU and ReLU6 modules of `model`, in place, to fresh out-of-place ones or their softplus; returns it.

    For `model.activation` of networks that other packages build. Errors: `ConfigError` naming model.beta.
    """
    require_positive("model.beta", beta)
    for parent in list(model.modules()):
        # not named_children, which lists a module that is used in two places only once
        for name, child in list(parent._modules.items()):
            if type(child) in (nn.ReLU, nn.ReLU6):
                setattr(parent, name, _replacement(child, kind, beta))
    return model


def _replacement(module: nn.Module | None, kind: Activation, beta: float) -> nn.Module:
    if type(module) is nn.ReLU:
        return make_activation(kind, beta)
    if kind == "relu":
        return nn.ReLU6()
    allowed = f"at least {RELU6_LEAST_BETA:g} for a network of ReLU6, which predicts noise below"
    require(beta >= RELU6_LEAST_BETA, "model.beta", beta, allowed)
    return SoftplusReLU6(beta)
