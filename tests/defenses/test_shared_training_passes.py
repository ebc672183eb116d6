"""In a training step the clean images pass once for the cross-entropy and the penalty, and nothing changes but the cost."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from runner.core import rng
from runner.core.types import Batch
from runner.defenses.cure import CurvatureRegularisation
from runner.defenses.input_gradient import InputGradient
from runner.defenses.modes import training_step
from runner.defenses.ssr import SmoothSurface

IMAGES = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.arange(6) % 3, rng.example_keys(3, range(6)), 0.5, 9)
APART = replace(BATCH, images=IMAGES.clone())
"""Copied images are not known as those of the step, so that each pass is one of its own."""
DEFENSES = {
    "input gradient": InputGradient(weight=3.0),
    "CURE": CurvatureRegularisation(),
    "closed form": SmoothSurface(method="closed_form"),
    "power": SmoothSurface(method="power"),
}


def network(between=nn.Identity):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), between(), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double().train()


def step(defense, model, batch):
    """The gradients of a step, and how many batches passed."""
    seen = []
    with training_step(model, IMAGES), model[0].register_forward_hook(lambda *made: seen.append(made)):
        defense.loss(model, batch)[0].backward()
    return [parameter.grad for parameter in model.parameters()], len(seen)


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize(
    ("between", "saved"),
    [(nn.Identity, 1), (partial(nn.BatchNorm2d, 4), 1), (partial(nn.Dropout, 0.0), 0)],
    ids=["plain", "norm", "dropout"],
)
def test_shared_passes_change_no_gradient(name, between, saved):
    model = network(between)
    other, defense = copy.deepcopy(model), DEFENSES[name]
    together, passes = step(defense, model, BATCH)
    apart, more = step(defense, other, APART)
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-12)
    assert more - passes == saved
    for one, two in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two)
