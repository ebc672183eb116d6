"""The smoothing block: a Gaussian blur of each channel, mixed and added back; without it the models are as they were."""

import math

import pytest
import torch

from runner.core.errors import ConfigError
from runner.models.feature_smoothing import FeatureSmoothing, feature_smoothing
from runner.models.resnet20 import resnet20
from runner.models.small_cnn import small_cnn


def maps(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_the_kernel_is_the_gaussian_of_sigma():
    side = math.exp(-1 / (2 * 0.7**2))
    row = torch.tensor([side, 1.0, side]) / (1 + 2 * side)
    kernel = FeatureSmoothing(4, 0.7).kernel
    assert kernel.shape == (4, 1, 3, 3)
    for channel in kernel[:, 0]:
        torch.testing.assert_close(channel, torch.outer(row, row))


def test_a_large_sigma_averages_the_nine_neighbours_of_each_channel_by_itself():
    features = maps(2, 3, 5, 6)
    blurred = FeatureSmoothing(3, 1e3).blur(features)
    torch.testing.assert_close(blurred[:, :, 2, 3], features[:, :, 1:4, 2:5].mean(dim=(2, 3)), rtol=1e-5, atol=0)


def test_constants_stay_and_noise_shrinks():
    block = FeatureSmoothing(3, 1.0)
    torch.testing.assert_close(block.blur(torch.full((1, 3, 4, 4), 0.3)), torch.full((1, 3, 4, 4), 0.3))
    noise = maps(1, 3, 20, 20) - 0.5
    assert block.blur(noise).std() < 0.6 * noise.std()


def test_the_block_adds_the_mixed_blur():
    block, features = FeatureSmoothing(3, 1.0), maps(2, 3, 4, 4)
    with torch.no_grad():
        block.mix.weight.copy_(2 * torch.eye(3)[:, :, None, None])
        block.mix.bias.fill_(0.5)
    torch.testing.assert_close(block(features), features + 2 * block.blur(features) + 0.5)


def test_only_the_mixing_is_trained_and_saved():
    assert sorted(FeatureSmoothing(3, 1.0).state_dict()) == ["mix.bias", "mix.weight"]
    assert feature_smoothing(3, 0.0) == []


@pytest.mark.parametrize(("builder", "channels", "side"), [(small_cnn, 8, 6), (resnet20, 16, 12)])
def test_models_have_it_after_their_first_stage_and_nothing_by_default(builder, channels, side):
    keys = {"shape": (3, 12, 12), "classes": 4, **({"width": 8} if builder is small_cnn else {})}
    plain = builder(**keys)
    smoothed = builder(**keys, feature_smoothing=1.0)
    added = sum(p.numel() for p in smoothed.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == channels * channels + channels
    assert not any(isinstance(module, FeatureSmoothing) for module in plain.modules())
    (block,) = [module for module in smoothed.modules() if isinstance(module, FeatureSmoothing)]
    seen = []
    block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    assert smoothed.eval()(maps(2, 3, 12, 12)).shape == (2, 4)
    assert seen == [(2, channels, side, side)]


def test_its_second_derivatives_exist():
    torch.manual_seed(0)
    model = small_cnn(shape=(1, 8, 8), classes=3, width=4, activation="softplus", feature_smoothing=1.0).double()

    def logit(image):
        return model(image)[:, 1].sum()

    assert torch.autograd.gradgradcheck(logit, maps(1, 1, 8, 8).double().requires_grad_(True))


@pytest.mark.parametrize("builder", [small_cnn, resnet20])
def test_a_negative_sigma_is_refused(builder):
    with pytest.raises(ConfigError, match=r"model\.feature_smoothing=-1"):
        builder(shape=(1, 8, 8), classes=3, feature_smoothing=-1.0)
