"""An upper bound on the gradient of a network's output over all images, from its layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError

_FREQUENCIES = 32
_CONTRACTIONS = (nn.ReLU, nn.Softplus, nn.Tanh, nn.Flatten, nn.Identity, nn.Dropout)
"""1-Lipschitz in l2 (dropout in eval mode)."""


def gradient_bound(
    model: nn.Module, images: Tensor, targets: Tensor, output: Literal["logit", "probability"]
) -> Tensor:
    """(N,) float64 with ||d output_target / d image||_2 <= bound at every image, for a chain of layers that ends in a Linear.

    The product of the layers' operator norms, and of the last layer's row w_c for a logit. For a probability,
    dp_c = p_c sum_j p_j (w_c - w_j) is at most p_c (1 - p_c) max_j ||w_c - w_j|| <= max_j ||w_c - w_j|| / 4.
    Errors: `ConfigError` for a layer without a known bound, and for a network that is more than its chain of layers (functions
    between them), which is seen on the images (N, C, H, W): then `certificate.gradient_bound` must be given.
    """
    chain: list[Any] = list(_chain(model))
    *body, last = chain
    if not _is(last, nn.Linear):
        raise _unknown(last)
    _require_chain(model, chain, images)
    rows = last.weight.detach().double()
    lengths: Tensor = rows[targets].norm(dim=1)
    if output == "probability":
        lengths = (rows[targets].unsqueeze(1) - rows).norm(dim=2).amax(dim=1) / 4.0
    return lengths * math.prod(_norm(layer) for layer in body)


def _chain(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested sequences, and of a classifier: its normalisation and its network."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _chain(child)
    elif isinstance(getattr(module, "normalise", None), nn.Module) and hasattr(module, "network"):
        yield from (module.normalise, *_chain(module.network))  # type: ignore[misc, arg-type]
    else:
        yield module


def _require_chain(model: nn.Module, chain: Sequence[nn.Module], images: Tensor) -> None:
    """Refuse a model whose logits are not those of its layers one after the other, up to rounding."""
    with torch.no_grad():
        logits, values = model(images), images
        try:
            for layer in chain:
                values = layer(values)
        except (RuntimeError, ValueError, TypeError):  # a layer that does not follow on the one before it
            raise _unknown(model) from None
    if values.shape != logits.shape or not torch.allclose(values, logits, rtol=1e-4, atol=1e-5):
        raise _unknown(model)


def _is(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether the layer computes what torch's layers of these kinds do: no forward of its own, and no hooks."""
    changed = "forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks
    same = any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in kinds)
    return same and not changed


def _norm(layer: Any) -> float:
    """An upper bound of the layer's Lipschitz constant in l2."""
    if _is(layer, *_CONTRACTIONS):
        return 1.0
    if _is(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    if _is(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        return convolution_norm(layer.weight.detach().double())
    if _is(layer, nn.BatchNorm2d) and layer.running_var is not None and layer.weight is not None:
        return float((layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()).abs().max())
    apart = {"padding": 0, "dilation": 1, "ceil_mode": False, "divisor_override": None}
    pools = _is(layer, nn.MaxPool2d, nn.AvgPool2d) and layer.kernel_size == layer.stride
    if pools and all(getattr(layer, key, value) == value for key, value in apart.items()):
        sides = layer.kernel_size if isinstance(layer.kernel_size, tuple) else (layer.kernel_size,) * 2
        return 1.0 if isinstance(layer, nn.MaxPool2d) else 1.0 / math.sqrt(math.prod(sides))
    if isinstance(getattr(layer, "std", None), Tensor) and isinstance(getattr(layer, "mean", None), Tensor):
        probe = torch.linspace(0.0, 1.0, 7, dtype=layer.std.dtype, device=layer.std.device).reshape(7, 1, 1, 1)
        if torch.allclose(layer(probe), (probe - layer.mean) / layer.std):
            return float(1.0 / layer.std.double().abs().min())
    raise _unknown(layer)


def convolution_norm(weight: Tensor) -> float:
    """Upper bound of the operator norm of a zero-padded convolution of any stride, weight (out, in, h, w), at any size.

    Zero padding and strides only restrict the convolution on the infinite plane, whose norm is the supremum over
    frequencies of the norms of the (out, in) transfer matrices (Sedghi et al. 2019). On a grid of N frequencies a
    trigonometric polynomial of degree n misses its maximum by at most the factor cos(pi n / N) (M. Riesz).
    """
    sides = weight.shape[2:]
    frequencies = max(_FREQUENCIES, 4 * max(sides))
    transfer = torch.fft.fft2(weight, (frequencies, frequencies)).permute(2, 3, 0, 1)
    missed = math.prod(math.cos(math.pi * (side // 2) / frequencies) for side in sides)
    return float(torch.linalg.matrix_norm(transfer, 2).max()) / missed


def _unknown(layer: nn.Module) -> ConfigError:
    return ConfigError(
        f"certificate.gradient_bound=null: the gradient of a network with {type(layer).__name__} here cannot be bounded "
        "from its layers; must be a number that bounds it, or choose model=mlp or model=small_cnn"
    )
