"""What a sweep states, and which of its cells and of their inputs are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.core import renewal, store
from runner.core.build import remembering
from runner.core.identity import Config
from runner.core.store import Folder
from runner.jobs import checks
from runner.jobs.cells import Cell, cell_of, finished, identity_of
from runner.jobs.inputs import inputs
from runner.jobs.stale import Staleness


@dataclass
class Task:
    """A cell to be done, and the folders that must be finished before it."""

    config: Config
    cell: Cell
    needs: list[Path]
    tries: int = 0
    again: bool = False
    """Whether it is finished, and made again."""


@dataclass
class Plan:
    """The cells that a sweep states, in order, and the tasks that are missing, inputs before those that need them."""

    cells: list[tuple[Config, Sequence[str]]]
    tasks: dict[Path, Task] = field(default_factory=dict)
    runs: list[Cell | None] = field(default_factory=list)
    """The run of each cell; None for a report."""
    zipped: Mapping[str, str] = field(default_factory=dict)
    """The axis of each key that varies together with others."""
    skipped: Mapping[int, str] = field(default_factory=dict)
    """Positions of the cells that are senseless, with the condition that says so."""
    failed: dict[Path, str] = field(default_factory=dict)
    """Runs that failed when they were last tried, or whose input did, with the reason; `rerun` says whether they are tasks."""
    stale: dict[Path, str] = field(default_factory=dict)
    """Finished runs that the code has changed under, with the reason; `rerun` says whether they are tasks."""
    unknown: set[Path] = field(default_factory=set)
    """Finished runs of which that is not known."""

    @classmethod
    def of(
        cls,
        cells: Sequence[tuple[Config, Sequence[str]]],
        zipped: Mapping[str, str] | None = None,
        skipped: Mapping[int, str] | None = None,
    ) -> Plan:
        """Check every cell that is not skipped and list what is missing. Errors: `ConfigError` before anything runs."""
        plan, staleness = cls(list(cells), zipped=zipped or {}, skipped=skipped or {}), Staleness()
        plan.unknown = staleness.unknown
        with remembering():
            for place, (config, _) in enumerate(cells):
                if place in plan.skipped:
                    plan.runs.append(None)
                    continue
                checks.check(config)
                cell = cell_of(config)
                plan.runs.append(cell)
                plan._add(config, cell, staleness)
        return plan

    def _add(self, config: Config, cell: Cell | None, staleness: Staleness) -> None:
        """List a run and its inputs, where they are to be done."""
        if cell is None:
            return
        if (known := self.tasks.get(cell.folder)) is not None:
            if cell.job == "attack" and config["attack"]["save_images"]:
                known.config = _keeping_images(known.config)  # one wants images that another does without: attack once
            return
        result = finished(cell, config)
        if result is not None and not self._again(cell, config, staleness):
            return
        needed = [(other, needs) for needs in inputs(cell.job, config) if (other := cell_of(needs)) is not None]
        for other, needs in needed:
            self._add(needs, other, staleness)
        failure = renewal.failure(cell.folder) or self._blocked(cell, [other.folder for other, _ in needed])
        if failure is not None:
            self.failed[cell.folder] = failure
            if result is None and config.get("rerun") not in ("failed", "all") and not _listed(cell, config):
                return
        own = {**config, "rerun": _stamps([cell.folder])}
        kept = (cell.folder / "images.safetensors").is_file()
        todo = [other.folder for other, _ in needed if other.folder in self.tasks]
        self.tasks[cell.folder] = Task(_keeping_images(own) if kept else own, cell, todo, again=result is not None)

    def _again(self, cell: Cell, config: Config, staleness: Staleness) -> bool:
        """Whether a finished run is to be made again. One that could not be the last time failed, old result or not."""
        stale, failure = staleness.reason(cell, config), renewal.failure(cell.folder)
        if stale is not None:
            self.stale[cell.folder] = stale
        if failure is not None:
            self.failed[cell.folder] = failure
        asked = {"all": True, "stale": stale is not None, "failed": failure is not None}
        return _listed(cell, config) or asked.get(str(config.get("rerun")), False)

    def _blocked(self, cell: Cell, needed: Sequence[Path]) -> str | None:
        """The failure of an input that is not tried again; an evaluation does without."""
        lost = [
            path for path in needed if path in self.failed and path not in self.tasks and not Folder(path).finished()
        ]
        if not lost or (cell.job == "evaluate" and Folder(cell.folder).finished() is None):
            return None
        return f"its input failed: {lost[0].name}"

    def missing(self) -> list[int]:
        """Positions of the stated cells that are not finished; a cell stated twice counts once."""
        first: dict[Path, int] = {}
        for place, cell in enumerate(self.runs):
            if cell is not None and cell.folder in self.tasks:
                first.setdefault(cell.folder, place)
        return list(first.values())

    def folders(self) -> list[Path]:
        """Where the stated cells are; reports are none."""
        return [cell.folder for cell in self.runs if cell is not None]

    def record(self) -> None:
        """Write what the sweep states to `outputs/sweeps/NAME/cells.json`, for the report."""
        from runner.jobs.report import command, sweep_file

        config = self.cells[0][0]
        outputs = Path(config["outputs"])
        cells = [
            {"job": cell.job, "folder": str(cell.folder.relative_to(outputs)), "overrides": list(overrides)}
            for cell, (_, overrides) in zip(self.runs, self.cells, strict=True)
            if cell is not None
        ]
        file = sweep_file(outputs, str(config["sweep"]))
        store.write_json(file, {store.VERSION_KEY: store.VERSION, "command": command(), "cells": cells})

    def states(self) -> list[str]:
        """How each stated cell stands: done, missing, failed, stale, running in some process now, or skipped."""
        return [
            "skipped" if place in self.skipped else "missing" if cell is None else self._state(cell.folder)
            for place, cell in enumerate(self.runs)
        ]

    def _state(self, folder: Path) -> str:
        if folder in self.tasks and not self.tasks[folder].again and folder not in self.failed:
            state = "missing"
        else:
            state = "failed" if folder in self.failed else "stale" if folder in self.stale else "done"
        return "running" if state != "done" and store.held(folder) else state

    def replaced(self) -> dict[str, str]:
        """What a single job makes anew, inputs included: the stamps of the tasks and of whatever failed, by identity."""
        return _stamps([*self.tasks, *self.failed])

    def kept(self) -> dict[Path, str]:
        """The failures that are not tried again."""
        return {folder: reason for folder, reason in self.failed.items() if folder not in self.tasks}


def _listed(cell: Cell, config: Config) -> bool:
    listed = config.get("rerun")
    return isinstance(listed, list) and cell.identity in listed


def _stamps(folders: Iterable[Path]) -> dict[str, str]:
    """What is replaced: the stamps of runs, by identity; those that never ended have none."""
    stamps = {identity_of(folder): renewal.stamp(folder) for folder in folders}
    return {identity: stamp for identity, stamp in stamps.items() if stamp is not None}


def _keeping_images(config: Config) -> Config:
    return {**config, "attack": {**config["attack"], "save_images": True}}
