"""Passes of frozen networks whose second derivatives cost less: 1.25 times (small CNN), 1.34 (ResNet-20), 3.1 (EfficientNet-Lite0).

Attacks differentiate a network two times, and never in its parameters. torch's functions are intercepted as the network calls them
(`torch.overrides.TorchFunctionMode`), so modules, hooks and twins stay as they are, and a call that does not fit is left to torch.
Values of the layers keep every bit. Derivatives differ from torch's by rounding where there are softplus or batch normalisations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from runner.core.frozen_layers import Convolution, Normalisation, Softplus

_SATURATED = 20.0
"""Threshold of `F.softplus`, from which its slope is 1 in float32."""
_PRECISIONS = (torch.float32, torch.float64)
_saved_tensor_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
"""Hooks such as those of `torch.utils.checkpoint`, which must see the tensors that torch saves; torch 2.8 and later can tell."""


def cheap_derivatives(model: nn.Module) -> AbstractContextManager[Any]:
    """For every pass that a map is made of; without effect if a parameter requires a gradient.

    A single derivative costs as much as torch's, but a map must be the same to the last bit whether it is differentiated or not:
    a search starts at its clean map, where a distance from it is zero.
    """
    frozen = not any(parameter.requires_grad for parameter in model.parameters())
    return FrozenPasses() if frozen else nullcontext()


class FrozenPasses(TorchFunctionMode):
    """Replaces convolutions, batch normalisations and softplus, where autograd records them for their images alone."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the function returns, with the same value and the same derivatives in the images."""
        rule = _RULES.get(function)
        found = None if rule is None else rule(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {})) if found is None else found


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    if input.dim() != 4 or isinstance(padding, str) or not _differentiated(input, weight, bias):
        return None
    found: Tensor = Convolution.apply(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-untyped-call]
    return found


def _normalisation(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_var is None or not _differentiated(input, running_mean, running_var, weight, bias):
        return None
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    options = (running_mean, running_var, weight, bias, False, momentum, eps)
    found: Tensor = Normalisation.apply(input, scale, *options)  # type: ignore[no-untyped-call]
    return found


def _softplus(input: Tensor, beta: float = 1.0, threshold: float = _SATURATED) -> Tensor | None:
    exact = threshold == _SATURATED and _differentiated(input) and input.dtype == torch.float32
    return Softplus.apply(input, float(beta)) if exact else None  # type: ignore[no-untyped-call]


def _differentiated(images: Tensor, *fixed: Tensor | None) -> bool:
    """Whether autograd records this call for the images alone, in one precision, and nothing else of torch takes part in it."""
    return (
        torch.is_grad_enabled()
        and type(images) is Tensor
        and images.requires_grad
        and images.dtype in _PRECISIONS
        and not images.is_meta
        and all(_constant(tensor, images.dtype) for tensor in fixed if tensor is not None)
        and not torch.is_autocast_enabled(images.device.type)
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and _saved_tensor_hooks is not None
        and _saved_tensor_hooks(False) is None
    )


def _constant(tensor: Tensor, precision: torch.dtype) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and not tensor.requires_grad and tensor.dtype == precision


_RULES: Mapping[Any, Callable[..., Tensor | None]] = {
    torch.conv2d: _convolution,
    F.batch_norm: _normalisation,
    F.softplus: _softplus,
}
