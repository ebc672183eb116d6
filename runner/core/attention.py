"""Runs attention so that it can be differentiated twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def twice_differentiable_attention() -> Iterator[None]:
    """Inside, attention runs as the products that define it, in this process and all of its threads.

    The fused kernels of `scaled_dot_product_attention` have no second derivative, and the fast path of
    `nn.MultiheadAttention` has no derivative at all; the gradient of an attribution needs both. First-order work pays about 5 %
    (a ViT-Ti of 224 x 224 pixels on a CPU).
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
