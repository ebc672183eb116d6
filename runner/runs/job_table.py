"""The kinds of job. Everything that is specific to one kind is in its row of `JOBS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.core.config import Config
from runner.core.hashing import digest
from runner.runs.identity import attack_identity, group_identity, source_of, train_identity
from runner.runs.labels import folder_labels, names

_TRAINED = ("dataset", "model", "defense")
_ATTACKED = (*_TRAINED, "attribution", "attack")


@dataclass(frozen=True)
class Identified:
    """The hash that identifies a run, and the columns that its rows and its result carry."""

    identity: str
    columns: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One kind of job."""

    name: str
    folder: str
    """The folder of its runs, below `outputs`."""
    labels: Callable[[Config], list[str]]
    """The beginning of a run's folder name."""
    identify: Callable[[Config], Identified] | None = None
    """None for a job whose runs have no id and are executed at every call."""
    inputs: Callable[[Config], list[tuple[str, Config]]] = lambda config: []
    """The runs that must be finished first: their jobs and configs."""
    needs_all_inputs: bool = True
    """Whether it fails when one of its inputs has failed."""
    plug_ins: tuple[str, ...] = ()
    """Groups whose plug-ins it calls itself. The plug-ins of its inputs count through the fingerprints of those inputs."""
    code: tuple[str, ...] = ()
    """Modules of this project that its numbers come from, besides its plug-ins."""
    alike: tuple[str, ...] = ()
    """Columns that decide how long a run takes, the most important first; for time estimates."""

    @property
    def target(self) -> str:
        """The function that executes it: `run(Run) -> content of result.json`."""
        return f"runner.jobs.{self.name}.run"


def _seeded(groups: tuple[str, ...]) -> Callable[[Config], list[str]]:
    return lambda config: [*folder_labels(config, groups), f"s{config['seed']}"]


def _training(config: Config) -> Identified:
    train_id = digest(train_identity(config))
    return Identified(train_id, names(config, _TRAINED) | {"seed": config["seed"], "train_id": train_id})


def _attack(config: Config) -> Identified:
    science = attack_identity(config)
    run_id = digest(science)
    columns = names(config, _ATTACKED) | {"seed": config["seed"], "norm": config["epsilon"]["norm"]}
    columns |= {"train_id": science["train_id"], "run_id": run_id, "group_id": digest(group_identity(config))}
    return Identified(run_id, columns)


def _attack_inputs(config: Config) -> list[tuple[str, Config]]:
    source = source_of(config)
    return [("train", config)] + ([] if source is None else [("attack", source)])


def _evaluation(config: Config) -> Identified:
    group_id = digest(group_identity(config))
    identity = digest({"group": group_id, "seeds": sorted(config["seeds"])})
    return Identified(identity, names(config, _ATTACKED) | {"seeds": config["seeds"], "group_id": group_id})


_ROWS = (
    Job(
        name="train",
        folder="models",
        labels=_seeded(_TRAINED),
        identify=_training,
        plug_ins=("dataset", "model", "training", "defense"),
        code=("runner.training.trainer",),
        alike=("defense", "model", "dataset"),
    ),
    Job(
        name="attack",
        folder="attacks",
        labels=_seeded(_ATTACKED),
        identify=_attack,
        inputs=_attack_inputs,
        plug_ins=("dataset", "model", "attribution", "attack", "epsilon", "metrics", "certificate"),
        code=("runner.attacking.results", "runner.metrics.reduction"),
        alike=("attribution", "attack", "model", "dataset"),
    ),
    Job(
        name="evaluate",
        folder="evaluations",
        labels=lambda config: folder_labels(config, _ATTACKED),
        identify=_evaluation,
        inputs=lambda config: [("attack", {**config, "seed": seed}) for seed in config["seeds"]],
        needs_all_inputs=False,
        plug_ins=("metrics", "certificate"),
        code=("runner.stats", "runner.stats.claims"),
        alike=("attribution", "attack", "model", "dataset"),
    ),
    Job(
        name="report",
        folder="reports",
        labels=lambda config: [str(config["report"]["name"] or config["report"]["sweep"] or "runs")],
    ),
)

JOBS = {job.name: job for job in _ROWS}
