"""The networks and images that the cases use: embedded digits, and a network trained on them for a few seconds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner.api.options import described
from runner.runs.parts import Parts

SHAPES: Mapping[str, tuple[int, int, int]] = {"small_cnn": (1, 28, 28), "resnet20": (3, 32, 32)}
"""The networks that can be chosen, and the images that they get."""


@dataclass(frozen=True)
class Subject:
    """A trained network and test images on one device. `tiny` asks the cases for sizes that take a moment."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    name: str
    tiny: bool = False

    def size(self, full: int, tiny: int) -> int:
        """One of two sizes."""
        return tiny if self.tiny else full

    @property
    def device(self) -> torch.device:
        """Where network and images are."""
        return self.images.device

    @cached_property
    def targets(self) -> Tensor:
        """(N,) predicted classes, which the maps explain."""
        with torch.no_grad():
            predicted: Tensor = self.model(self.images).argmax(dim=1)
        return predicted

    def soft(self, beta: float = 10.0) -> nn.Module:
        """The network with softplus instead of ReLU, built by itself with the same weights: a peer's own twin."""
        twin = new_network(self.name, classes=10, activation="softplus", beta=beta)
        twin.load_state_dict(self.model.state_dict())
        return twin.to(self.device).eval().requires_grad_(False)

    def fresh(self) -> nn.Module:
        """A copy with parameters that can be trained."""
        return copy.deepcopy(self.model).requires_grad_(True).train()


def new_network(name: str, classes: int, **options: Any) -> nn.Module:
    """A network with random weights of a fixed seed."""
    settings = {"dataset.shape": list(SHAPES[name]), "dataset.classes": classes}
    settings |= {f"model.{key}": value for key, value in options.items()}
    torch.manual_seed(0)
    return Parts(described({"model": name}, settings), {}).new_model()


@cache
def subject(name: str = "small_cnn", device: str = "cpu", tiny: bool = False) -> Subject:
    """The network `name` after two epochs on 4,000 digits, frozen, with 1,000 test images (on 1,000 and with 60 if `tiny`)."""
    data = Parts(described({"dataset": "mnist5k"}, {}), {}).dataset
    images, labels, _ = data.train.batch(range(1000 if tiny else len(data.train)), device)
    model = new_network(name, classes=10).to(device)
    _fit(model, fitted(images, name), labels, 2)
    tested, classes, _ = data.test.batch(range(60 if tiny else len(data.test)), device)
    return Subject(model.eval().requires_grad_(False), fitted(tested, name), classes, name, tiny)


def fitted(images: Tensor, name: str) -> Tensor:
    """Digits (N, 1, 28, 28) with a black border and repeated channels, as the network takes them."""
    channels, height, _ = SHAPES[name]
    border = (height - images.shape[2]) // 2
    return F.pad(images, (border,) * 4).repeat(1, channels, 1, 1)


def _fit(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for part in order.to(images.device).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[part]), labels[part]).backward()
            optimizer.step()
