"""The softplus twin of a model: the same weights, but activations with a second derivative.

ReLU networks have zero second derivative almost everywhere, so gradients of their attributions vanish; Dombrowski et
al. (NeurIPS 2019) and Ghorbani et al. (AAAI 2019) take them from a twin with softplus_beta(x) = log(1 + exp(beta x)) /
beta, which approaches ReLU as beta grows. torch's softplus is linear where beta x > 20; there the true second derivative is
below beta * 2e-9, which float32 cannot resolve next to the others.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional as F

from runner.core.errors import ConfigError, require, require_positive
from runner.models.parts import Activation, make_activation

RELU6_LEAST_BETA = 10.0
_PIECEWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU),
    *(nn.Hardtanh, nn.Threshold, nn.Hardshrink, nn.Softshrink, nn.Hardsigmoid),
)
_SMOOTH = (
    *(nn.Softplus, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Sigmoid, nn.Tanh, nn.LogSigmoid),
    *(nn.Softsign, nn.Tanhshrink, nn.Hardswish, nn.Softmax, nn.LogSoftmax, nn.MultiheadAttention),
)


class SoftplusReLU6(nn.Module):
    """softplus_beta(x) - softplus_beta(x - 6): tends to ReLU6 as beta grows."""

    def __init__(self, beta: float) -> None:
        """`beta` of the softplus."""
        super().__init__()
        self.beta = float(beta)

    def forward(self, values: Tensor) -> Tensor:
        """Elementwise."""
        return F.softplus(values, self.beta) - F.softplus(values - 6.0, self.beta)


def softplus_twin(model: nn.Module, beta: float) -> nn.Module:
    """A copy of `model` with every ReLU and ReLU6 smoothed, which shares the model's parameters and buffers.

    The training mode and smooth activations are kept. Make it after `model.to(device)`, which replaces buffers.
    Errors: `ConfigError` for a beta that is not positive (ReLU6: below 10), or an activation without a smooth form.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return replace_activations(copy.deepcopy(model, dict(shared)), "softplus", beta, "attack.beta")


def replace_activations(model: nn.Module, kind: Activation, beta: float, key: str = "model.beta") -> nn.Module:
    """Change the ReLU and ReLU6 of `model`, in place, to fresh out-of-place ones or their softplus; returns the result.

    `key` is the place of `beta` in the config. Errors: `ConfigError` as for `softplus_twin`.
    """
    require_positive(key, beta)
    if isinstance(model, _PIECEWISE):
        return _replacement(model, kind, beta, key)
    for parent in list(model.modules()):
        # not named_children, which lists a module that is used in two places only once
        for name, child in list(parent._modules.items()):
            if isinstance(child, _PIECEWISE):
                setattr(parent, name, _replacement(child, kind, beta, key))
    return model


def has_second_derivative(model: nn.Module) -> bool:
    """Whether any activation of the model has a second derivative; if not, second-order attacks get only zeros.

    Activations must be modules, as everywhere in this package: functional ones cannot be seen.
    """
    return any(isinstance(module, (*_SMOOTH, SoftplusReLU6)) for module in model.modules())


def _replacement(module: nn.Module, kind: Activation, beta: float, key: str) -> nn.Module:
    new = make_activation(kind, beta)
    if type(module) is nn.ReLU6:
        allowed = f"at least {RELU6_LEAST_BETA:g} for a network of ReLU6, which predicts noise below"
        require(kind != "softplus" or beta >= RELU6_LEAST_BETA, key, beta, allowed)
        new = SoftplusReLU6(beta) if kind == "softplus" else nn.ReLU6()
    elif type(module) is not nn.ReLU:
        name = type(module).__name__
        raise ConfigError(f"model._target_: its activation {name} has no softplus form; only ReLU and ReLU6 have one")
    return new.train(module.training)
