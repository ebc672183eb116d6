"""Networks by name: the user's own, torchvision's and timm's; what does not fit is refused before any work, in one line."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import composed
from running import parts_of

from runner.core.build import build
from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.models.own import own
from runner.models.timm_network import timm_network
from runner.models.torchvision_network import torchvision_network
from runner.runs.run import Run

CODE = """
from torch import nn
import numpy

class Plain(nn.Module):
    def __init__(self, width: int = 3, classes: int = 10):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))
    def forward(self, images):
        return self.layers(images)

class Looking(Plain):  # no meta tensor can do this
    def forward(self, images):
        assert float(images.max()) <= 1.0 and numpy.asarray(images.detach()).ndim == 4
        return super().forward(images)

class Two(Plain):
    def forward(self, images):
        return super().forward(images), images

class TwoInTraining(Plain):
    def forward(self, images):
        logits = super().forward(images)
        return (logits, logits) if self.training else logits

class Maps(Plain):
    def forward(self, images):
        return super().forward(images)[:, :, None, None]

def plain(width=3):
    return Plain(width)

def broken():
    raise KeyError("gone")

number = 3
def three():
    return 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of the user's in the working directory, which is on no path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "their_nets.py").write_text(CODE)
    yield "their_nets"
    sys.modules.pop("their_nets", None)


def config(*overrides: str, tmp_path: Path) -> dict[str, Any]:
    return resolved(composed("dataset=digits", "tracking=none", *overrides, f"outputs={tmp_path}/o", "device=cpu"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.target=their_nets.Plain", "model.args.width=5"],
        ["model.target=their_nets.Plain", "model.args={width: 5, classes: 10}"],
        ["model.target=their_nets.plain"],
        ["model.target=their_nets.Looking"],
        ["model.target=their_nets.TwoInTraining", "training=none", "model.weights=random"],
    ],
    ids=" ".join,
)
def test_a_class_or_a_function_in_the_working_directory_is_a_network(package, tmp_path: Path, overrides) -> None:
    run = Run.of(config("model=own", *overrides, tmp_path=tmp_path))
    model = run.parts.new_model(weights=False).eval()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(images), model.network(images)), "by default images stay as they are"
    width = 5 if len(overrides) > 1 and "width" in overrides[1] else 3
    assert model.network.layers[1].out_features == width


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.target=nope.Nope"], r"model\.target=nope\.Nope: cannot be imported \(.*No module named 'nope'"),
        (["model.target=their_nets.Gone"], r"model\.target=their_nets\.Gone: cannot be imported"),
        (
            ["model.target=their_nets.number"],
            r"model\.target=their_nets\.number: must be a class or a function, not of type int",
        ),
        (
            ["model.target=their_nets.three"],
            r"model\.target=their_nets\.three: must be one that returns a torch.nn.Mod",
        ),
        (["model.target=their_nets.broken"], r"model\.target=their_nets\.broken: it raises KeyError: 'gone'"),
        (
            ["model.target=their_nets.Plain", "model.args.widht=4"],
            r"model\.args\.widht: no such key; allowed here are cl",
        ),
        (["model.target=their_nets.Plain", "model.args.width=x"], r"model\.args\.width=x: must be a whole number"),
        (["model.target=their_nets.Plain", "model.args.classes=7"], r"dataset\.classes=10: model=own gives 7 logits$"),
        (
            ["model.target=their_nets.Plain", "dataset=mnist5k"],
            r"dataset\.shape=\[1, 28, 28\]: model=own cannot take such ",
        ),
        (
            ["model.target=their_nets.Two"],
            r"model=own: must give logits \(N, classes\) for N images, not a tuple for 2$",
        ),
        (["model.target=their_nets.TwoInTraining"], r"model=own: must give logits .* not a tuple for 2$"),
        (["model.target=their_nets.Maps"], r"model=own: must give logits .* not \[2, 10, 1, 1\] for 2$"),
        ([], r"model\.target=\?\?\?: must be given"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_does_not_fit_is_one_line_before_any_work(package, tmp_path: Path, overrides, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        Run.of(config("model=own", *overrides, tmp_path=tmp_path))
    assert "\n" not in str(caught.value)


def test_a_target_in_torchvision_is_found_by_a_process_that_has_not_imported_it(tmp_path: Path) -> None:
    """A CPU build of torch lacks operators that torchvision's import names; so does code of the user's that imports it."""
    (tmp_path / "uses_it.py").write_text("from torchvision.models import resnet18\n")
    for target in ("torchvision.models.resnet18", "uses_it.resnet18"):
        code = f"from runner.core.locate import locate; print(locate({target!r}, 'model.target').__name__)"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout == "resnet18\n", done.stderr


def test_a_network_of_a_library_is_a_target(tmp_path: Path) -> None:
    run = Run.of(
        config(
            *("dataset=cifar10", "model=own", "model.target=torchvision.models.squeezenet1_1"),
            *("model.args.num_classes=10", "training=none", "model.weights=random"),
            tmp_path=tmp_path,
        )
    )
    assert type(run.parts.new_model().network).__module__.startswith("torchvision.")
    plain = build({"_target_": "torchvision.models.squeezenet1_1", "num_classes": 3}, "model")
    assert type(plain).__name__ == "SqueezeNet"


def test_torchvision_networks_by_name() -> None:
    model = torchvision_network(shape=(3, 64, 64), classes=7, architecture="mobilenet_v3_small")
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    assert model.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    with pytest.raises(
        ConfigError, match=r"model.architecture=vit_b_17: must be one of the \d+ of torchvision; near are vi"
    ):
        torchvision_network(shape=(3, 64, 64), classes=7, architecture="vit_b_17")
    with pytest.raises(ConfigError, match=r"model.args: it raises TypeError: .*unexpected keyword argument 'depth'"):
        torchvision_network(shape=(3, 64, 64), classes=7, architecture="squeezenet1_1", args={"depth": 3})


def test_a_vit_of_another_size_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^dataset.shape=\[3, 32, 32\]: model=torchvision cannot .*Expected 224 but got 32"
    ):
        Run.of(config("dataset=cifar10", "model=torchvision", "model.architecture=vit_b_16", tmp_path=tmp_path))
    parts = parts_of(
        config(
            *("dataset=cifar10", "model=torchvision", "model.architecture=vit_b_16", "model.args.image_size=32"),
            tmp_path=tmp_path,
        )
    )
    assert parts.model_on_meta.network.image_size == 32


@pytest.mark.skipif(find_spec("timm") is None, reason="the extra `timm` is not installed")
def test_timm_networks_by_name() -> None:
    model = timm_network(shape=(3, 160, 160), classes=5, architecture="test_vit.r160_in1k")
    assert model.eval()(torch.rand(1, 3, 160, 160)).shape == (1, 5)
    stated = model.network.pretrained_cfg
    assert model.normalise.mean.flatten().tolist() == pytest.approx(stated["mean"])
    assert model.normalise.std.flatten().tolist() == pytest.approx(stated["std"])
    assert timm_network(shape=(1, 32, 32), classes=5, architecture="test_resnet").normalise.mean.item() == 0.5
    small = timm_network(shape=(3, 32, 32), classes=5, architecture="test_vit", args={"img_size": 32})
    assert small.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 5)
    with pytest.raises(
        ConfigError, match=r"dataset.shape=\[3, 32, 32\]: must be \[3, 160, 160\] for model.architecture="
    ):
        timm_network(shape=(3, 32, 32), classes=5, architecture="test_vit")
    with pytest.raises(ConfigError, match=r"model.architecture=vit_tny: must be one of the \d+ of timm; near are .*vi"):
        timm_network(shape=(3, 32, 32), classes=5, architecture="vit_tny")


def test_weights_of_a_file_and_none(tmp_path: Path) -> None:
    network = torchvision().models.squeezenet1_1(num_classes=3)
    torch.save({"model": network.state_dict()}, tmp_path / "w.pth")
    options: dict[str, Any] = {"shape": (3, 32, 32), "classes": 3, "architecture": "squeezenet1_1"}
    model = torchvision_network(**options, weights=str(tmp_path / "w.pth"))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in model.network.state_dict().items())
    torch.manual_seed(0)
    random = torchvision_network(**options, weights="random")
    torch.manual_seed(0)
    none = torchvision_network(**options)
    assert torch.equal(random.network.classifier[1].weight, none.network.classifier[1].weight)


def test_activations_stay_unless_others_are_asked_for() -> None:
    names = lambda kind: {  # noqa: E731
        type(module).__name__
        for module in own(shape=(1, 8, 8), classes=2, target="my_package.MyNet", activation=kind).modules()
    }
    assert "SiLU" in names(None)
    relu = torchvision_network(shape=(3, 32, 32), classes=3, architecture="squeezenet1_1", activation="softplus")
    assert not any(isinstance(module, torch.nn.ReLU) for module in relu.modules())
