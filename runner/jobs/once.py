"""The one way in which every run is done: once, under a lock, with its failure written down."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner import tracking
from runner.core import renewal
from runner.core.board import working_on
from runner.core.errors import ConfigError, FailedEarlierError, of_the_disk, reason
from runner.core.identity import Config
from runner.core.provenance import provenance
from runner.core.secrets import HidingFormatter
from runner.core.store import Folder, held, locked, write_text
from runner.jobs.cells import UNNAMED, Cell, cell_of, finished
from runner.jobs.fingerprint import code_of, seal
from runner.jobs.inputs import inputs

log = logging.getLogger(__name__)

Work = Callable[[Folder, tracking.Tracker], dict[str, Any]]


def do_once(cell: Cell, config: Config, ready: Callable[[], object], work: Work) -> dict[str, Any]:
    """The result of a cell: the finished one, or that of `work` now. A failure is recorded in the folder and raised.

    `ready` loads what may be missing or unfit (data), before anything is written. Two processes that want the same cell do
    it once: the second waits for the first and takes its result. A finished cell that `rerun` replaces is made again; its
    result stays until the new one is whole. Errors: `FailedEarlierError` for a failure that a plan leaves alone.
    """
    if (known := _standing(cell, config)) is not None:
        log.info("%s is finished: %s", cell.job, cell.folder)
        renewal.tidy(cell.folder)
        return known
    ready()
    code = code_of(cell.job, config)
    with locked(cell.folder, lambda: log.info("waiting for another process to finish %s", cell.folder)) as own:
        renewal.settle(cell.folder)
        if (known := _standing(cell, config)) is not None:
            return known
        old = own.finished()
        folder = renewal.beside(cell.folder) if old else own
        renewal.resume_with(code, folder)
        told = {**config, "rerun": None}
        write_text(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(told)))
        with _logging_to(folder.path / "run.log"), _recording_failure(cell, folder), working_on(cell.folder.name):
            made = _work(cell, told, folder, work, code)
        if old:
            renewal.replace(cell.folder)
        return made


def _standing(cell: Cell, config: Config) -> dict[str, Any] | None:
    """The result that a cell has and keeps; None where there is work to do.

    A plan says in `rerun` what it replaces: the stamp of each run as it was planned. Whoever finds another stamp comes after
    somebody who did that work (a task that starts twice, two sweeps at once) and takes what that came to, good or bad.
    """
    planned = config.get("rerun")
    if renewal.beside(cell.folder).finished():
        return None  # whole, and not in its place yet: for the holder of the lock
    if planned is None:
        return finished(cell, config)
    if renewal.stamp(cell.folder) == planned.get(cell.identity):
        return None
    result, failure = finished(cell, config), renewal.failure(cell.folder)
    if failure is not None and (result is None or cell.identity in planned):
        raise FailedEarlierError(failure)
    return result


def _work(cell: Cell, config: Config, folder: Folder, work: Work, code: dict[str, str]) -> dict[str, Any]:
    log.info("%s begins: %s", cell.job, cell.folder)
    began, origin = time.perf_counter(), provenance()
    settings = {key: value for key, value in config["tracking"].items() if key != "name"}
    with tracking.track(
        settings,
        job=cell.job,
        identity=cell.identity,
        name=folder.path.name,
        group=None if config["sweep"] == UNNAMED else config["sweep"],
        config=config,
        provenance=origin,
        folder=folder.path,
    ) as tracker:
        content = work(folder, tracker)
        scalars = {key: value for key, value in content.items() if isinstance(value, int | float | str | bool)}
        tracker.summary(scalars)
    ended = {
        "job": cell.job,
        **cell.columns,
        **content,
        "seconds": time.perf_counter() - began,
        "finished": _now(),
        "provenance": origin,
        "fingerprint": {"code": code, "inputs": seals(cell, config)},
    }
    log.info("%s is done: %s", cell.job, cell.folder)
    return folder.record("ok", ended)


def seals(cell: Cell, config: Config) -> dict[str, str | None]:
    """The fingerprint of each finished input of a cell, by its folder's name."""
    needed = ((cell_of(one), one) for one in inputs(cell.job, config))
    results = {other.folder.name: finished(other, one) for other, one in needed if other is not None}
    return {name: seal(result) for name, result in results.items() if result is not None}


@contextmanager
def _recording_failure(cell: Cell, folder: Folder) -> Iterator[None]:
    """Write `"status": "failed"` with the traceback and raise on. An interruption or a full disk is none: the state stays."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if not of_the_disk(error):
            _record_failure(cell, folder, reason(error), traceback.format_exc())
        raise


def record_death(cell: Cell, why: str) -> None:
    """Write `"status": "failed"` for a run whose process died, unless another process does it now."""
    if held(cell.folder):
        return
    with locked(cell.folder) as folder:
        _record_failure(cell, renewal.beside(cell.folder) if folder.finished() else folder, why, "")


def _record_failure(cell: Cell, folder: Folder, why: str, told: str) -> None:
    content = {"job": cell.job, **cell.columns, "error": why, "traceback": told, "finished": _now()}
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
    return datetime.now(UTC).isoformat(timespec="microseconds")  # so that no two ends of a run are alike
