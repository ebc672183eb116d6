"""The command line around Hydra: one clear line and an exit code for bad input, a traceback for a failure of ours."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from runner.core.errors import ConfigError, StoreError, of_the_disk, one_line
from runner.core.secrets import hidden, hiding_excepthook
from runner.core.stopping import StopRequested

FULL_ERROR = "RUNNER_FULL_ERROR"
"""Environment variable: 1 shows the traceback of bad input too; set from HYDRA_FULL_ERROR."""


def main(run: Callable[[], None]) -> int:
    """Call a `hydra.main` function. Returns the exit code: 0 done, 1 a job failed or could not be composed, 2 bad input.

    A job that a signal stopped ends with 128 + its number: 143 for SIGTERM, 140 for SIGUSR2.
    HYDRA_FULL_ERROR=1 shows the full traceback of every error.
    """
    shown = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing, and exits are ours to decide
    os.environ.setdefault(FULL_ERROR, "1" if shown else "0")
    logging.raiseExceptions = shown  # a log that cannot be written stops nothing: what stops tells of the full disk
    try:
        with refusing():
            run()
    except KeyboardInterrupt:
        return _say("interrupted: the same command resumes where it stopped", 130)
    except StopRequested as stop:
        return _say(f"{stop}, its state is saved: the same command resumes where it stopped", 128 + stop.number)
    except (HydraException, OmegaConfBaseException) as error:
        if shown:
            raise
        refused = error.__cause__ if isinstance(error.__cause__, ConfigError) else error  # an option of a launcher
        told = one_line(refused)
        return _say(f"error: {told}{_options(told)}", 1)
    except ValueError as error:
        if shown or "Config group override" not in str(error):  # Hydra's own, for `group=null`
            raise
        return _say(f"error: {one_line(error)}: a group needs one of its options", 1)
    except Exception as error:
        if of_the_disk(error) and not shown:
            return _say(hidden(f"error: {error}: once that is mended, the same command resumes where it stopped"), 1)
        sys.excepthook = hiding_excepthook  # now, because W&B has put its own there meanwhile
        raise
    return 0


@contextmanager
def refusing() -> Iterator[None]:
    """Turn bad input into one line and exit code 2, before Hydra wraps it into a report on a failed job."""
    try:
        yield
    except (ConfigError, StoreError) as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        sys.exit(_say(f"error: {one_line(error)}", 2))


def _options(told: str) -> str:
    """The options of a group, where Hydra says only that a list of options holds one that it cannot load."""
    missing = re.search(r"Could not load '([\w/]+)/[^/]*'", told)
    folder = Path(os.environ.get("RUNNER_ROOT", ".")) / "conf" / (missing[1] if missing else "")
    names = sorted(path.stem for path in folder.glob("*.yaml")) if missing else []
    return f" available in '{folder.name}': {' '.join(names)}" if names else ""


def _say(line: str, code: int) -> int:
    sys.stderr.write(line + "\n")
    return code
