"""Grad-CAM: the feature maps of one layer, each weighted by its mean gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner.attributions.passes import Output, leaves, logits_at, summed
from runner.core.errors import ConfigError, require, require_at_least


@dataclass(frozen=True, kw_only=True)
class GradCam:
    """relu(sum_k w_k A_k), w_k = the mean over positions of d f_c / d A_k (Selvaraju et al., 2017, equations 1 and 2).

    `layer` is the name of the module whose output is A, as PyTorch names it; null is the last convolution that the
    forward pass calls. `relu: false` keeps negative evidence. The map is enlarged to the image size bilinearly.
    """

    output: Output = "logit"
    layer: str | None = None
    relu: bool = True
    chunk: int | None = None
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least("attribution.chunk", self.chunk, 1)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W): each channel has an equal share, and their sum is the map. `keys` are not used.

        Errors: `ConfigError` for a layer that does not exist, or whose output is not a feature map.
        """
        channels = images.shape[1]

        def one_pass(chosen: Tensor, part: slice, _: int, __: int, create_graph: bool) -> Tensor:
            with torch.enable_grad():
                flat = leaves(chosen.unsqueeze(1), create_graph)
                with self._watched(model) as seen:
                    logits = logits_at(model, flat)
                features = self._features(seen)
                scores = logits if self.output == "logit" else logits.softmax(dim=1)
                score = scores.gather(1, targets[part].unsqueeze(1)).sum()
                (slopes,) = torch.autograd.grad(score, features, create_graph=create_graph)
                map_ = (slopes.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True)
                map_ = map_.relu() if self.relu else map_
            return F.interpolate(map_, images.shape[2:], mode="bilinear", align_corners=False)

        maps = summed(model, images, 1, self.chunk, one_pass)
        return maps.expand(-1, channels, -1, -1) / channels

    def inspect(self, model: nn.Module, images: Tensor) -> bool:
        """True. Errors: `ConfigError` for a network without the layer."""
        with self._watched(model) as seen, torch.no_grad():
            model(images)
        self._features(seen)
        return True

    @contextmanager
    def _watched(self, model: nn.Module) -> Iterator[list[Tensor]]:
        """The outputs of the layer, or of all convolutions, in call order; the hooks are removed afterwards."""
        named = dict(model.named_modules())
        if self.layer is not None and self.layer not in named:
            raise ConfigError.choice("attribution.layer", self.layer, [name for name in named if name])
        watched = [m for m in named.values() if isinstance(m, nn.Conv2d)] if self.layer is None else [named[self.layer]]
        seen: list[Tensor] = []
        handles = [module.register_forward_hook(lambda _, __, result: seen.append(result)) for module in watched]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _features(self, seen: list[Tensor]) -> Tensor:
        needed = "the name of a layer with feature maps" + (": this model has no convolution" if not seen else "")
        require(bool(seen) and seen[-1].dim() == 4, "attribution.layer", self.layer or "null", needed)
        return seen[-1]
