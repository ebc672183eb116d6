"""Which run a config describes, where it lives, and the one way in which every run is done: once, under a lock."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner import tracking
from runner.core import identity as ids
from runner.core import renewal
from runner.core.board import working_on
from runner.core.errors import ConfigError, FailedEarlierError, reason
from runner.core.identity import Config
from runner.core.provenance import provenance
from runner.core.secrets import HidingFormatter
from runner.core.store import Folder, locked, write_text
from runner.jobs.fingerprint import code_of, seal
from runner.jobs.inputs import inputs
from runner.jobs.parts import labels

log = logging.getLogger(__name__)
UNNAMED = "unnamed"
"""Name of a sweep that has none: one from the command line alone, or no sweep at all."""

TRAINED = ("dataset", "model", "defense")
ATTACKED = (*TRAINED, "attribution", "attack")


@dataclass(frozen=True)
class Cell:
    """One run: its job, its folder, and the identity columns that its rows and result carry."""

    job: str
    folder: Path
    columns: dict[str, Any] = field(compare=False)

    @property
    def identity(self) -> str:
        """The hash at the end of the folder's name."""
        return identity_of(self.folder)


def identity_of(folder: Path) -> str:
    """The hash at the end of the name of a run's folder."""
    return folder.name.rsplit("-", 1)[1]


def train_cell(config: Config) -> Cell:
    """The model that a config trains."""
    train_id = ids.digest(ids.train_identity(config))
    columns = labels(config, TRAINED) | {"seed": config["seed"], "train_id": train_id}
    return Cell("train", _folder(config, "models", list(TRAINED), train_id), columns)


def attack_cell(config: Config) -> Cell:
    """The attack that a config runs on that model."""
    science = ids.run_identity(config)
    run_id = ids.digest(science)
    columns = labels(config, ATTACKED) | {"seed": config["seed"], "norm": config["epsilon"]["norm"]}
    columns |= {"train_id": science["train_id"], "run_id": run_id}
    columns |= {"group_id": ids.digest(ids.group_identity(config))}
    return Cell("attack", _folder(config, "attacks", list(ATTACKED), run_id), columns)


def evaluate_cell(config: Config) -> Cell:
    """The evaluation of that attack over all `seeds`."""
    group_id = ids.digest(ids.group_identity(config))
    evaluation = ids.digest({"group": group_id, "seeds": sorted(config["seeds"])})
    columns = labels(config, ATTACKED) | {"seeds": config["seeds"], "group_id": group_id}
    return Cell("evaluate", _folder(config, "evaluations", list(ATTACKED), evaluation, seeded=False), columns)


def cell_of(config: Config) -> Cell | None:
    """The cell of a config's job; None for a report, which is made anew each time."""
    makers = {"train": train_cell, "attack": attack_cell, "evaluate": evaluate_cell}
    maker = makers.get(config["job"]["name"])
    return maker(config) if maker else None


def finished(cell: Cell, config: Config) -> dict[str, Any] | None:
    """The result of a cell that ended well and lacks nothing that is asked for: perturbed images, or a failed seed."""
    result = Folder(cell.folder).finished()
    if result is None or result.get("failed_seeds"):
        return None
    wants_images = cell.job == "attack" and config["attack"]["save_images"]
    return None if wants_images and not (cell.folder / "images.safetensors").is_file() else result


Work = Callable[[Folder, tracking.Tracker], dict[str, Any]]


def do_once(cell: Cell, config: Config, ready: Callable[[], object], work: Work) -> dict[str, Any]:
    """The result of a cell: the finished one, or that of `work` now. A failure is recorded in the folder and raised.

    `ready` loads what may be missing or unfit (data), before anything is written. Two processes that want the same cell do
    it once: the second waits for the first and takes its result. A finished cell that `rerun` replaces is made again; its
    result stays until the new one is whole. Errors: `FailedEarlierError` for a failure that a plan leaves alone.
    """
    if (known := _standing(cell, config)) is not None:
        log.info("%s is finished: %s", cell.job, cell.folder)
        return known
    ready()
    code = code_of(cell.job, config)
    with locked(cell.folder, lambda: log.info("waiting for another process to finish %s", cell.folder)) as held:
        renewal.settle(cell.folder)
        if (known := _standing(cell, config)) is not None:
            return known
        old = held.finished()
        folder = renewal.beside(cell.folder) if old else held
        renewal.resume_with(code, folder)
        write_text(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({**config, "rerun": None})))
        with _logging_to(folder.path / "run.log"), _recording_failure(cell, folder), working_on(cell.folder.name):
            made = _work(cell, config, folder, work, code)
        if old:
            renewal.replace(cell.folder)
        return made


def _standing(cell: Cell, config: Config) -> dict[str, Any] | None:
    """The result that a cell has and keeps; None where there is work to do.

    A plan says in `rerun` what it replaces: the stamp of each run as it was planned. Whoever finds another stamp comes after
    somebody who did that work (a task that starts twice, two sweeps at once) and takes what that came to, good or bad.
    """
    planned = config.get("rerun")
    if planned is None:
        return finished(cell, config)
    if renewal.stamp(cell.folder) == planned.get(cell.identity):
        return None
    result = finished(cell, config)
    if result is None and (failure := renewal.failure(cell.folder)) is not None:
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
    """Write `"status": "failed"` with the traceback and raise on. An interruption is no failure: the state stays."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        content = {
            "job": cell.job,
            **cell.columns,
            "error": reason(error),
            "traceback": traceback.format_exc(),
            "finished": _now(),
        }
        folder.record("failed", content | {"provenance": provenance()})
        raise


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


def _folder(config: Config, kind: str, groups: list[str], identity: str, seeded: bool = True) -> Path:
    names = [str(config[group]["name"]) for group in groups] + ([f"s{config['seed']}"] if seeded else [])
    return Path(config["outputs"]) / kind / ids.folder_name(names, identity)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")  # so that no two ends of a run are alike
