"""The top eigenvalue of the input Hessian of the cross-entropy, for piecewise linear logits.

That Hessian is W A W^T exactly, with W (d, K) the gradients of the logits and A = diag(p) - p p^T, p the probabilities
(Singla et al., ICML 2019). It does not depend on the label.

Shapes: N examples, K classes, d = C * H * W (H * W with averaged channels). logits, p (N, K); jacobian (N, K, C, H, W);
columns and factor (N, K, d), one row per class; gram (N, K, K), much smaller than the Hessian (d, d).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runner.defenses.modes import clean_pass


def top_eigenvalue(model: nn.Module, images: Tensor, channel_reduce: str = "none") -> Tensor:
    """(N,) top eigenvalue of the input Hessian of the cross-entropy, differentiable in the parameters.

    With q = sqrt(p), A = L L^T for L = diag(q) - p q^T, so the eigenvalue is that of M^T M with M = W L: no eigenvectors of
    A, no cancellation at confident predictions (the released recipe returns NaN gradients at a logit gap of 40).
    """
    with torch.enable_grad():
        leaf, logits = clean_pass(model, images)
        jacobian = _logit_gradients(logits, leaf)
    if channel_reduce == "mean":
        jacobian = jacobian.mean(dim=2, keepdim=True)
    columns = jacobian.flatten(2)
    log_probabilities = logits.log_softmax(dim=1)
    # rows of factor are sqrt(p_c) (w_c - sum_j p_j w_j): L^T W^T, whose Gram matrix has the eigenvalues of W A W^T
    mean = torch.einsum("nk,nkd->nd", log_probabilities.exp(), columns)
    factor = (log_probabilities / 2).exp().unsqueeze(2) * (columns - mean.unsqueeze(1))
    gram = factor @ factor.transpose(1, 2)
    if not gram.isfinite().all():  # eigvalsh would raise its own error and hide that the training diverged
        diverged: Tensor = gram.sum(dim=(1, 2))
        return diverged
    largest: Tensor = torch.linalg.eigvalsh(gram)[:, -1]
    return largest


def _logit_gradients(logits: Tensor, images: Tensor) -> Tensor:
    """(N, K, C, H, W) gradients of each logit, with the graph for a second derivative kept."""
    classes = range(logits.shape[1])
    return torch.stack([torch.autograd.grad(logits[:, c].sum(), images, create_graph=True)[0] for c in classes], dim=1)
