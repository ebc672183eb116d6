"""What a sweep states, and which of its cells and of their inputs are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.core import store
from runner.core.identity import Config
from runner.core.store import Folder
from runner.jobs import checks
from runner.jobs.cells import Cell, cell_of, finished
from runner.jobs.report import command, sweep_file


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

    @classmethod
    def of(cls, cells: Sequence[tuple[Config, Sequence[str]]]) -> Plan:
        """Check every cell and list what is missing. Errors: `ConfigError` before anything runs."""
        plan = cls(list(cells))
        for config, _ in cells:
            checks.check(config)
            plan._add(config)
        return plan

    def _add(self, config: Config) -> Path | None:
        cell = cell_of(config)
        if cell is None or cell.folder in self.tasks or finished(cell, config):
            return None if cell is None or cell.folder not in self.tasks else cell.folder
        needs = [path for needed in inputs(config) if (path := self._add(needed)) is not None]
        self.tasks[cell.folder] = Task(config, cell, needs)
        return cell.folder

    def missing(self) -> list[int]:
        """Positions of the stated cells that are not finished; a cell stated twice counts once."""
        folders = [self._folder(config) for config, _ in self.cells]
        return [place for place, folder in enumerate(folders) if folder in self.tasks and folder not in folders[:place]]

    def record(self) -> None:
        """Write what the sweep states to `outputs/sweeps/NAME/cells.json`, for the report."""
        config = self.cells[0][0]
        outputs = Path(config["outputs"])
        cells = [
            {"job": config["job"]["name"], "folder": str(folder.relative_to(outputs)), "overrides": list(overrides)}
            for config, overrides in self.cells
            if (folder := self._folder(config)) is not None
        ]
        file = sweep_file(outputs, str(config["sweep"]))
        store.write_json(file, {"command": command(), "cells": cells})

    def states(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """(job, state, overrides that tell it from the others) of each stated cell: done, failed or missing."""
        common = (
            set.intersection(*(set(overrides) for _, overrides in self.cells)) if len(self.cells) > 1 else set[str]()
        )
        for config, overrides in self.cells:
            folder = self._folder(config)
            result = Folder(folder).result() if folder is not None else None
            state = {"ok": "done", "failed": "failed"}.get(str(result["status"]), "missing") if result else "missing"
            yield config["job"]["name"], state, [override for override in overrides if override not in common]

    @staticmethod
    def _folder(config: Config) -> Path | None:
        cell = cell_of(config)
        return cell.folder if cell else None


def inputs(config: Config) -> list[Config]:
    """The runs that a run needs: an attack its training, an evaluation the attacks of its seeds."""
    job = config["job"]["name"]
    if job == "evaluate":
        return [{**_as_job(config, "attack"), "seed": seed} for seed in config["seeds"]]
    return [_as_job(config, "train")] if job == "attack" else []


def _as_job(config: Config, job: str) -> Config:
    return {**config, "job": {"name": job, "_target_": f"runner.jobs.{job}.run"}}
