"""Turns an image file into an array of fixed size, so that photos of different sizes fit into one tensor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from runner.core.errors import ConfigError, require, require_at_least
from runner.datasets.eight_bits import Background, colour, eight_bits
from runner.datasets.unread import unread

T = TypeVar("T")
Fit = Literal["crop", "stretch"]
Channels = Literal[1, 3]
"""1 is grey, 3 is RGB."""
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class View:
    """The part of a photo that the model sees, `size` x `size` pixels (None: the file as it is).

    `crop` resizes the short side to `resize` pixels (None: to `size`) and crops the middle, as torchvision's Resize and CenterCrop
    do; `stretch` resizes to the square and ignores the aspect ratio. Filter: antialiased bilinear. Transparent pixels are laid over
    `background` (None: alpha is dropped, as torchvision's default loader does), and an EXIF orientation is ignored, as there.
    """

    size: int | None = None
    resize: int | None = None
    fit: Fit = "crop"
    channels: Channels = 3
    background: Background | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_at_least("dataset.size", self.size, 1)
        if self.background is not None:
            colour(self.background)
        if self.resize is not None:
            allowed = f"null or at least dataset.size={self.size}, with dataset.fit=crop"
            fits = self.size is not None and self.resize >= self.size and self.fit == "crop"
            require(fits, "dataset.resize", self.resize, allowed)

    def decode(self, file: str | Path | IO[bytes], name: str) -> Pixels:
        """(C, H, W) uint8. Errors: `ConfigError` naming a file that is no image, is cut, or is over Pillow's pixel limit."""
        return opened(file, name, self.arrange)

    def arrange(self, image: Image.Image) -> Pixels:
        """(C, H, W) uint8 of an open image."""
        image = eight_bits(image, self.channels, self.background)
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


def opened(file: str | Path | IO[bytes], name: str, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of an image file. Errors: `ConfigError` naming the file, in one line."""
    try:
        with open(file, "rb") if isinstance(file, str | Path) else nullcontext(file) as content:
            return use(_identified(content))
    except Exception as error:  # a broken file raises anything in Pillow, from struct.error to IndexError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"dataset.root: {name} cannot be read as an image ({reason})") from error


def _identified(content: IO[bytes]) -> Image.Image:
    try:
        return Image.open(content)
    except UnidentifiedImageError:
        raise ValueError(unread(content)) from None
