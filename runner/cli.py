"""The command line around Hydra: one clear line and an exit code for bad input, a traceback for failures of this project."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.core import found_by
from runner.core.conf import conf, options
from runner.core.errors import ConfigError, NotFiniteError, StoreError, is_disk_error, one_line, require
from runner.core.secrets import hidden, hiding_excepthook
from runner.core.signals import StopRequested

FULL_ERROR = "RUNNER_FULL_ERROR"
"""Environment variable, set from HYDRA_FULL_ERROR: 1 shows tracebacks for bad input too."""


NOTHING = ("certificate=null", "experiment=null")
"""Groups of which a config may have no option; Hydra itself refuses null for a group on the command line."""


HYDRAS = ("hydra.launcher", "hydra.sweeper")
"""Nodes of Hydra that are mappings; it says of another value only that it is not iterable."""


def main(run: Callable[[], None]) -> int:  # noqa: PLR0911
    """Call a `hydra.main` function. Returns the exit code: 0 done, 1 a job failed or could not be composed, 2 bad input.

    A job that a signal stopped returns 128 + the signal's number: 143 for SIGTERM, 140 for SIGUSR2.
    HYDRA_FULL_ERROR=1 shows the full traceback of every error.
    """
    shown = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    os.environ.setdefault(FULL_ERROR, "1" if shown else "0")
    OmegaConf.register_new_resolver("config_groups", _groups, replace=True)  # for conf/hydra/help
    found_by.register()  # for --cfg job --resolve
    logging.raiseExceptions = (
        shown  # a log that cannot be written (full disk) stops nothing; the store's own write will report it
    )
    sys.argv[1:] = tidied(sys.argv[1:])
    try:
        with refusing():
            refuse_choices(sys.argv[1:])
            run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as `| head -1`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _say("interrupted: the same command resumes where it stopped", 130)
    except StopRequested as stop:
        return _say(f"{stop}, its state is saved: the same command resumes where it stopped", 128 + stop.number)
    except (HydraException, OmegaConfBaseException) as error:
        if shown:
            raise
        if isinstance(error, OverrideParseException):
            key, _, value = error.override.partition("=")
            return _say(
                f"error: {key}={value}: cannot be read; quote text with such characters, as \"{key}='{value}'\"", 1
            )
        shown_error = found_by.refusal(error) or error  # an option of a launcher, or what an image folder lacks
        text = one_line(shown_error)
        return _say(f"error: {text}{_options(text)}", 1)
    except ValueError as error:
        if shown or "Config group override" not in str(error):  # Hydra's own, for `group=null`
            raise
        return _say(f"error: {one_line(error)}: a group needs one of its options", 1)
    except Exception as error:
        text = _without_traceback(error)
        if text and not shown:
            return _say(hidden(text), 1)
        sys.excepthook = hiding_excepthook  # set here because W&B may have replaced it
        raise
    return 0


def tidied(arguments: list[str]) -> list[str]:
    """Arguments as Hydra reads them: `-m` anywhere comes first, and `certificate=null` leaves that group out."""
    flags = [text for text in arguments if text in ("-m", "--multirun")]
    others = [text for text in arguments if text not in flags]
    return flags[:1] + [f"~{text[:-5]}" if text in NOTHING else text for text in others]


def refuse_choices(arguments: list[str]) -> None:
    """Refuse a choice of a group that is no name, as `attack=null` or `metrics=[1]`, of which Hydra does not say where it stands.

    Errors: `ConfigError` naming the group.
    """
    for text in arguments:
        key, _, value = text.lstrip("+").partition("=")
        allowed = options(key.partition("@")[0]) if key else []
        hydras = key == "hydra" or key.startswith("hydra/")
        if text[:1] in ("~", "-") or not value or not (allowed or hydras or key in HYDRAS):
            continue
        (chosen,) = (override.value() for override in OverridesParser.create().parse_overrides([text]))
        if key in HYDRAS:
            require(isinstance(chosen, dict), key, value, f"its settings, as {key}.KEY=VALUE")
            continue
        names = chosen if isinstance(chosen, list) else getattr(chosen, "list", [chosen])  # or the choices of a sweep
        told = "the name of one of its options" if hydras else f"one of {', '.join(allowed)}"
        require(not any(isinstance(name, int | float | None) for name in names), key, value, told)


def _without_traceback(error: Exception) -> str:
    """The line for a failure whose cause is known, so that a traceback adds nothing; empty for other failures."""
    if is_disk_error(error):
        return f"error: {error}: once that is fixed, the same command resumes where it stopped"
    return f"error: {error}" if isinstance(error, NotFiniteError) else ""


@contextmanager
def refusing() -> Iterator[None]:
    """Turn bad input into one line and exit code 2, before Hydra reports it as a failed job."""
    try:
        yield
    except (ConfigError, StoreError) as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        sys.exit(_say(f"error: {one_line(error)}", 2))


def _groups() -> str:
    """The groups of `conf/` with their options, a line each. What options share (`GROUP/base`) is no option."""
    found = {folder.name: options(folder.name) for folder in sorted(conf().iterdir())}
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in found.items() if names)


def _options(text: str) -> str:
    """The available options of a group, which Hydra's message leaves out when one of a list of options is unknown."""
    missing = re.search(r"Could not load '([\w/]+)/[^/]*'", text)
    names = options(missing[1]) if missing else []
    return f" available in '{missing[1].split('/')[-1]}': {' '.join(names)}" if missing and names else ""


def _say(line: str, code: int) -> int:
    sys.stderr.write(line + "\n")
    return code
