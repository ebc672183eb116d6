"""A network with batch normalisation trains under every defense, and is tested as what was trained."""

import pytest
import torch
from found import Plugin
from torch import nn
from world import keys_of

from runner.core.types import Batch, steps_per_batch
from runner.datasets.embedded import digits
from runner.defenses.modes import training_step
from runner.models.parts import Classifier, Normalise, make_activation
from runner.training.recomputed_statistics import accuracy_with_fresh_statistics
from runner.training.trainer import accuracy

STEPS, SIZE = 60, 32
CPU = torch.device("cpu")


def network(plugin: Plugin) -> nn.Module:
    """With the activation that the plug-in's command asks for."""
    node = plugin.cheap["model"]

    def block(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), make_activation(node["activation"], node["beta"])]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(*block(1), *block(8), nn.Flatten(), nn.Linear(128, 10))
    return Classifier(Normalise(1, (0.5,), (0.5,)), layers)


def trained(plugin: Plugin, model: nn.Module) -> nn.Module:
    """Some steps of the plug-in's defense on images of 8x8 pixels, each with its backward pass, as the trainer takes them."""
    defense, images = plugin.build(), digits().training_split()
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    model.train()
    for step in range(STEPS):
        places = torch.arange(step * SIZE, (step + 1) * SIZE) % len(images)
        pixels, labels, _ = images.batch(places, CPU)
        batch = Batch(pixels, labels, keys_of(step, SIZE), step / STEPS)
        for _ in range(steps_per_batch(defense)):
            with training_step(model, pixels):
                loss, _ = defense.loss(model, batch)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
    return model.eval()


def test_the_tested_network_is_the_trained_one(defense: Plugin) -> None:
    """Its accuracy hardly changes when the statistics are computed afresh, and it has learned something."""
    model = trained(defense, network(defense))
    tested, fresh = accuracy(model, digits().test, CPU), accuracy_with_fresh_statistics(model, digits(), CPU)
    assert tested > 0.3  # chance is 0.1
    assert fresh == pytest.approx(tested, abs=0.1)  # running averages lag behind in so short a training
