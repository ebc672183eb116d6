"""Executes the job that a composed config names."""

from __future__ import annotations

import os
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from runner.cli import refusing
from runner.core import signals
from runner.core.config import Config, resolved
from runner.core.errors import ConfigError, one_line
from runner.core.progress import QUIET
from runner.runs.run import Run
from runner.runs.run_job import run_job
from runner.sweeps.plan import Plan


def execute(cfg: DictConfig) -> dict[str, Any]:
    """Execute the job of a composed config; returns the content of its `result.json`. Errors: `StopRequested` on a signal."""
    with refusing(), signals.listening():
        run = Run.of(_read(cfg))
        result = run_job(run if run.config["rerun"] is None else run.replacing(Plan.of_run(run).replaced()))
    if not os.environ.get(QUIET) and HydraConfig.get().mode == RunMode.RUN:
        from runner.jobs.closing_table import show_numbers  # late: a sweep prints no such table

        show_numbers(run, result)
    return result


def _read(cfg: DictConfig) -> Config:
    """The resolved config. Errors: `ConfigError` for an interpolation of a key that is not there, too."""
    try:
        return resolved(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from error
