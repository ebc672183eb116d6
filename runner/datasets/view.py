"""Turns an image file into an array of fixed size, so that photos of different sizes fit into one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from runner.core.errors import ConfigError, require, require_at_least

Fit = Literal["crop", "stretch"]
Channels = Literal[1, 3]
"""1 is grey, 3 is RGB."""
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class View:
    """The part of a photo that the model sees, `size` x `size` pixels (None: the file as it is).

    `crop` resizes the short side to `resize` pixels (None: to `size`) and crops the middle, as torchvision's Resize and CenterCrop
    do; `stretch` resizes to the square and ignores the aspect ratio. Filter: antialiased bilinear.
    """

    size: int | None = None
    resize: int | None = None
    fit: Fit = "crop"
    channels: Channels = 3

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_at_least("dataset.size", self.size, 1)
        if self.resize is not None:
            allowed = f"null or at least dataset.size={self.size}, with dataset.fit=crop"
            fits = self.size is not None and self.resize >= self.size and self.fit == "crop"
            require(fits, "dataset.resize", self.resize, allowed)

    def decode(self, file: str | Path | IO[bytes], name: str) -> Pixels:
        """(C, H, W) uint8. Errors: `ConfigError` naming a file that is not an image."""
        try:
            with Image.open(file) as opened:
                return self.arrange(opened)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ConfigError(f"dataset.root: {name} cannot be read as an image ({error})") from error

    def arrange(self, image: Image.Image) -> Pixels:
        """(C, H, W) uint8 of an open image."""
        image = image.convert("RGB" if self.channels == 3 else "L")
        if self.size is not None:
            image = (
                _stretch(image, self.size)
                if self.fit == "stretch"
                else _crop(image, self.size, self.resize or self.size)
            )
        pixels = np.asarray(image, dtype=np.uint8)
        return np.ascontiguousarray(pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1))


def _stretch(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _crop(image: Image.Image, size: int, short: int) -> Image.Image:
    width, height = image.size
    least = min(width, height)
    target = (short * width // least, short * height // least)
    if target != image.size:
        image = image.resize(target, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2.0) for side in target)
    return image.crop((left, top, left + size, top + size))
