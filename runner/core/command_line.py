"""The command line of this process, as a user would type it."""

from __future__ import annotations

import shlex
import sys


def command() -> str:
    """This command, written as `python run.py ...` however it was started."""
    return shlex.join(["python", "run.py", *sys.argv[1:]])


def command_with(override: str, without: tuple[str, ...] = ()) -> str:
    """This command with `override`, ready to paste into a shell; overrides of the same key and of `without` are removed."""
    dropped = (_key_of(override), *without)
    given = [text for text in sys.argv[1:] if _key_of(text) not in dropped]
    end = max((place for place, text in enumerate(given, 1) if "=" in text and text[0] != "-"), default=len(given))
    typed = sys.orig_argv[: -len(sys.argv[1:]) or None]
    started = typed if [*typed, *sys.argv[1:]] == sys.orig_argv and sys.argv[0] in typed else ["python", "run.py"]
    return shlex.join([*started, *given[:end], override, *given[end:]])  # Hydra needs its overrides next to each other


def _key_of(text: str) -> str:
    return text.split("=", 1)[0].lstrip("+~")
