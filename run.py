"""Compose a config and run its job: `python run.py --help` shows the groups and examples."""

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from runner.cli import main

os.environ.setdefault("RUNNER_ROOT", str(Path(__file__).resolve().parent))


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def run(cfg: DictConfig) -> None:
    """One job, from one composed config."""
    from runner.entry import execute

    execute(cfg)


if __name__ == "__main__":
    sys.exit(main(run))
