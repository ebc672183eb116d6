"""What tests share that is no fixture: the composed config of a command line, and our sweeper."""

import os
from pathlib import Path
from typing import Any

import hydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[1]


def composed(*overrides: str, hydra_node: bool = False) -> DictConfig:
    """What `run.py` composes from these overrides."""
    os.environ["RUNNER_ROOT"] = str(ROOT)
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose("config", list(overrides), return_hydra_config=hydra_node)


def zipped_sweeper(**options: Any) -> Any:
    """Our sweeper, imported after Hydra's scan for plug-ins, which executes every plug-in module once more."""
    Plugins.instance()
    from hydra_plugins.runner_sweeps.sweeper import ZippedSweeper

    return ZippedSweeper(**options)
