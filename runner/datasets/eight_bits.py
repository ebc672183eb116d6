"""Any mode of picture as 8-bit grey or colour: by the range of its type, so that nothing is clipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from runner.core.errors import ConfigError, require
from runner.datasets.unread import READ

Background = float | str | Sequence[float]
_SIXTEEN, _THIRTY_TWO = 2**16 - 1, 2**31 - 1
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF: bits a sample, 0 where white is zero, 2 where numbers are signed."""
_HELD: Mapping[str, Callable[[int], int]] = {
    "L;2": lambda value: 85 * value,
    "L;4": lambda value: 17 * value,
    "RGB;16B": lambda value: value >> 8,
}
"""Pixels of a PNG that Pillow holds as other numbers than the file."""


def eight_bits(image: Image.Image, channels: int, background: Background | None) -> Image.Image:
    """`image` as RGB (`channels` 3) or grey (1), over `background` where it is transparent (None: alpha is dropped).

    Modes of 8 bits and fewer as torchvision's default loader has them, `convert`; deeper ones are scaled by their range.
    Errors: `ValueError` for numbers outside that range, or of a type that Pillow misreads.
    """
    if image.mode == "L" and _signed(image):
        raise ValueError(f"a TIFF of int8; {READ}")  # Pillow reads -1 as 255
    clear = None if background is None else _transparent(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _deep(image, clear)
    elif clear is not None:
        image = image.copy()
        image.info["transparency"] = clear
    if background is not None and image.has_transparency_data:
        below = Image.new("RGBA", image.size, colour(background))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    return image.convert("RGB" if channels == 3 else "L")


def colour(background: Background) -> tuple[int, ...]:
    """Red, green and blue, 0 to 255. Errors: `ConfigError` naming dataset.background."""
    allowed = "null, a grey value in [0, 1], three of them (red, green, blue), or the name of a colour (white, #ff8000)"
    if isinstance(background, str):
        try:
            return ImageColor.getrgb(background)[:3]
        except ValueError:
            raise ConfigError(f"dataset.background={background}: must be {allowed}") from None
    values = (background,) * 3 if isinstance(background, int | float) else tuple(background)
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 for value in values
    )
    require(numbers and len(values) == 3, "dataset.background", background, allowed)
    return tuple(round(255 * value) for value in values)


def _transparent(image: Image.Image) -> Any:
    """What `tRNS` of a PNG calls transparent, as its pixels are held; Pillow keeps the number of the file.

    Colours of 16 bits are held as their upper bytes, by which they are compared.
    """
    found = image.info.get("transparency")
    tiles = getattr(image, "tile", []) if image.format == "PNG" else []
    stored = str(tiles[0].args) if tiles else ""
    if found is None or stored not in _HELD:
        return found
    return tuple(map(_HELD[stored], found)) if isinstance(found, tuple) else _HELD[stored](found)


def _deep(image: Image.Image, clear: int | None) -> Image.Image:
    """Grey of 8 bits, with alpha where one value (`clear`) is transparent."""
    grey = Image.fromarray(_scaled(image))
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8)))
    return grey


def _scaled(image: Image.Image) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """(H, W): round(255 v / most) with the largest number of the type, 1 for floats."""
    values, most = np.asarray(image).astype(np.float64), _largest(image)
    if most == 2**32 - 1:
        values = values % 2**32  # Pillow reads unsigned numbers as signed ones
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= most):
        raise ValueError(f"its values go from {low:g} to {high:g}, not from 0 to {most}: save it with 8 bits")
    if most > _SIXTEEN and 0 < high * 255 / most < 0.5:
        raise ValueError(f"all of it is black: its values go to {high:g} of {most}: save it with 8 bits")
    if _tags(image).get(_PHOTOMETRIC) == 0:
        values = most - values  # white is zero; Pillow inverts only pictures of 8 bits
    return np.rint(values * (255.0 / most)).astype(np.uint8)


def _largest(image: Image.Image) -> int:
    """The number that is white: 1 for floats, else the largest of the file's own type (Pillow's `I` holds several)."""
    if image.mode == "F":
        return 1
    tags = _tags(image)
    if _BITS in tags:
        return int(2 ** (tags[_BITS][0] - _signed(image)) - 1)
    deep = image.mode == "I" and image.format not in {"PPM", "PNG"}
    return _THIRTY_TWO if deep else _SIXTEEN


def _signed(image: Image.Image) -> bool:
    return bool(_tags(image).get(_SAMPLE_FORMAT, (1,))[0] == 2)


def _tags(image: Image.Image) -> Mapping[int, Any]:
    return getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
