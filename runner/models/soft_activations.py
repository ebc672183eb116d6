"""Smooth forms of piecewise linear activations, put in their place while a network runs.

s(x) = log(1 + exp(beta x)) / beta takes the place of ReLU, and each other form is made of s so that it tends to its
activation as beta grows. Functions and methods of torch are intercepted (`torch.overrides.TorchFunctionMode`), so it does not
matter how a network calls its activations. What no function of torch names (`x * (x > 0)`, scripted modules) stays as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from runner.core.errors import ConfigError, require
from runner.core.interception import ACTIVE, only

RELU6_LEAST_BETA = 10.0
_RELU6_WIDTH = 6.0

Soft = Callable[[Tensor, float], Tensor]
"""(values, beta) -> values of the smooth form."""


class SoftplusReLU6(nn.Module):
    """s(x) - s(x - 6): tends to ReLU6 as beta grows."""

    def __init__(self, beta: float) -> None:
        """`beta` of the softplus."""
        super().__init__()
        self.beta = float(beta)

    def forward(self, values: Tensor) -> Tensor:
        """Elementwise."""
        return F.softplus(values, self.beta) - F.softplus(values - 6.0, self.beta)


class Softened:
    """The forward pass of a module, with soft activations."""

    def __init__(self, forward: Callable[..., Any], beta: float, everywhere: bool) -> None:
        self.forward, self.beta, self.everywhere = forward, beta, everywhere

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """What the module returns."""
        if ACTIVE.get() is not None:  # that of the module around this one
            return self.forward(*inputs, **options)
        mode = SoftActivations(self.beta, self.everywhere)
        with mode, only(mode):
            return self.forward(*inputs, **options)


class SoftActivations(TorchFunctionMode):
    """While entered, piecewise linear activations have their smooth form, in place where they are called in place.

    `everywhere`: softplus activations get this `beta` too. Only floating-point values are changed, and no parameters.
    Errors: `ConfigError` for ReLU6 with a beta below 10, which makes a network predict noise, and for an activation without a
    smooth form.
    """

    def __init__(self, beta: float, everywhere: bool) -> None:
        super().__init__()
        self.beta, self.everywhere = beta, everywhere

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The smooth form of an activation; every other function is called as it is."""
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        rule = _RULES.get(name.strip("_"))  # F.threshold is called _threshold
        unseen = ACTIVE.get() is not self or "out" in kwargs or not (args or "input" in kwargs)
        if rule is None or unseen:
            return function(*args, **kwargs)
        values, *options = (kwargs.pop("input"), *args) if "input" in kwargs else args
        given = _signature(rule).bind(values, *options, **kwargs).arguments
        in_place = bool(given.pop("inplace", False)) or name.endswith("_")
        soft = rule(**given) if _smoothable(values) else None
        if name == "softplus" and self.everywhere:
            soft = F.softplus
        if soft is None:
            return function(values, *options, **kwargs)
        return values.copy_(soft(values.clone(), self.beta)) if in_place else soft(values, self.beta)


_signature = lru_cache(maxsize=None)(inspect.signature)


def _smoothable(values: object) -> bool:
    return isinstance(values, Tensor) and values.is_floating_point() and not isinstance(values, nn.Parameter)


def _relu(values: Tensor, inplace: bool = False) -> Soft:
    return F.softplus


def _softplus(values: Tensor, beta: float = 1.0, threshold: float = 20.0) -> None:
    """Smooth already."""


def _leaky_relu(values: Tensor, negative_slope: float | Tensor = 0.01, inplace: bool = False) -> Soft:
    return lambda values, beta: negative_slope * values + (1 - negative_slope) * F.softplus(values, beta)


def _prelu(values: Tensor, weight: Tensor) -> Soft:
    slopes = weight if weight.numel() == 1 else weight.reshape(1, -1, *[1] * (values.dim() - 2))
    return _leaky_relu(values, slopes)


def _rrelu(
    values: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Soft:
    if training:
        raise _without_form("rrelu in training mode, which draws its slopes")
    return _leaky_relu(values, (lower + upper) / 2)


def _hardtanh(values: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Soft:
    return partial(_soft_clamp, low=min_val, high=max_val)


def _relu6(values: Tensor, inplace: bool = False) -> Soft:
    return _hardtanh(values, 0.0, 6.0)


def _hardsigmoid(values: Tensor, inplace: bool = False) -> Soft:
    return lambda values, beta: _soft_clamp(values, beta, -3.0, 3.0) / 6 + 0.5


def _hardswish(values: Tensor, inplace: bool = False) -> Soft:
    return lambda values, beta: values * (_soft_clamp(values, beta, -3.0, 3.0) / 6 + 0.5)


def _softshrink(values: Tensor, lambd: float = 0.5) -> Soft:
    return lambda values, beta: F.softplus(values - lambd, beta) - F.softplus(-values - lambd, beta)


def _hardshrink(values: Tensor, lambd: float = 0.5) -> Soft:
    raise _without_form("hardshrink, which jumps")


def _threshold(values: Tensor, threshold: float, value: float, inplace: bool = False) -> Soft:
    if threshold != value:
        raise _without_form("threshold with another value than its threshold, which jumps")
    return lambda values, beta: threshold + F.softplus(values - threshold, beta)


def _clamp(values: Tensor, min: object = None, max: object = None) -> Soft | None:
    """Clamps to an interval, and those at 0 from one side; another one-sided bound keeps a number from becoming too small."""
    if isinstance(min, int | float) and isinstance(max, int | float) and min < max:
        return partial(_soft_clamp, low=float(min), high=float(max))
    if max is None and isinstance(min, int | float) and min == 0:
        return F.softplus
    if min is None and isinstance(max, int | float) and max == 0:
        return lambda values, beta: -F.softplus(-values, beta)
    return None


def _clamp_min(values: Tensor, min: object) -> Soft | None:
    return _clamp(values, min=min)


def _clamp_max(values: Tensor, max: object) -> Soft | None:
    return _clamp(values, max=max)


def _maximum(values: Tensor, other: object = None, *rest: object, **options: object) -> Soft | None:
    """The larger of the values and zeros."""
    if not isinstance(other, Tensor) or other.requires_grad or other.is_meta:
        return None
    zeros = other.shape in (values.shape, torch.Size()) and not bool(other.any())
    return F.softplus if zeros else None


def _soft_clamp(values: Tensor, beta: float, low: float, high: float) -> Tensor:
    """low + s(x - low) - s(x - high): tends to clamp(x, low, high). Narrower than ReLU6, its beta grows by 6 / (high - low)."""
    if (low, high) == (0.0, 6.0):
        allowed = f"at least {RELU6_LEAST_BETA:g} for a network of ReLU6, which predicts noise below"
        require(beta >= RELU6_LEAST_BETA, "attack.beta", beta, allowed)
        return F.softplus(values, beta) - F.softplus(values - 6.0, beta)
    beta = beta * max(1.0, _RELU6_WIDTH / (high - low))
    return low + F.softplus(values - low, beta) - F.softplus(values - high, beta)


def _without_form(what: str) -> ConfigError:
    return ConfigError(
        f"attack.beta: the network uses {what}: no softplus form tends to it; take an attack without a twin"
    )


_RULES: Mapping[str, Callable[..., Soft | None]] = {
    "relu": _relu,
    "softplus": _softplus,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "rrelu": _rrelu,
    "hardtanh": _hardtanh,
    "relu6": _relu6,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "softshrink": _softshrink,
    "hardshrink": _hardshrink,
    "threshold": _threshold,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "maximum": _maximum,
    "max": _maximum,
}
"""By the name of the function or method, without the underscore of its in-place form."""
