"""Black-box maps: outputs of the model on partly masked images, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.attributions.baseline import Baseline, level_image, levels
from runner.attributions.passes import Output
from runner.core.chunking import passes
from runner.core.errors import require_at_least

Masks = Callable[[slice, int, int], Tensor]
"""(examples, first, count) -> (n or 1, count, 1, H, W) bool: kept pixels, for masks first .. first+count-1."""


@dataclass(frozen=True, kw_only=True)
class MaskingOptions:
    """`output`: the compared output. `baseline`: value of masked pixels, one number or one per channel.

    `chunk`: largest number of images in one forward pass, null for all; affects only memory and rounding.
    """

    output: Output = "logit"
    baseline: Baseline = 0.0
    chunk: int | None = None
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        levels(self.baseline)
        require_at_least("attribution.chunk", self.chunk, 1)

    def scores(self, model: nn.Module, images: Tensor, targets: Tensor, masks: Masks, count: int) -> Tensor:
        """(N, count) outputs of the targets (N,), for each image under each of its `count` masks.

        Errors: `ConfigError` when `baseline` does not match the images' number of channels.
        """
        scores, baseline = images.new_empty(len(images), count), level_image(self.baseline, images)
        with torch.no_grad():
            for part, first, number in passes(len(images), count, self.chunk):
                chosen = images[part].unsqueeze(1)
                places = torch.where(masks(part, first, number), chosen, baseline).flatten(0, 1)
                logits = model(places)
                outputs = logits if self.output == "logit" else logits.softmax(dim=1)
                own = targets[part].repeat_interleave(number).unsqueeze(1)
                scores[part, first : first + number] = outputs.gather(1, own).reshape(-1, number)
        return scores
