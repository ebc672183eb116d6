"""What tests share that is no fixture: the composed config of a command line, our sweeper and the cells of a sweep."""

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from runner.core.decimals import spelled_out

ROOT = Path(__file__).resolve().parents[1]


def composed(*overrides: str, hydra_node: bool = False) -> DictConfig:
    """What `run.py` composes from these overrides. Made once a process; each caller gets a copy of its own."""
    config: DictConfig = pickle.loads(_pickled(overrides))
    if not hydra_node:
        with open_dict(config):
            del config["hydra"]
    return config


@cache
def _pickled(overrides: tuple[str, ...]) -> bytes:
    config = _loader().load_configuration("config", list(overrides), RunMode.RUN, from_shell=False)
    return pickle.dumps(config)


@cache
def _loader() -> ConfigLoader:
    """The project's own loader of configs, which reads each file once."""
    from runner.sweeps.composition.loader import SweepLoader

    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        search_path = GlobalHydra.instance().config_loader().get_search_path()
    return SweepLoader(search_path, OmegaConf.create())


OWN = {
    "model=own": ["model.target=my_package.MyNet"],
    "model=torchvision": ["model.architecture=squeezenet1_1", "dataset=cifar10"],
    "model=timm": ["model.architecture=test_resnet", "dataset=cifar10"],
    "attribution=own": ["attribution.target=my_package.my_map"],
}
"""What options need that take code or networks by name."""


def option(group: str, name: str) -> DictConfig:
    """One option of a group of conf/ with what it is based on, by itself; interpolations stay as they are written."""
    with hydra.initialize_config_dir(str(ROOT / "conf" / group), version_base="1.3"):
        return OmegaConf.create(OmegaConf.to_container(hydra.compose(name), resolve=False))


def zipped_sweeper(**options: Any) -> Any:
    """Our sweeper, imported after Hydra's scan for plug-ins, which executes every plug-in module once more."""
    Plugins.instance()
    from hydra_plugins.runner_sweeps.sweeper import ZippedSweeper

    return ZippedSweeper(**options)


def sweep_cells(name: str) -> tuple[list[str], list[list[str]]]:
    """The overrides that lead to a sweep of the project, and those of each of its cells."""
    config = composed(f"+sweeps={name}", hydra_node=True)
    assert config.hydra.mode.name == "MULTIRUN"
    node: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    assert node.pop("_target_") == "hydra_plugins.runner_sweeps.sweeper.ZippedSweeper"
    stated = [f"{key}={spelled_out(str(value), key)}" for key, value in (node["params"] or {}).items()]
    (batch,) = zipped_sweeper(**node).split_arguments(OverridesParser.create().parse_overrides(stated), None)
    return [f"+sweeps={name}"], batch


def count_of(node: Any) -> int:
    """What `${found_by:composing.count_of}` finds: the number of keys of the mapping it stands in."""
    return len(node)
