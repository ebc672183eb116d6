"""The top eigenvalue of the input Hessian by power iteration, at a cost that does not depend on the number of classes.

For piecewise-linear logits the Hessian of the cross-entropy is H = J^T A J, with J the Jacobian of the logits and
A = diag(p) - p p^T (Singla et al., ICML 2019). So H v needs one product with J and one with J^T, and v^T H v is the variance
under p of the slopes J v of the logits.

Shapes: N examples, K classes. Directions v and J^T z (N, C, H, W), or (N, 1, H, W) for a grey shift; logits, p, cotangents z
and slopes J v (N, K); eigenvalues (N,).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.defenses.modes import clean_pass

TINY = 1e-30


def top_eigenvalue_by_iteration(
    model: nn.Module, images: Tensor, rounds: int, channel_reduce: str = "none", start: Tensor | None = None
) -> Tensor:
    """(N,) v^T H v for the unit v after `rounds` products with H: at most the top eigenvalue; differentiable in the parameters.

    v is detached, as in the gradient of an eigenvalue: that of v^T H v with v held fixed. `start` (N, C, H, W) is the first
    v, with C = 1 for `channel_reduce: mean` (the Hessian of a grey shift, as in `top_eigenvalue`). Without one it is the
    input gradient of the loss at the predicted class, to which the top eigenvector becomes parallel at confident predictions.
    """
    jacobian = _Jacobian.of(model, images, channel_reduce)
    log_p = jacobian.logits.log_softmax(dim=1)
    fixed = log_p.detach()
    predicted = torch.zeros_like(fixed).scatter_(1, fixed.argmax(dim=1, keepdim=True), 1.0)
    first = _curve(predicted, fixed)  # A e = p_e (e - p), the gradient in the logits but for a factor
    direction = _unit(start) if start is not None else _unit(jacobian.pull(first))
    for _ in range(rounds):
        direction = _unit(jacobian.pull(_curve(jacobian.push(direction), fixed)))
    return _centred(jacobian.push(direction, differentiable=True), log_p).square().sum(dim=1)


@dataclass(frozen=True)
class _Jacobian:
    """Products with J and J^T on one graph: J v is the derivative in z of J^T z along v, so no forward pass is repeated."""

    shift: Tensor
    logits: Tensor
    dual: Tensor
    pulled: Tensor

    @classmethod
    def of(cls, model: nn.Module, images: Tensor, channel_reduce: str) -> _Jacobian:
        """Of the logits in the images; in a grey shift of them, divided by the channels, for `mean`."""
        with torch.enable_grad():
            if channel_reduce == "mean":
                shift = torch.zeros_like(images[:, :1]).requires_grad_(True)
                logits: Tensor = model(images.detach() + shift / images.shape[1])
            else:
                shift, logits = clean_pass(model, images)
            # J^T z is linear in z, so its value at z = 0 is 0 and its derivative in z along v is J v
            dual = torch.zeros_like(logits).requires_grad_(True)
            (pulled,) = torch.autograd.grad(logits, shift, dual, create_graph=True)
        return cls(shift, logits, dual, pulled)

    def push(self, direction: Tensor, differentiable: bool = False) -> Tensor:
        """J v (N, K)."""
        with torch.set_grad_enabled(differentiable):
            (slopes,) = torch.autograd.grad(
                self.pulled, self.dual, direction, retain_graph=True, create_graph=differentiable
            )
        return slopes

    def pull(self, cotangent: Tensor) -> Tensor:
        """J^T z (N, C, H, W)."""
        (direction,) = torch.autograd.grad(self.logits, self.shift, cotangent, retain_graph=True)
        return direction


def _centred(slopes: Tensor, log_p: Tensor) -> Tensor:
    """L^T w (N, K) for A = L L^T, L = diag(q) - p q^T and q = sqrt(p): its squares sum to the variance of w under p."""
    mean = (log_p.exp() * slopes).sum(dim=1, keepdim=True)
    return (log_p / 2).exp() * (slopes - mean)


def _curve(slopes: Tensor, log_p: Tensor) -> Tensor:
    """A w (N, K), scaled to a largest entry of 1.

    As L (L^T w): at a confident prediction p (w - p.w) loses the entry of the predicted class to rounding. Without the
    scaling, squares of the product with J^T underflow there.
    """
    centred = _centred(slopes, log_p)
    root = (log_p / 2).exp()
    curved = root * centred - log_p.exp() * (root * centred).sum(dim=1, keepdim=True)
    return curved / curved.abs().amax(dim=1, keepdim=True).clamp_min(TINY)


def _unit(directions: Tensor) -> Tensor:
    """Each example (C, H, W) divided by its l2 norm; zero stays zero."""
    norms: Tensor = torch.linalg.vector_norm(directions, dim=(1, 2, 3), keepdim=True)
    return directions / norms.clamp_min(TINY)
