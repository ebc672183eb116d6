"""Beta-smoothing: the gradient of the twin of that beta, whatever soft or hard network it is given."""

import pytest
import torch
from networks import build, twin
from torch import nn

from runner.attributions.beta_smoothing import BetaSmoothing
from runner.attributions.saliency import Saliency
from runner.core.errors import ConfigError
from runner.models.small_cnn import small_cnn
from runner.models.twin import softplus_twin


@pytest.mark.parametrize("kind", ["small_cnn", "mlp", "resnet20_b"])
@pytest.mark.parametrize("beta", [0.8, 3.0])
def test_it_is_the_saliency_of_the_twin_and_twins_have_the_same_map(kind, beta, images, targets, keys):
    model, method = build(kind), BetaSmoothing(twin=softplus_twin, beta=beta)
    maps = method(model, images, targets, keys)
    assert torch.equal(maps, Saliency()(twin(model, beta), images, targets, keys))
    assert torch.equal(maps, method(twin(model, 10.0), images, targets, keys))
    assert not torch.allclose(maps, Saliency()(model, images, targets, keys), rtol=0.01)


def test_one_softplus_neuron(images, targets, keys):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(70, 1, bias=False), nn.ReLU(), nn.Linear(1, 3)).double()
    maps = BetaSmoothing(twin=softplus_twin, beta=2.0)(model, images, targets, keys).flatten(1)
    inner, outer = model[1].weight.detach()[0], model[3].weight.detach()[targets, 0]
    gate = (2.0 * images.flatten(1) @ inner).sigmoid()
    torch.testing.assert_close(maps, (outer * gate)[:, None] * inner)


def test_a_model_that_is_soft_already_gets_this_beta_and_stays_as_it_is(images, targets, keys):
    shape = {"shape": (2, 5, 7), "classes": 3, "width": 3}
    torch.manual_seed(1)
    model = small_cnn(**shape, activation="softplus", beta=10.0).double().eval()
    other = small_cnn(**shape, activation="softplus", beta=1.0).double().eval()
    other.load_state_dict(model.state_dict())
    before = model(images)
    maps = BetaSmoothing(twin=softplus_twin)(model, images, targets, keys)
    assert torch.equal(maps, Saliency()(other, images, targets, keys))
    assert torch.equal(model(images), before)


def test_relu6_needs_a_larger_beta_and_the_error_names_the_right_key(images, targets, keys):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(45, 3)).double()
    with pytest.raises(ConfigError, match=r"^attribution\.beta=1\.0: must be at least 10"):
        BetaSmoothing(twin=softplus_twin)(model, images, targets, keys)
    method = BetaSmoothing(twin=softplus_twin, beta=12.0)
    maps = method(model, images, targets, keys)
    assert torch.equal(maps, method(twin(model, 30.0), images, targets, keys))
    assert torch.equal(maps, Saliency()(twin(model, 12.0), images, targets, keys))


@pytest.mark.parametrize(("key", "value"), [("beta", 0), ("beta", -1.0), ("twin", "softplus")])
def test_wrong_values_are_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=rf"^attribution\.{key}={value}"):
        BetaSmoothing(**{"twin": softplus_twin, key: value})
