"""What a network must give for images, asked of every network that is handed in: from the command line and from Python."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError


def classes_of(model: nn.Module, images: Tensor, where: str) -> int:
    """How many classes the model knows, asked with images (N, C, H, W), which may be on the meta device.

    `where` begins the messages: `model=own`. Errors: `ConfigError` unless it gives finite logits (N, K) of at least two classes
    and leaves the images as they are; whatever the model itself raises.
    """
    shown = images.clone()  # of its own, as a model may write into it
    before = shown._version
    with torch.no_grad():
        logits = model(shown)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        found = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ConfigError(f"{where}: must give logits (N, classes) for N images, not {found} for {len(images)}")
    if shown._version != before or not (images.is_meta or torch.equal(shown, images)):
        raise ConfigError(f"{where}: writes into its input; must leave it as it is: x = x - mean, not x -= mean")
    count = int(logits.shape[1])
    if count < 2:  # the largest of one logit is always the first: no change of class would be seen
        allowed = "of two classes or more: torch.cat([-z, z], dim=1) for one logit z"
        raise ConfigError(f"{where}: gives logits (N, {count}); must be {allowed}")
    if not (logits.is_meta or bool(logits.isfinite().all())):
        raise ConfigError(f"{where}: gives logits that are NaN or inf; must be finite: look at its weights")
    return count
