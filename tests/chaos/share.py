"""How much of the chaos is done in one call: CHAOS_SHARE=2/3 is the second of three shares; all of it without."""

import os


def read(text: str) -> tuple[int, int]:
    """(which, of how many). Errors: `ValueError`."""
    part, parts = map(int, text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError(f"CHAOS_SHARE={text}: must be a share such as 1/3, 2/3 or 3/3")
    return part, parts


SHARE = read(os.environ.get("CHAOS_SHARE") or "1/1")
