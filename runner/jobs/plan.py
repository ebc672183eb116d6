"""What a sweep states, and which of its cells and of their inputs are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.core import store
from runner.core.build import remembering
from runner.core.identity import Config, source_of
from runner.core.store import Folder
from runner.jobs import checks
from runner.jobs.cells import Cell, cell_of, finished


@dataclass
class Task:
    """A cell to be done, and the folders that must be finished before it."""

    config: Config
    cell: Cell
    needs: list[Path]
    tries: int = 0


@dataclass
class Plan:
    """The cells that a sweep states, in order, and the tasks that are missing, inputs before those that need them."""

    cells: list[tuple[Config, Sequence[str]]]
    tasks: dict[Path, Task] = field(default_factory=dict)
    runs: list[Cell | None] = field(default_factory=list)
    """The run of each cell; None for a report."""
    zipped: Mapping[str, str] = field(default_factory=dict)
    """The axis of each key that varies together with others."""

    @classmethod
    def of(cls, cells: Sequence[tuple[Config, Sequence[str]]], zipped: Mapping[str, str] | None = None) -> Plan:
        """Check every cell and list what is missing. Errors: `ConfigError` before anything runs."""
        plan = cls(list(cells), zipped=zipped or {})
        with remembering():
            for config, _ in cells:
                checks.check(config)
                cell = cell_of(config)
                plan.runs.append(cell)
                plan._add(config, cell)
        return plan

    def _add(self, config: Config, cell: Cell | None) -> Path | None:
        """List a run and its inputs, where they are not finished. Returns its folder if it is to be done."""
        if cell is None:
            return None
        if (known := self.tasks.get(cell.folder)) is not None:
            if cell.job == "attack" and config["attack"]["save_images"]:
                known.config = config  # one wants the images that another does without: attack once, and keep them
            return cell.folder
        if finished(cell, config):
            return None
        needs = [path for needed in inputs(config) if (path := self._add(needed, cell_of(needed))) is not None]
        self.tasks[cell.folder] = Task(config, cell, needs)
        return cell.folder

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
        """How each stated cell stands: done, missing, failed, or running in some process now."""
        return ["missing" if cell is None else self._state(cell.folder) for cell in self.runs]

    def _state(self, folder: Path) -> str:
        if folder not in self.tasks:
            return "done"
        if store.held(folder):
            return "running"
        return "missing" if _failure(folder) is None else "failed"

    def failures(self) -> dict[Path, str]:
        """Why runs that are to be done, inputs included, failed when they were last tried, in one line each."""
        return {folder: reason for folder in self.tasks if (reason := _failure(folder)) is not None}


def _failure(folder: Path) -> str | None:
    result = Folder(folder).result() or {}
    return str(result.get("error", "")) if result.get("status") == "failed" else None


def inputs(config: Config) -> list[Config]:
    """The runs that a run needs: an attack its training and its source, an evaluation the attacks of its seeds."""
    job = config["job"]["name"]
    if job == "evaluate":
        return [{**_as_job(config, "attack"), "seed": seed} for seed in config["seeds"]]
    source = source_of(config) if job == "attack" else None
    needed = [_as_job(config, "train")] if job == "attack" else []
    return needed if source is None else [*needed, _as_job(source, "attack")]


def _as_job(config: Config, job: str) -> Config:
    return {**config, "job": {"name": job, "_target_": f"runner.jobs.{job}.run"}}
