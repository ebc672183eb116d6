"""The bound of a gradient from a network's layers, against dense matrices and gradients."""

import pytest
import torch
from known_maps import images_of, network
from torch import nn

from runner.certificates.lipschitz import convolution_norm, gradient_bound
from runner.core.errors import ConfigError
from runner.models.mlp import mlp
from runner.models.small_cnn import small_cnn


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (2, 1), (5, 1)])
def test_a_convolution_is_bounded_by_its_transfer_function(side: int, stride: int) -> None:
    torch.manual_seed(side)
    layer = nn.Conv2d(2, 3, side, stride=stride, padding=side // 2, bias=False).double()
    images = torch.eye(2 * 12 * 12, dtype=torch.float64).reshape(-1, 2, 12, 12)
    dense = float(torch.linalg.matrix_norm(layer(images).detach().flatten(1), 2))
    bound = convolution_norm(layer.weight.detach())
    assert dense <= bound
    assert stride > 1 or bound <= 1.2 * dense


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("build", [mlp, small_cnn])
def test_no_gradient_is_longer(build, output: str) -> None:
    torch.manual_seed(0)
    size = {"widths": [12]} if build is mlp else {"width": 4, "pool": "avg"}
    model = build(shape=[2, 8, 8], classes=3, **size).eval()
    images = images_of(60, 2, 8).requires_grad_()
    targets = model(images).argmin(dim=1)
    scores = model(images) if output == "logit" else model(images).softmax(dim=1)
    (gradients,) = torch.autograd.grad(scores.gather(1, targets.unsqueeze(1)).sum(), images)
    bound = gradient_bound(model, images, targets, output)  # type: ignore[arg-type]
    assert bound.shape == (60,)
    assert torch.all(gradients.flatten(1).norm(dim=1) <= bound)


def test_exact_for_linear_models() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    targets = torch.tensor([0, 1])
    assert torch.allclose(
        gradient_bound(model, torch.rand(2, 4), targets, "logit"), model[1].weight.detach().double().norm(dim=1)
    )
    # a two-class probability is steepest where p = 1/2: p (1 - p) |w_0 - w_1|
    apart = (model[1].weight[0] - model[1].weight[1]).detach().double().norm() / 4
    assert torch.allclose(gradient_bound(model, torch.rand(2, 4), targets, "probability"), apart.expand(2))


def test_unknown_layers_are_refused() -> None:
    for model in (nn.Sequential(nn.GELU(), nn.Linear(4, 2)), nn.Sequential(nn.Linear(4, 2), nn.ReLU())):
        with pytest.raises(ConfigError, match=r"certificate.gradient_bound=null.*(GELU|ReLU)"):
            gradient_bound(model, torch.rand(1, 4), torch.tensor([0]), "logit")
    assert gradient_bound(network(1, 2), images_of(1, 1, 2), torch.tensor([0]), "logit").item() > 0


class Doubled(nn.Linear):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(images)


class Residual(nn.Sequential):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + super().forward(images)


class Sharpened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.normalise, self.network = nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(5 * self.normalise(images))


class Contrast(nn.Module):
    mean, std = torch.zeros(1), torch.ones(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 10 * images


def hooked() -> nn.Module:
    layer = nn.Linear(4, 2)
    layer.register_forward_hook(lambda module, inputs, output: 3 * output)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(Doubled(4, 2)), (4,)),
        (nn.Sequential(Doubled(4, 4), nn.Linear(4, 2)), (4,)),
        (nn.Sequential(Residual(nn.Linear(4, 4)), nn.Linear(4, 2)), (4,)),
        (Sharpened(), (1, 2, 2)),
        (nn.Sequential(Contrast(), nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2)),
        (hooked(), (1, 2, 2)),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2), nn.Flatten(), nn.Linear(1, 2)), (1, 3, 3)),
    ],
    ids=[
        "doubled output",
        "doubled",
        "residual",
        "function between",
        "no normalisation",
        "hook",
        "windows that overlap",
    ],
)
def test_what_the_layers_do_not_tell_is_refused(model: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"certificate.gradient_bound=null"):
        gradient_bound(model, torch.rand(3, *shape), torch.zeros(3, dtype=torch.int64), "logit")
