"""What our launchers share: from the overrides of a sweep to its plan, and from its outcome to Hydra's job returns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from runner.jobs.plan import Plan

log = logging.getLogger(__name__)


def plan_of(hydra_context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]]) -> Plan:
    """Compose and check every cell. Errors: `ConfigError` or Hydra's own, before anything runs."""
    from hydra_plugins.runner_sweeps.composition import SweepLoader
    from runner.jobs import bulk
    from runner.jobs.conditions import Condition, skipped
    from runner.jobs.plan import Plan

    setup_globals()
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    zipped, conditions = _zipped(config, sweeper), [Condition.read(text) for text in sweeper.get("skip_if") or ()]
    loader = SweepLoader(hydra_context.config_loader.get_search_path(), config)
    configs = bulk.configs(loader.compose_freely if conditions else loader.compose, job_overrides, zipped)
    senseless = skipped(configs, conditions)
    plan = Plan.of(list(zip(configs, job_overrides, strict=True)), zipped, senseless)
    log.info("%d cells, %d runs to do (inputs included)", len(plan.cells) - len(senseless), len(plan.tasks))
    return plan


def _zipped(config: DictConfig, sweeper: Mapping[str, Any]) -> dict[str, str]:
    """The axis of each key that our sweeper zips with others; what the command line or `params` set is an axis of its own."""
    from runner.jobs.axes import key_of, zipped_keys

    given = [*map(key_of, config.hydra.overrides.task), *(sweeper.get("params") or {})]
    return zipped_keys(sweeper.get("zipped") or {}, given)


def returns(plan: Plan, failures: Mapping[Path, str]) -> list[JobReturn]:
    """One job return a cell, in order, with the content of its `result.json`; none for a report or a skipped cell."""
    from runner.jobs.sweep import result_of

    done = [JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED) for _, overrides in plan.cells]
    for job, cell in zip(done, plan.runs, strict=True):
        if cell is not None:
            job.return_value = result_of(cell.folder, failures)
    return done
