"""The program: Hydra composes conf/ and the command line, and the job of the config is executed.

`python run.py` in a checkout, `attribution-robustness` where it is installed, `python -m runner.main` in both.
"""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from runner import cli
from runner.core.conf import conf


@hydra.main(version_base="1.3", config_path=str(conf()), config_name="config")
def run(cfg: DictConfig) -> None:
    """One job, from one composed config."""
    from runner.entry import execute

    execute(cfg)


def main() -> int:
    """Compose and execute. Returns the exit code of `runner.cli.main`."""
    return cli.main(run)


if __name__ == "__main__":
    sys.exit(main())
