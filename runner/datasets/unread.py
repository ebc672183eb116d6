"""Why Pillow cannot read a picture, in words for the line that refuses it."""

from __future__ import annotations

from typing import IO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

READ = (
    "read are grey of uint8, uint16, int16, uint32, int32 and float32, grey with alpha of uint8, "
    "and colours of uint8 and uint16: save it with 8 bits"
)
"""Types of TIFF."""
_BITS, _FORMAT = 258, 339
"""Tags of TIFF: bits of each channel, and what kind of number they are."""
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}


def unread(file: IO[bytes]) -> str:
    """Why Pillow cannot tell what a file is: the type of a TIFF's numbers, or that it is no picture."""
    file.seek(0)
    start = file.read(8)
    if start[:4] not in (b"II*\0", b"MM\0*"):
        return "no format that Pillow reads" if start else "the file is empty"
    try:
        tags = ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
        bits, form = tags[_BITS], tags.get(_FORMAT, (1,))[0]
    except Exception:  # a broken file raises anything in Pillow
        return "a damaged TIFF"
    channels = f"{len(bits)} channels of " if len(bits) > 1 else ""
    return f"a TIFF of {channels}{_KINDS.get(form, 'unknown ')}{bits[0]}; {READ}"
