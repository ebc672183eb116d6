"""The command line of this process, as a user would type it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

PROGRAM = "attribution-robustness"
"""The console script of the installed package."""


def command() -> str:
    """This command, written as `python run.py ...` or `attribution-robustness ...` however it was started."""
    return shlex.join([*_program(), *sys.argv[1:]])


def command_with(override: str, without: tuple[str, ...] = ()) -> str:
    """This command with `override`, ready to paste into a shell; overrides of the same key and of `without` are removed."""
    dropped = (_key_of(override), *without)
    given = [text for text in sys.argv[1:] if _key_of(text) not in dropped]
    end = max((place for place, text in enumerate(given, 1) if "=" in text and text[0] != "-"), default=len(given))
    return shlex.join(
        [*_started(), *given[:end], override, *given[end:]]
    )  # Hydra needs its overrides next to each other


def stated(keys: Iterable[str]) -> dict[str, str]:
    """The values of these keys as they were typed in this command; null, which takes a value back, is none."""
    typed = dict(text.lstrip("+").split("=", 1) for text in sys.argv[1:] if "=" in text)
    return {key: typed[key] for key in keys if typed.get(key, "null") != "null"}


def _started() -> list[str]:
    """How this process was started: the interpreter and the script as they were typed, or the console script."""
    typed = sys.orig_argv[: -len(sys.argv[1:]) or None]
    as_typed = [*typed, *sys.argv[1:]] == sys.orig_argv and sys.argv[0] in typed
    return typed if as_typed and not _is_script() else _program()


def _program() -> list[str]:
    return [PROGRAM] if _is_script() else ["python", "run.py"]


def _is_script() -> bool:
    return Path(sys.argv[0]).name == PROGRAM


def _key_of(text: str) -> str:
    return text.split("=", 1)[0].lstrip("+~")
