"""How every run is executed: once, under a lock, with failures recorded."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner import tracking
from runner.core.activity import working_on
from runner.core.config import Config
from runner.core.errors import ConfigError, FailedEarlierError, StoreError, is_disk_error, reason
from runner.core.flags import raised, warn
from runner.core.profiling import profiled
from runner.core.secrets import HidingFormatter
from runner.runs.effort import measured
from runner.runs.fingerprint import code_of, fingerprint
from runner.runs.provenance import provenance
from runner.runs.run import UNNAMED, Run
from runner.store import replacement
from runner.store.files import write_text
from runner.store.folder import Folder
from runner.store.locks import held, locked

log = logging.getLogger(__name__)

Work = Callable[[Folder, tracking.Tracker], dict[str, Any]]


def run_once(run: Run, ready: Callable[[], object], work: Work) -> dict[str, Any]:
    """Execute `work` once and return its result. A failure is recorded in the folder and raised.

    `ready` loads what may be missing or invalid (data) before anything is written. If two processes want the same run, the second
    waits for the first and takes its result. A rerun keeps the old result until the new one is complete.
    Errors: `FailedEarlierError` for a failed run that the plan does not rerun.
    """
    ready()
    code = code_of(run)
    with locked(run.folder, lambda: log.info("waiting for another process to finish %s", run.folder)) as own:
        replacement.finish_replacing(run.folder)
        if (known := _kept_result(run)) is not None:
            return known
        old = own.finished()
        folder = replacement.rerun_folder(run.folder) if old else own
        replacement.resume_with(code, folder)
        write_text(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(_stated(run))))
        with _logging_to(folder.path / "run.log"), _recording_failure(run, folder), working_on(run.folder.name):
            made = _work(run, folder, work, code)
        if old:
            replacement.replace(run.folder)
        return made


def existing_result(run: Run) -> dict[str, Any] | None:
    """The result of a run that needs no work; also removes leftovers. None if there is work. Errors: `FailedEarlierError`."""
    known = _kept_result(run)
    if known is not None:
        log.info("%s is finished: %s", run.job.name, run.folder)
        warn(known.get("flags", {}))
        replacement.tidy(run.folder)
    return known


def _kept_result(run: Run) -> dict[str, Any] | None:
    """The result of a run that needs no work; None if there is work.

    A plan lists the results to replace by their stamps when it was made. A different stamp means that another process has done
    the work since (a task that started twice, two sweeps at once); then its outcome counts, success or failure.
    """
    planned = run.replaces
    if replacement.rerun_folder(run.folder).finished():
        return None  # a complete rerun that must be moved into place under the lock
    if planned is None:
        return run.result()
    if replacement.stamp(run.folder) == planned.get(run.identity):
        return None
    result, failure = run.result(), replacement.failure(run.folder)
    if failure is not None and (result is None or run.identity in planned):
        raise FailedEarlierError(failure)
    return result


def _stated(run: Run) -> Config:
    """The config as stored and as sent to W&B: without `rerun`, which only says why the run is executed now."""
    return {**run.config, "rerun": None}


def _work(run: Run, folder: Folder, work: Work, code: dict[str, str]) -> dict[str, Any]:
    log.info("%s begins: %s", run.job.name, run.folder)
    origin = provenance()
    watched = profiled(folder.path) if run.config.get("profile") else nullcontext()
    with (
        measured(folder, run.columns) as clock,
        watched,
        tracking.track(
            {key: value for key, value in run.config["tracking"].items() if key != "name"},
            job=run.job.name,
            identity=run.identity,
            name=folder.path.name,
            group=None if run.sweep == UNNAMED else run.sweep,
            config=_stated(run),
            provenance=origin,
            folder=folder.path,
        ) as tracker,
    ):
        content = work(folder, tracker)
        scalars = {key: value for key, value in content.items() if isinstance(value, int | float | str | bool)}
        tracker.summary({**scalars, "flags": ", ".join(raised(content.get("flags", {})))})
        warn(content.get("flags", {}))
    ended = {
        "job": run.job.name,
        **run.columns,
        **content,
        "seconds": clock.seconds,
        "finished": _now(),
        "provenance": origin,
        "fingerprint": fingerprint(run, code),
    }
    log.info("%s is done: %s", run.job.name, run.folder)
    return folder.record("ok", ended)


@contextmanager
def _recording_failure(run: Run, folder: Folder) -> Iterator[None]:
    """Record a failure with its traceback and raise it. An interruption, a full disk or a torn file is none: the state is kept."""
    try:
        yield
    except (ConfigError, StoreError):
        raise
    except Exception as error:
        if not is_disk_error(error):
            _record_failure(run, folder, reason(error), traceback.format_exc())
        raise


def record_death(run: Run, why: str) -> None:
    """Write `"status": "failed"` for a run whose process died, unless another process is working on it."""
    if held(run.folder):
        return
    with locked(run.folder) as folder:
        _record_failure(run, replacement.rerun_folder(run.folder) if folder.finished() else folder, why, "")


def _record_failure(run: Run, folder: Folder, why: str, trace: str) -> None:
    content = {"job": run.job.name, **run.columns, "error": why, "traceback": trace, "finished": _now()}
    folder.record("failed", content | {"provenance": provenance()})


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(HidingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")  # microseconds, so that no two times are equal
