"""Keeps secrets of the environment out of files, logs and tables: an error from a server may quote the key it was given."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from types import TracebackType

_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SHORTEST = 8
"""Shorter values would match ordinary text."""


def hidden(text: str) -> str:
    """The text with the value of each secret variable (such as WANDB_API_KEY, HF_TOKEN) replaced by `<WANDB_API_KEY>`."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and _NAMES.search(name):
            text = text.replace(value, f"<{name}>")
    return text


class HidingFormatter(logging.Formatter):
    """Formats log lines, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return hidden(super().format(record))


def hiding_excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error without secrets; for `sys.excepthook`."""
    sys.stderr.write(hidden("".join(traceback.format_exception(kind, error, trace))))
