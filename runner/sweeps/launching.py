"""What all our launchers do with a sweep: plan it, then show its state or execute the missing runs, then report.

A launcher is a subclass with `execute` and `slots`, registered under `hydra/launcher` (`runner/plugins/hydra_plugins`).
"""

from __future__ import annotations

import logging
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from runner.sweeps.plan import Plan

log = logging.getLogger(__name__)


class SweepLauncher(Launcher):
    """Executes the missing runs of a sweep; with `dry_run`, only shows which are missing."""

    gpus = 0
    """GPUs per slot."""

    def __init__(self, dry_run: bool = False) -> None:
        self.dry_run = dry_run

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many runs are executed at the same time."""

    @abstractmethod
    def execute(self, plan: Plan) -> Mapping[Path, str] | None:
        """Execute the missing runs. Returns the reasons of failures by folder; None if the runs continue after this call."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's arguments."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Execute the missing runs, then report. Errors: `ConfigError` or Hydra's own, before anything runs."""
        plan = plan_of(self.hydra_context, self.config, job_overrides)
        from runner.sweeps import summary

        if self.dry_run:
            self.before_dry_run(plan)
            sys.exit(summary.print_plan(plan, self.slots, self.gpus))
        plan.record()
        failures = self.execute(plan)
        if failures is None:
            return []
        summary.finish(plan, failures)
        return _returns(plan, failures)

    def before_dry_run(self, plan: Plan) -> None:
        """Log what a launcher knows beyond the plan."""

    @property
    def folder(self) -> Path:
        """The sweep's own folder."""
        return Path(str(self.config.hydra.sweep.dir))


def plan_of(hydra_context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]]) -> Plan:
    """Compose the cells of a sweep and validate those that are not skipped. Errors: `ConfigError` or Hydra's own."""
    from runner.core.build import Built
    from runner.runs.run import Run
    from runner.sweeps.composition.cells import compose_cells
    from runner.sweeps.composition.loader import SweepLoader
    from runner.sweeps.plan import Cell, Plan
    from runner.sweeps.skip_conditions import Condition, skipped

    setup_globals()
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    zipped, conditions = _zipped(config, sweeper), [Condition.read(text) for text in sweeper.get("skip_if") or ()]
    loader = SweepLoader(hydra_context.config_loader.get_search_path(), config)
    configs = compose_cells(loader.compose_freely if conditions else loader.compose, job_overrides, zipped)
    skips = skipped(configs, conditions)
    built: Built = {}
    runs = [None if place in skips else Run.of(config, built) for place, config in enumerate(configs)]
    cells = [
        Cell(overrides, run, skips.get(place), job=own["job"]["name"])
        for place, (overrides, run, own) in enumerate(zip(job_overrides, runs, configs, strict=True))
    ]
    plan = Plan.of(cells, zipped)
    log.info("%d cells, %d runs to do (inputs included)", len(cells) - len(skips), len(plan.tasks))
    return plan


def _zipped(config: DictConfig, sweeper: Mapping[str, Any]) -> dict[str, str]:
    """The axis of each zipped key; keys that the command line or `params` set are their own axes."""
    from runner.sweeps.axes import key_of, zipped_keys

    given = [*map(key_of, config.hydra.overrides.task), *(sweeper.get("params") or {})]
    return zipped_keys(sweeper.get("zipped") or {}, given)


def _returns(plan: Plan, failures: Mapping[Path, str]) -> list[JobReturn]:
    """One `JobReturn` per cell, in order; its value is the content of `result.json`, None for reports and skipped cells."""
    from runner.sweeps.summary import result_of

    done = [JobReturn(overrides=list(cell.overrides), status=JobStatus.COMPLETED) for cell in plan.cells]
    for job, cell in zip(done, plan.cells, strict=True):
        if cell.run is not None and cell.run.identity:
            job.return_value = result_of(cell.run.folder, failures)
    return done
