"""A function or a class of the user's as an attribution: with or without keys, and one line for what is none."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import composed
from running import do

from runner.attributions.own import own
from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.core.types import Attribution, differentiable
from runner.runs.parts import Parts
from runner.runs.run import Run

CODE = """
import torch
from my_package import gradient, my_map

def three(model, images, targets):
    return gradient(model, images, targets)
def flat(model, images, targets):
    return three(model, images, targets).sum(dim=1)
def option(model, images, targets, power=2):
    return three(model, images, targets).abs() ** power
def renamed(network, x, classes):
    return three(network, x, classes)
def keyed(net, x, y, k):
    return my_map(net, x, y, k)
def calm(model, images, targets, keys):
    return three(model, images, targets)
calm.stochastic = False
class Made:
    stochastic = True
    def __init__(self, power=2):
        self.power = power
    def __call__(self, model, images, targets, keys):
        return my_map(model, images, targets, keys).abs() ** self.power
def detached(model, images, targets):
    return three(model, images, targets).detach()
def through_numpy(model, images, targets):
    return torch.from_numpy(three(model, images, targets).detach().numpy())
def wide(model, images, targets):
    return three(model, images, targets).double()
def small(model, images, targets):
    return three(model, images, targets)[:, :, ::2]
def listed(model, images, targets):
    return [1.0]
def dies(model, images, targets):
    raise KeyError("gone")
def two(model, images):
    return images
def five(model, images, targets, keys, other):
    return images
def named(model, images, targets, *, needed):
    return images
number = 3
"""
SMALL = (
    *(
        "job=attack",
        "dataset=digits",
        "dataset.train_size=100",
        "dataset.test_size=40",
        "model=mlp",
        "model.widths=[8]",
    ),
    *("training.epochs=1", "examples=4", "attack.steps=2", "epsilon.stop=0.2", "epsilon.step=0.2", "tracking=none"),
)


@pytest.fixture(autouse=True)
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "their_maps.py").write_text(CODE)
    yield
    sys.modules.pop("their_maps", None)


def config(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    return resolved(composed(*SMALL, *overrides, f"outputs={tmp_path}/o", "device=cpu"))


@pytest.mark.parametrize(
    ("name", "args", "stochastic"),
    [
        *(("three", {}, False), ("flat", {}, False), ("option", {"power": 3}, False), ("renamed", {}, False)),
        *(("keyed", {}, True), ("calm", {}, False), ("Made", {"power": 1}, True)),
    ],
)
def test_functions_and_classes_are_attributions(
    name: str, args: dict[str, Any], stochastic: bool, cnn, images, targets, keys
):
    method = own(f"their_maps.{name}", args)
    assert isinstance(method, Attribution)
    assert method.stochastic is stochastic
    maps = method(cnn, images, targets, keys)
    assert maps.shape == images.shape
    assert torch.equal(maps, method(cnn, images, targets, keys + 1)) is not stochastic


def test_a_map_without_channels_is_shared_equally(cnn, images, targets, keys) -> None:
    flat, three = own("their_maps.flat"), own("their_maps.three")
    maps = flat(cnn, images, targets, keys)
    torch.testing.assert_close(maps.sum(dim=1), three(cnn, images, targets, keys).sum(dim=1))
    assert torch.equal(maps[:, 0], maps[:, 1])


MUST = r"must be a function \(model, images, targets\) or \(model, images, targets, keys\)"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("target=nope.nope", r"attribution\.target=nope\.nope: cannot be imported"),
        (
            "target=their_maps.number",
            r"attribution\.target=their_maps\.number: must be a class or a function, not of type int",
        ),
        ("target=their_maps.two", rf"attribution\.target=their_maps\.two: {MUST}, not one of \(model, images\)$"),
        ("target=their_maps.five", rf"attribution\.target=their_maps\.five: {MUST}, not one of \(model, .*, other\)$"),
        ("target=their_maps.named", rf"attribution\.target=their_maps\.named: {MUST}, not one of \(.*needed\)$"),
        (
            "target=their_maps.wide",
            r"attribution\.target=their_maps\.wide: must return a map .* of torch.float64 for N = 2$",
        ),
        (
            "target=their_maps.small",
            r"attribution\.target=their_maps\.small: must return .* not \[2, 1, 4, 8\] of torch.fl",
        ),
        ("target=their_maps.listed", r"attribution\.target=their_maps\.listed: must return .*, not a list$"),
        ("target=their_maps.dies", r"attribution\.target=their_maps\.dies: it raises KeyError: 'gone'"),
        ("target=their_maps.detached", r"attack=topk_overlap: attribution=own has no gradient; choose an attack"),
        ("target=their_maps.through_numpy", r"attack=topk_overlap: attribution=own has no gradient; choose an attack"),
        (
            "target=their_maps.option attribution.args.powr=3",
            r"attribution\.args\.powr: no such key; allowed here are .*power",
        ),
    ],
)
def test_what_is_no_attribution_is_one_line_before_training(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        Run.of(config(tmp_path, "attribution=own", *f"attribution.{override}".split()))
    assert "\n" not in str(caught.value)


def test_one_runs_from_training_to_result(tmp_path: Path, no_pictures) -> None:
    result = do(config(tmp_path, "attribution=own", "attribution.target=their_maps.keyed"))
    assert (result["status"], result["stochastic"], result["attribution"]) == ("ok", True, "own_keyed")
    detached = config(tmp_path, "attribution=own", "attribution.target=their_maps.detached")
    random = resolved(composed(*[s for s in SMALL if "steps" not in s], "attack=random_sign"))["attack"]
    assert do({**detached, "attack": random})["status"] == "ok", "a map without a gradient suits attacks that need none"


def test_a_yaml_of_ones_own_may_name_the_function_itself(tmp_path: Path, cnn, images, targets, keys) -> None:
    node = {"name": "mine", "_target_": "their_maps.option", "power": 3}
    method = Parts({**config(tmp_path), "attribution": node}, {}).attribution
    expected = own("their_maps.option", {"power": 3})
    assert torch.equal(method(cnn, images, targets, keys), expected(cnn, images, targets, keys))
    assert differentiable(method)
    with pytest.raises(ConfigError, match=r"^attribution\.sigma: no such key; allowed here are .*power"):
        Run.of({**config(tmp_path), "attribution": {**node, "sigma": 3}})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["attribution=grad_cam"], r"attribution\.layer=null: must be .*: this model has no convolution$"),
        (
            ["attribution=grad_cam", "attribution.layer=nope"],
            r"attribution\.layer=nope: allowed are network, network\.0",
        ),
        (
            ["attribution=lrp", "model=own", "model.target=my_package.MyNet"],
            None,
        ),
        (
            ["attribution=guided_backprop", "~model.widths", "model=own", "model.target=functional.Net"],
            r"attribution: no rule for the code before the layer network\.head \(Linear\), which is not linear: activations",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_maps_that_need_layers_say_so_before_training(tmp_path: Path, overrides, message: str | None) -> None:
    (tmp_path / "functional.py").write_text(
        "from my_package import MyNet\nfrom torch.nn import functional as F\n"
        "class Net(MyNet):\n def forward(self, x): return self.head(F.relu(self.features(x)).mean((2, 3)))\n"
    )
    words = [word for word in SMALL if not ("model=own" in overrides and word.startswith("model"))]
    given = [word for word in overrides if word[0] != "~"]
    settings = resolved(composed(*words, *given, f"outputs={tmp_path}/o", "device=cpu"))
    if message is None:
        Run.of(settings)
        return
    with pytest.raises(ConfigError, match=f"^{message}"):
        Run.of(settings)
