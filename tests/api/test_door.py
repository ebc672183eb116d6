"""What callers in Python hand in: refused in one line before any work, or taken, and the model handed back as it was."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor, nn

from runner.api import attack, compare, evaluate, explain
from runner.attacks.random import RandomAttack
from runner.core.errors import ConfigError
from runner.metrics.cosine_distance import CosineDistance

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3))


def _nan(images: Tensor) -> Tensor:
    images = images.clone()
    images[1, 0, 2, 2] = float("nan")
    return images


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (IMAGES[0], "images=of shape [1, 8, 8]: must be of shape (N, C, H, W)"),
        (IMAGES[:0], "images=of shape [0, 1, 8, 8]"),
        (IMAGES.permute(0, 2, 3, 1), "channels come before height and width"),
        (_nan(IMAGES), "images=with NaN or inf: must be finite"),
        (IMAGES * 255, "must be in [0, 1]"),
        (IMAGES - 0.5, "must be in [0, 1]"),
        ((IMAGES * 255).long(), "images=of type torch.int64"),
        ("photo.png", "images: must be a tensor or an array of numbers"),
        (IMAGES[..., :7], "the model does not take them"),
        (IMAGES.to("meta"), "images=a meta tensor"),
        (IMAGES.to_sparse(), "images=a sparse tensor"),
    ],
)
def test_images_are_checked(model: nn.Module, images: Any, says: str) -> None:
    for call in (explain, attack):
        with pytest.raises(ConfigError) as error:
            call(model, images)
        assert says in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"labels": LABELS[:3]}, "labels=of shape [3]: must be of shape [4]"),
        ({"labels": LABELS + 1}, "labels=from 1 to 3: must be classes from 0 to 2"),
        ({"labels": LABELS.float()}, "labels=of type torch.float32: must be whole numbers"),
        ({"ids": [1, 1, 2, 3]}, "ids="),
        ({"attack": "tpok"}, "did you mean topk?"),
        ({"attribution": "salency"}, "did you mean saliency?"),
        ({"metrics": ["spaerman"]}, "did you mean spearman?"),
        ({"metrics": ["spearman"]}, "attack.measure=topk_intersection"),
        ({"metrics": []}, "metrics=[]"),
        ({"metrics": {"spearman": len}}, "metrics.spearman="),
        ({"stpes": 3}, "attack.stpes: no such key"),
        ({"steps": "many"}, "attack.steps=many"),
        ({"steps": 0}, "attack.steps=0"),
        ({"attribution": "smoothgrad", "attribution_options": {"sigma": -1.0}}, "attribution.sigma="),
        ({"attribution": lambda a, b, c: a, "attribution_options": {"x": 1}}, "attribution.x=1"),
        ({"attribution": lambda images: images}, "attribution=<lambda>: must be a function (model, images, targets)"),
        ({"attribution": lambda model, images, targets: images.sum(2)}, "not [2, 1, 8] of torch.float32 for N = 2"),
        ({"attribution": 3}, "attribution=int"),
        ({"attribution": "occlusion"}, "attribution=occlusion has no gradient"),
        ({"attribution": "expected_gradients"}, "training_images=IMAGES"),
        ({"attack": "transfer_model"}, "takes its images from another run"),
        ({"attack": RandomAttack}, "attack=RandomAttack"),
        ({"epsilons": []}, "epsilons=[]"),
        ({"epsilons": [-1.0]}, "-1"),
        ({"epsilons": [float("nan")]}, "nan"),
        ({"norm": "l3"}, "epsilon.norm=l3: allowed are l0, l2"),
        ({"norm": "l0", "epsilons": [1]}, "epsilon.norm=l0"),
        ({"k": 65}, "k=65"),
        ({"reduction": "mean"}, "metrics.reduction=mean"),
        ({"epsilons": None}, "epsilons=None"),
        ({"epsilons": [None]}, "epsilons=[None]"),
        ({"chunk": 0}, "attack.chunk=0"),
        ({"chunk": "all"}, "attack.chunk=all"),
        ({"steps": object()}, "attack.steps=object: must be a number"),
        ({"common_noise": "yes"}, "common_noise=yes"),
        ({"k": True}, "k=True"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"device": "gpu"}, "device=gpu"),
        ({"beta": None}, "attack.beta=null"),
    ],
)
def test_options_are_checked(model: nn.Module, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        attack(model, IMAGES, **given)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_model_is_named(model: nn.Module) -> None:
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    with pytest.raises(ConfigError, match="logits that are NaN"):
        explain(model, IMAGES)
    with pytest.raises(ConfigError, match=r"model: must give logits .* not \[1, 1, 8, 8\] for 1"):
        explain(nn.Identity(), IMAGES)
    with pytest.raises(ConfigError, match="model=function: must be"):
        explain(lambda images: images, IMAGES)  # type: ignore[arg-type]


class _Network(nn.Module):
    """The network of the fixture with something around it."""

    def __init__(self, network: nn.Module, around: Any) -> None:
        super().__init__()
        self.network, self.around = network, around

    def forward(self, images: Tensor) -> Tensor:
        return self.around(self.network, images)


@pytest.mark.parametrize(
    ("around", "says"),
    [
        (lambda network, images: network(images.sub_(0.1)), "model: writes into its input"),
        (lambda network, images: network(images)[:, :1], "model: gives logits (N, 1); must be of two classes or more"),
        (lambda network, images: network(images, images), "the model does not take them"),
        (lambda network, images: network(images).mean(0, keepdim=True), "model=with output [1, 3] for 4 images"),
        (
            lambda network, images: torch.where(images[:, :1, 0, 0] == IMAGES[2, 0, 0, 0], torch.nan, network(images)),
            "logits that are NaN or inf for image 2",
        ),
    ],
    ids=["in place", "one logit", "two inputs", "one answer", "one image"],
)
def test_a_model_that_cannot_be_explained_is_named(model: nn.Module, around: Any, says: str) -> None:
    images = IMAGES.clone()
    with pytest.raises(ConfigError) as error:
        explain(_Network(model, around), images)
    assert says in str(error.value)
    assert torch.equal(images, IMAGES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripts_and_lazy_layers_are_named(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match="before torch.jit"):
        explain(torch.jit.script(model), IMAGES)
    with pytest.raises(ConfigError, match="lazy"):
        explain(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), IMAGES)


@pytest.mark.parametrize(
    "mode", [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)], ids=type
)
def test_numbers_do_not_depend_on_where_the_call_stands(model: nn.Module, mode: Any) -> None:
    expected = attack(model, IMAGES, LABELS, steps=2, epsilons=[0.5])
    with mode:
        found = attack(model, IMAGES, LABELS, steps=np.int64(2), epsilons=np.array([0.5]), seed=np.int64(0))
    assert torch.equal(found.images, expected.images)
    pd.testing.assert_frame_equal(found.rows, expected.rows, check_exact=True)


def test_the_model_is_handed_back_as_it_was(model: nn.Module) -> None:
    model.train()
    model[3].eval()
    model[1].bias.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = GlobalHydra.instance().hydra

    attack(model, IMAGES, steps=2, epsilons=[0.5])
    with pytest.raises(ConfigError):
        explain(model, IMAGES, torch.tensor([0, 1, 2, 3]))

    assert [module.training for module in model.modules()] == [True, True, True, True, False, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False, True, True]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert GlobalHydra.instance().hydra is before


def test_bytes_and_arrays_are_taken_as_the_jobs_read_them(model: nn.Module) -> None:
    pixels = (IMAGES * 255).to(torch.uint8)
    expected = explain(model, pixels.float() / 255)
    assert torch.equal(explain(model, pixels), expected)
    assert torch.equal(explain(model, pixels.numpy()), expected)
    assert explain(model.double(), IMAGES.double().numpy()).dtype == torch.float64


def test_a_function_is_an_attribution(model: nn.Module) -> None:
    def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        images = images if images.requires_grad else images.detach().requires_grad_()
        with torch.enable_grad():
            chosen = model(images).gather(1, targets[:, None]).sum()
            return torch.autograd.grad(chosen, images, create_graph=True)[0]

    assert torch.equal(explain(model, IMAGES, attribution=gradient), explain(model, IMAGES))
    by_name, by_function = (attack(model, IMAGES, attribution=one, steps=3) for one in ("saliency", gradient))
    assert torch.equal(by_name.images, by_function.images)
    assert set(by_function.rows.attribution) == {"gradient"}

    def grey(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return gradient(model, images, targets)[:, 0]

    assert torch.equal(explain(model, IMAGES, attribution=grey), explain(model, IMAGES))  # as on the command line

    def detached(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return gradient(model, images, targets).detach()

    with pytest.raises(
        ConfigError, match="attribution=detached has no gradient; choose an attack that needs no gradient"
    ):
        attack(model, IMAGES, attribution=detached)
    assert "no_usable_gradient" not in attack(model, IMAGES, attribution=detached, attack="random_ball").flags


def test_objects_are_attacks_and_metrics(model: nn.Module) -> None:
    @dataclass(frozen=True)
    class Halved(CosineDistance):
        def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
            return super().__call__(reference, other) / 2

    search = RandomAttack(sample="ball", draws=5, measure="halved")
    found = attack(model, IMAGES, attack=search, metrics={"halved": Halved(), "cosine_distance": {}}, chunk=2)
    assert found.metrics == ("halved", "cosine_distance")
    np.testing.assert_array_equal(found.rows.halved * 2, found.rows.cosine_distance)
    assert (found.rows[found.rows.epsilon > 0].halved > 0).any()


def test_compare_on_known_maps() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(3, 2, 1, 1)
    others = maps.clone()
    others[1] = others[1].flip(-1, -2)
    others[2, 0, 0, 0] = float("nan")
    found = compare(maps, others.numpy(), ["spearman", "topk_intersection"], k=4)
    assert list(found.spearman.round(12))[:2] == [1.0, -1.0]
    assert list(found.topk_intersection)[:2] == [1.0, 0.0]
    assert found.iloc[2].isna().all()
    for window, expected in ((7, [1.0, 1.0]), (5, [1.0, 0.0])):  # the top pixel moved by 3 rows and columns
        near = compare(maps[:2], others[:2], {"lens_recall": {"window": window, "k": 1}})
        assert near.lens_recall.tolist() == expected
    with pytest.raises(ConfigError, match=r"others=of shape \[2, 2, 4, 4\]: must be of shape \[3, 2, 4, 4\]"):
        compare(maps, others[:2])
    with pytest.raises(ConfigError, match="needs the network"):
        compare(maps, others, ["infidelity"], reduction="sum")


def test_evaluate_wants_models_and_their_numbers(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"models=\[\]"):
        evaluate([], IMAGES)
    with pytest.raises(ConfigError, match="seeds="):
        evaluate([model, model], IMAGES, seeds=[0, 0])
    with pytest.raises(ConfigError, match="models=with int"):
        evaluate([model, 3], IMAGES)  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="given as seeds="):
        evaluate([model], IMAGES, seed=1)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Softplus(), nn.Linear(16, 3))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    both = evaluate([smooth, linear], IMAGES, seeds=[4, 7], steps=2, epsilons=[0.5])
    assert both.attrs["flags"]["constant_map"] == [7]
    alone = evaluate([model], IMAGES, LABELS, steps=2, epsilons=[0.5])
    assert alone.low.isna().all()
    assert set(alone.epsilon) == {0.0, 0.5}


class _Attending(nn.Module):
    """Self-attention over the rows of an image, by the fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        query, key, value = self.project(images).chunk(3, dim=-1)
        return self.head(nn.functional.scaled_dot_product_attention(query, key, value).mean(dim=(1, 2)))


def test_attention_is_attacked_from_python_too() -> None:
    torch.manual_seed(0)
    found = attack(_Attending(), IMAGES, steps=3, epsilons=[0.5], beta=None)
    assert (found.rows.topk_intersection[found.rows.epsilon == 0.5] < 1).all()
