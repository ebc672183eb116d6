"""Rotation, shift and recolouring of images, differentiable in their parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.core.errors import require

Padding = Literal["zeros", "border", "reflection"]


@dataclass(frozen=True)
class Limits:
    """The limits of a transform: rotation in degrees, shift in pixels along each axis, relative gain of each channel.

    Parameters are shares in [-1, 1] of these, (N, 3 + C): rotation (anticlockwise), shift down, shift right, gains.
    """

    rotation: float
    shift: float
    colour: float

    def __post_init__(self) -> None:
        for name, most in (("rotation", 180.0), ("shift", math.inf), ("colour", 1.0)):
            value = getattr(self, name)
            require(0 <= value <= most, f"attack.{name}", value, f"from 0 to {most:g}")
        largest = max(self.rotation, self.shift, self.colour)
        require(largest > 0, "attack.rotation", 0, "above 0, or attack.shift or attack.colour is")

    def allowed(self, channels: int) -> list[bool]:
        """Which of the 3 + C parameters have an effect: those whose limit is not 0."""
        return [self.rotation > 0, self.shift > 0, self.shift > 0, *[self.colour > 0] * channels]

    def apply(self, images: Tensor, parameters: Tensor, padding: Padding) -> Tensor:
        """Images (N, C, H, W) in [0, 1], rotated, shifted, recoloured and clamped; zeros leave the image unchanged."""
        gains = 1 + self.colour * parameters[:, 3:]
        moved = _resample(images, *self._motion(parameters), padding)
        still = (parameters == 0).all(dim=1).reshape(-1, 1, 1, 1)
        return torch.where(still, images, (moved * gains[:, :, None, None]).clamp(0.0, 1.0))

    def undo(self, maps: Tensor, parameters: Tensor) -> Tensor:
        """Maps (N, H, W) of moved images, moved back; zero outside the image."""
        angle, shift = self._motion(parameters)
        back = _rotated(shift, angle)
        still = (parameters[:, :3] == 0).all(dim=1).reshape(-1, 1, 1)
        return torch.where(still, maps, _resample(maps.unsqueeze(1), -angle, -back, "zeros").squeeze(1))

    def _motion(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Angles (N,) in radians and shifts (N, 2) in pixels, down and right."""
        return parameters[:, 0] * math.radians(self.rotation), parameters[:, 1:3] * self.shift


def _resample(images: Tensor, angle: Tensor, shift: Tensor, padding: str) -> Tensor:
    """Images rotated anticlockwise about their centre by `angle`, then shifted, with bilinear interpolation."""
    height, width = images.shape[2:]
    source = -_rotated(shift, angle)
    cos, sin = angle.cos(), angle.sin()
    # rows: where along x and along y of the source a target pixel is read, axes scaled to [-1, 1]
    along_x = torch.stack((cos, -sin * height / width, source[:, 1] * 2 / width), dim=1)
    along_y = torch.stack((sin * width / height, cos, source[:, 0] * 2 / height), dim=1)
    grid = F.affine_grid(torch.stack((along_x, along_y), dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _rotated(shift: Tensor, angle: Tensor) -> Tensor:
    """Shifts (N, 2), down and right, in the axes of the image before it was turned."""
    down, right = shift[:, 0], shift[:, 1]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((sin * right + cos * down, cos * right - sin * down), dim=1)
