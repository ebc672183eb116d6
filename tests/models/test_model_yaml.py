"""Every model YAML: opens with its command, names exactly the parameters of its target, and builds."""

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import option
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import nn

from runner.core.build import build

FOLDER = Path(__file__).parents[2] / "conf" / "model"
NEEDS: dict[str, dict[str, Any]] = {
    "own": {"target": "my_package.MyNet", "args": {"channels": 3, "classes": 1000}},
    "torchvision": {"architecture": "squeezenet1_1"},
    "timm": {"architecture": "test_resnet"},
}
"""What options take by name."""
FILES = sorted(FOLDER.glob("*.yaml"))


def resolve(path: Path, shape: tuple[int, ...] = (3, 32, 32), classes: int = 1000) -> dict[str, Any]:
    dataset = {"shape": list(shape), "classes": classes}
    model = OmegaConf.merge(option("model", path.stem), NEEDS.get(path.stem, {}))
    config = OmegaConf.create({"dataset": dataset, "model": model})
    return OmegaConf.to_container(config, resolve=True)["model"]


def test_all_are_there() -> None:
    names = {"mlp", "small_cnn", "resnet20", "resnet18", "resnet50", "efficientnet_lite0"}
    assert {path.stem for path in FILES} >= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_opens_with_the_command_and_has_the_keys(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# python run.py ")
    assert f"model={path.stem}" in lines[0]
    assert lines[1].startswith("# ")
    node = resolve(path)
    assert {"name", "activation", "beta", "mean", "std", "weights"} <= set(node)
    assert node["name"] == path.stem
    parameters = set(inspect.signature(get_object(node["_target_"])).parameters)
    assert set(node) - {"name", "_target_"} == parameters


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_builds_and_gives_logits(path: Path) -> None:
    if path.stem == "timm" and find_spec("timm") is None:
        pytest.skip("the extra `timm` is not installed")
    if path.stem == "efficientnet_lite0" and find_spec("efficientnet_lite_pytorch") is None:
        pytest.skip("the extra `imagenet` is not installed")
    node = resolve(path)
    model = build({key: value for key, value in node.items() if key != "name"}, "model")
    assert isinstance(model, nn.Module)
    with torch.no_grad():
        assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 1000)
