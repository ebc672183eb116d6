"""Layers of a frozen network as autograd functions: the values of torch's own, and derivatives that cost less.

torch's second backward pass of a convolution also forms a gradient of the weights, whether wanted or not; that of a softplus
computes its sigmoid anew at each order; that of a batch normalisation is written for statistics of the batch. The functions here
can be differentiated any number of times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn.grad import conv2d_input


class Convolution(Function):
    """(images (N, C, H, W), weight, bias, stride, padding, dilation, groups) as `F.conv2d`, with a gradient in the images only."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
        """The values of torch."""
        ctx.save_for_backward(weight)
        ctx.shape, ctx.options = images.shape, options
        return F.conv2d(images, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        """The gradient in the first argument."""
        return _ConvolutionBackward.apply(upstream, *ctx.saved_tensors, ctx.shape, *ctx.options), *[None] * 6  # type: ignore[no-untyped-call]


class _ConvolutionBackward(Function):
    """Linear in the upstream gradient; its own gradient is the convolution without the bias."""

    @staticmethod
    def forward(ctx: Any, upstream: Tensor, weight: Tensor, shape: torch.Size, *options: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.options = options
        found: Tensor = conv2d_input(shape, weight, upstream, *options)
        return found

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return Convolution.apply(upstream, *ctx.saved_tensors, None, *ctx.options), *[None] * 6  # type: ignore[no-untyped-call]


class Normalisation(Function):
    """(images, scale (C,), arguments of `F.batch_norm` after the images): fixed statistics, so the slope is the scale."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, scale: Tensor, *options: Any) -> Tensor:
        """The values of torch."""
        ctx.save_for_backward(scale.reshape(-1, *[1] * (images.dim() - 2)))
        ctx.count = len(options)
        return F.batch_norm(images, *options)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        """The gradient in the first argument."""
        (scale,) = ctx.saved_tensors
        return upstream * scale, *[None] * (1 + ctx.count)


class Softplus(Function):
    """(values, beta): log(1 + exp(beta x)) / beta. Its slope, sigmoid(beta x), is computed once for all orders.

    In float32, that is 1 where `F.softplus` takes the identity, beta x > 20.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, beta: float) -> Tensor:
        """The values of torch."""
        ctx.save_for_backward(values, (beta * values).sigmoid_())
        ctx.beta = beta
        return F.softplus(values, beta)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        """The gradient in the first argument."""
        return _SoftplusBackward.apply(upstream, *ctx.saved_tensors, ctx.beta), None  # type: ignore[no-untyped-call]


class _SoftplusBackward(Function):
    """upstream * slope; the slope's own derivative is beta * slope * (1 - slope)."""

    @staticmethod
    def forward(ctx: Any, upstream: Tensor, values: Tensor, slope: Tensor, beta: float) -> Tensor:
        ctx.save_for_backward(upstream, values, slope)
        ctx.beta = beta
        return upstream * slope

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        inner, values, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of third order, in which the slope is no constant
            slope = torch.sigmoid(ctx.beta * values)
        bend = torch.ops.aten.sigmoid_backward(upstream * inner, slope)
        return upstream * slope, bend.mul_(ctx.beta), None, None
