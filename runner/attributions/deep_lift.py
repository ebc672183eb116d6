"""DeepLIFT with the rescale rule: contributions of the pixels' differences from a baseline to the difference of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner.attributions.baseline import level_image, levels
from runner.attributions.linearity import require_rules
from runner.attributions.propagation import Call, Ruled, record, replay, secant, with_slope
from runner.attributions.saliency import Saliency
from runner.core.errors import require_at_least
from runner.core.grid import Number


@dataclass(frozen=True, kw_only=True)
class DeepLift:
    """(x - b) * m, m the multipliers from the logit to the image (Shrikumar et al., 2017, section 3.5.1).

    An activation multiplies the signal by (f(z) - f(z_b)) / (z - z_b), z_b its input for the baseline image b, or by f' if the two
    are equal; this holds for ReLU and for the softplus of a twin. Affine layers keep their gradient. Max-pooling assigns the
    difference of its outputs to the pixel of the larger of the two maxima, as in SHAP and Captum; the paper leaves this open. So
    the maps sum to f_c(x) - f_c(b). They explain the logit, without the softmax, as the paper advises.
    `baseline`: one number, or one per channel, in [0, 1]. Without `multiply_by_input`, m alone.
    """

    multiply_by_input: bool = True
    baseline: Number | Sequence[Number] = 0.0
    chunk: int | None = None
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least("attribution.chunk", self.chunk, 1)
        levels(self.baseline)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """(N, C, H, W) signed maps; `keys` are not used. The baseline adds one image to each pass.

        Errors: `ConfigError` naming a layer without a rule, or a baseline with another number of channels.
        """
        baseline = level_image(self.baseline, images)

        def run(places: Tensor) -> Tensor:
            calls, references = record(model, places), record(model, baseline.expand_as(places[:1]))
            paired = dict(zip(calls, references, strict=True))
            return replay(model, places, calls, lambda call, *signal: _rule(call, paired[call], *signal))

        multipliers = Saliency(chunk=self.chunk)(Ruled(model, run), images, targets, keys)
        return multipliers * (images - baseline) if self.multiply_by_input else multipliers

    def inspect(self, model: nn.Module, images: Tensor) -> bool:
        """True. Errors: `ConfigError` naming a layer without a rule, or a baseline with another number of channels."""
        level_image(self.baseline, images)
        require_rules(model, images)
        return True


def _rule(call: Call, reference: Call, inputs: Tensor, outputs: Tensor) -> Tensor:
    if call.kind == "activation":
        return with_slope(outputs, inputs, secant(call.module.forward, call.inputs, reference.inputs))
    if call.kind == "maximum":
        return _maximum(call, reference, inputs, outputs)
    return outputs


def _maximum(call: Call, reference: Call, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Max-pooling whose whole difference comes from one pixel of each window: that of the larger of the two maxima."""
    here, there = _winners(call), _winners(reference).expand_as(outputs)
    gain = call.outputs - reference.outputs
    winner = torch.where(gain >= 0, here, there).flatten(2)
    pixels, own, other = (
        values.flatten(2).expand(len(inputs), -1, -1).gather(2, winner).reshape(outputs.shape)
        for values in (inputs, call.inputs, reference.inputs)
    )
    same = (here == there) | (own == other)
    shares = torch.where(same, 1.0, gain / (own - other).where(~same, 1.0))
    return with_slope(outputs, pixels, shares)


def _winners(call: Call) -> Tensor:
    """(n, C, H', W') flat index, in H * W, of the largest value of each window."""
    pool, options = call.module, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    chosen = {name: getattr(pool, name) for name in options}
    return F.max_pool2d(call.inputs.detach(), **chosen, return_indices=True)[1]
