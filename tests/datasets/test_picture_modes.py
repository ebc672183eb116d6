"""Pictures of every mode: deep ones are scaled by the range of their type, 8 bits stay, and transparency has a background."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.datasets.view import View

GREY = View(channels=1)


def png(kind: str, bits: int, line: tuple[int, ...], transparent: tuple[int, ...]) -> bytes:
    """One line of two pixels, given as bytes (as numbers of 16 bits); Pillow writes no such `tRNS`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", 2, 1, bits, 2 if kind == "colour" else 0, 0, 0, 0)
    pixels = b"\0" + struct.pack(f">{len(line)}{'H' if bits == 16 else 'B'}", *line)
    clear = struct.pack(f">{len(transparent)}H", *transparent)
    chunks = chunk(b"IHDR", head) + chunk(b"tRNS", clear) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(values: np.ndarray) -> bytes:
    """A grey picture (H, W), or with a second channel (H, W, 2), of any type; Pillow writes few."""
    channels, bits = values.shape[2] if values.ndim == 3 else 1, 8 * values.itemsize
    form = {"u": 1, "i": 2, "f": 3, "c": 6}[values.dtype.kind]
    entries = [
        *((256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, bits + (bits << 16) * (channels - 1))),
        *((259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, channels), (279, 4, values.nbytes)),
        (339, 3, form + (form << 16) * (channels - 1)),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    fields = [(tag, kind, start if tag == 273 else value) for tag, kind, value in entries]
    counts = {258: channels, 339: channels}
    directory = b"".join(struct.pack("<HHII", tag, kind, counts.get(tag, 1), value) for tag, kind, value in fields)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + bytes(4) + values.tobytes()


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


@pytest.mark.parametrize(
    ("dtype", "named"), [("f2", "float16"), ("f8", "float64"), ("c8", "complex64"), ("u8", "uint64"), ("i1", "int8")]
)
def test_a_tiff_of_a_type_that_pillow_lacks_is_refused_by_that_type(tmp_path: Path, dtype: str, named: str) -> None:
    (path := tmp_path / "a.tif").write_bytes(tiff(np.zeros((1, 2), dtype=f"<{dtype}")))
    with path.open("rb") as member:
        for file in (path, io.BytesIO(member.read())):
            with pytest.raises(
                ConfigError, match=rf"^dataset.root: cat/a.tif cannot .* \(a TIFF of {named}; read are grey"
            ):
                GREY.decode(file, "cat/a.tif")


def test_channels_that_pillow_lacks_are_named(tmp_path: Path) -> None:
    (path := tmp_path / "a.tif").write_bytes(tiff(np.zeros((1, 2, 2), dtype="<u2")))
    with pytest.raises(ConfigError, match=r"\(a TIFF of 2 channels of uint16; read are"):
        GREY.decode(path, "a.tif")
    path.write_bytes(b"II*\0\1")
    with pytest.raises(ConfigError, match=r"^dataset.root: a.tif cannot be read as an image \(a damaged TIFF\)$"):
        GREY.decode(path, "a.tif")


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


@pytest.mark.parametrize(
    ("kind", "bits", "line", "value", "solid"),
    [
        ("grey", 16, (25601, 25600), (25601,), 100),
        ("grey", 8, (100, 200), (100,), 200),
        ("grey", 4, (0x5A,), (5,), 170),
        ("grey", 2, (0b01100000,), (1,), 170),
        ("grey", 1, (0b01000000,), (0,), 255),
        ("colour", 16, (0, 25601, 65280, 25600, 25600, 25600), (0, 25601, 65280), 100),
        ("colour", 8, (1, 2, 3, 100, 100, 100), (1, 2, 3), 100),
    ],
)
def test_the_transparent_value_of_a_png_of_any_depth_lies_on_the_background(
    tmp_path: Path, kind: str, bits: int, line: tuple[int, ...], value: tuple[int, ...], solid: int
) -> None:
    (path := tmp_path / "a.png").write_bytes(png(kind, bits, line, value))
    assert View(background=0.2).decode(path, "a")[:, 0, :2].tolist() == [[51, solid]] * 3
    assert View(channels=1, background=0.2).decode(path, "a")[:, 0, :2].tolist() == [[51, solid]]
    assert View().decode(path, "a")[0, 0, 0] != 51


@pytest.mark.parametrize("background", [2, -0.1, (1, 1), "no colour", True, float("nan")])
def test_refuses_a_background_that_is_no_colour(background: Any) -> None:
    with pytest.raises(ConfigError, match=r"^dataset.background=.*must be null, a grey value"):
        View(background=background)
