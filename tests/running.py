"""Runs as tests describe them: by a small config (`compose` in conftest.py)."""

from typing import Any

from runner.attacking.setup import Setup
from runner.core.config import Config
from runner.runs.job_table import JOBS
from runner.runs.parts import Parts
from runner.runs.run import Run
from runner.runs.run_job import run_job
from runner.sweeps.plan import Cell, Plan


def do(config: Config) -> dict[str, Any]:
    """What `runner.entry` does with a composed config. Returns the content of `result.json`."""
    return run_job(run_of(config))


def run_of(config: Config) -> Run:
    """The run of a composed config; it makes again what its `rerun` says."""
    run = Run.of(config)
    return run if config.get("rerun") is None else run.replacing(Plan.of_run(run).replaced())


def as_job(config: Config, name: str) -> Config:
    """The config with another job."""
    return {**config, "job": {"name": name, "_target_": JOBS[name].target}}


def train_run(config: Config) -> Run:
    """The training that a config describes, unchecked."""
    return Run(JOBS["train"], as_job(config, "train"))


def attack_run(config: Config) -> Run:
    """The attack that a config describes, unchecked."""
    return Run(JOBS["attack"], as_job(config, "attack"))


def evaluate_run(config: Config) -> Run:
    """The evaluation that a config describes, unchecked."""
    return Run(JOBS["evaluate"], as_job(config, "evaluate"))


def parts_of(config: Config) -> Parts:
    """The objects that a config describes, unchecked."""
    return Parts(config, {})


def setup_of(config: Config) -> Setup:
    """What the attack that a config describes is made of; its model must be finished."""
    return Setup.of(attack_run(config))


def plan_of(*configs: Config) -> Plan:
    """The plan of a sweep with these cells."""
    return Plan.of([Cell(run=Run.of(config)) for config in configs])
