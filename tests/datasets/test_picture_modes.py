"""Pictures of every mode: deep ones are scaled by the range of their type, 8 bits stay, and transparency has a background."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.datasets.view import View

GREY = View(channels=1)


def saved(path: Path, values: Any, dtype: str, **options: Any) -> Path:
    Image.fromarray(np.array([values], dtype=dtype)).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "dtype", "values"),
    [
        ("png", "<u2", (0, 257 * 100, 65535)),
        ("tif", "<u2", (0, 257 * 100, 65535)),
        ("tif", ">u2", (0, 257 * 100, 65535)),
        ("pgm", "<u2", (0, 257 * 100, 65535)),
        ("tif", "<i4", (0, round((2**31 - 1) * 100 / 255), 2**31 - 1)),
        ("tif", "<f4", (0.0, 100 / 255, 1.0)),
    ],
)
def test_deep_pictures_are_scaled_by_the_range_of_their_type(
    tmp_path: Path, suffix: str, dtype: str, values: tuple[float, ...]
) -> None:
    path = saved(tmp_path / f"deep.{suffix}", values, dtype)
    assert GREY.decode(path, "deep").tolist() == [[[0, 100, 255]]]
    assert View().decode(path, "deep").tolist() == [[[0, 100, 255]]] * 3


def test_unsigned_32_bits_and_white_is_zero(tmp_path: Path) -> None:
    unsigned = saved(tmp_path / "u.tif", (0, 2**31 - 1, -1), "<i4")
    tag = b"\x53\x01\x03\x00\x01\x00\x00\x00"  # the format of a sample, one short
    unsigned.write_bytes(unsigned.read_bytes().replace(tag + b"\x02", tag + b"\x01"))
    assert GREY.decode(unsigned, "u").tolist() == [[[0, 127, 255]]]
    inverted = saved(tmp_path / "w.tif", (0, 65535), "<u2", tiffinfo={262: 0})
    assert GREY.decode(inverted, "w").tolist() == [[[255, 0]]]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [("<f4", (0.0, 1.5)), ("<f4", (-0.1, 1.0)), ("<f4", (0.0, np.nan)), ("<i4", (-1, 5)), ("<i4", (0, 200))],
)
def test_numbers_without_a_scale_are_refused_by_file(tmp_path: Path, dtype: str, values: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^dataset.root: cat/a.tif cannot be .*values go (from|to)[^\n]*8 bits\)$"):
        GREY.decode(saved(tmp_path / "a.tif", values, dtype), "cat/a.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_eight_bits_are_what_torchvision_loads(tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    path = tmp_path / "one.tif"
    (image := Image.fromarray(pixels).convert("RGB" if mode in {"CMYK", "YCbCr", "P"} else "RGBA").convert(mode)).save(
        path
    )
    loaded = torchvision().datasets.folder.default_loader(str(path))
    assert np.array_equal(View().decode(path, "one"), np.asarray(loaded).transpose(2, 0, 1))
    assert np.array_equal(View().arrange(image), np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_an_exif_orientation_is_ignored_as_torchvision_does(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (7, 3)).save(tmp_path / "turned.jpg", exif=exif)
    assert View().decode(tmp_path / "turned.jpg", "turned").shape == (3, 3, 7)


@pytest.mark.parametrize(
    ("background", "expected"),
    [
        (None, (10, 20, 30)),
        (1.0, (255, 255, 255)),
        (0, (0, 0, 0)),
        ((1.0, 0.0, 0.2), (255, 0, 51)),
        ("#ff8000", (255, 128, 0)),
    ],
)
def test_transparent_pixels_lie_on_the_background(background: Any, expected: tuple[int, ...]) -> None:
    clear, solid = Image.new("RGBA", (1, 1), (10, 20, 30, 0)), Image.new("RGBA", (1, 1), (10, 20, 30, 255))
    assert tuple(View(background=background).arrange(clear).ravel()) == expected
    assert tuple(View(background=background).arrange(solid).ravel()) == (10, 20, 30)


@pytest.mark.parametrize("background", [2, -0.1, (1, 1), "no colour", True, float("nan")])
def test_refuses_a_background_that_is_no_colour(background: Any) -> None:
    with pytest.raises(ConfigError, match=r"^dataset.background=.*must be null, a grey value"):
        View(background=background)
