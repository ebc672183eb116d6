"""Wrong values are refused by name, and every YAML of the group builds what it says."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import torch
from composing import option

from runner.attributions.integrated_gradients import IntegratedGradients
from runner.attributions.saliency import Saliency
from runner.attributions.smoothgrad import SmoothGrad
from runner.attributions.uniform_gradient import UniformGradient
from runner.core.build import build
from runner.core.errors import ConfigError
from runner.core.types import Referenced

FOLDER = Path(__file__).parents[2] / "conf" / "attribution"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "own")  # which is what the user's code is
WRONG = [
    (Saliency, "chunk", 0),
    (IntegratedGradients, "steps", 0),
    (IntegratedGradients, "baseline", []),
    (IntegratedGradients, "baseline", "black"),
    (SmoothGrad, "samples", -1),
    (SmoothGrad, "sigma", -0.1),
    (SmoothGrad, "sigma", float("nan")),
    (SmoothGrad, "sigma", float("inf")),
    (SmoothGrad, "sigma", None),
    (UniformGradient, "samples", 0),
    (UniformGradient, "radius", "4/0"),
    (UniformGradient, "radius", -1),
]


@pytest.mark.parametrize(("kind", "key", "value"), WRONG)
def test_wrong_values_are_refused_by_name(kind, key, value):
    with pytest.raises(ConfigError) as error:
        kind(**{key: value})
    assert str(error.value).startswith(f"attribution.{key}=")
    assert "\n" not in str(error.value)


def test_baseline_must_fit_the_channels(cnn, images, targets, keys):
    with pytest.raises(ConfigError, match=r"attribution.baseline=\[0, 0, 0\].*one for each of the 2 channels"):
        IntegratedGradients(baseline=[0, 0, 0])(cnn, images, targets, keys)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_yaml_states_every_option_and_builds(file, cnn, images, targets, keys):
    assert file.read_text().startswith("# python run.py job=attack attribution=" + file.stem)
    node = option("attribution", file.stem)
    assert node.pop("name") == file.stem
    method = build(node, "attribution")
    stated = [field.name for field in fields(method)]
    assert set(stated) == set(node) - {"_target_"}
    if isinstance(method, Referenced):
        method = method.with_references(images)
    maps = method(cnn, images, targets, keys)
    assert maps.shape in (images.shape, (len(images), 1, *images.shape[2:]))
    assert torch.isfinite(maps).all()
    node["sample"] = 3
    with pytest.raises(ConfigError, match=rf"^attribution\.sample\b.*{stated[0]}"):
        build(node, "attribution")


def test_yaml_defaults_are_the_defaults_of_the_code():
    for file in FILES:
        node = option("attribution", file.stem)
        del node["name"]
        method = build(node, "attribution")
        required = {item.name: getattr(method, item.name) for item in fields(method) if item.default is MISSING}
        plain = type(method)(**required)
        names = {field.name for field in fields(method)}
        differing = {name for name in names if getattr(method, name) != getattr(plain, name)}
        assert differing <= ({"multiply_by_input"} if file.stem == "input_x_gradient" else {"chunk"})
