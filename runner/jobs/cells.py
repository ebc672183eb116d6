"""Which run a config describes, and where it lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.core import identity as ids
from runner.core.identity import Config
from runner.core.store import Folder
from runner.jobs.parts import labels

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


def _folder(config: Config, kind: str, groups: list[str], identity: str, seeded: bool = True) -> Path:
    names = [str(config[group]["name"]) for group in groups] + ([f"s{config['seed']}"] if seeded else [])
    return Path(config["outputs"]) / kind / ids.folder_name(names, identity)
