"""Occlusion: Captum's values, and the exact ones of a linear model."""

import captum.attr
import pytest
import torch

from runner.attributions.occlusion import Occlusion
from runner.core.errors import ConfigError


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 5), (4, 2)])
def test_it_agrees_with_captum(window, stride, output, cnn, images, targets, keys):
    forward = cnn if output == "logit" else lambda inputs: cnn(inputs).softmax(1)
    with torch.no_grad():
        oracle = captum.attr.Occlusion(forward).attribute(
            images,
            sliding_window_shapes=(2, window, window),
            strides=(2, stride, stride),
            baselines=0.25,
            target=targets,
        )
    method = Occlusion(window=window, stride=stride, baseline="1/4", output=output)
    # Captum adds up in float32
    close(method(cnn, images, targets, keys), oracle.double(), 2e-6)


def test_a_pixel_gets_the_mean_over_the_windows_that_cover_it(cnn, images, targets, keys):
    totals, covers = torch.zeros_like(images), torch.zeros(5, 7, dtype=torch.float64)
    for top in (0, 2):
        for left in (0, 2, 4):
            covered = images.clone()
            covered[:, :, top : top + 3, left : left + 3] = 0.5
            fall = (cnn(images) - cnn(covered)).gather(1, targets.unsqueeze(1)).detach().reshape(-1, 1, 1, 1)
            totals[:, :, top : top + 3, left : left + 3] += fall
            covers[top : top + 3, left : left + 3] += 1
    close(Occlusion(window=3, stride=2)(cnn, images, targets, keys), totals / covers)


def test_single_pixels_of_a_linear_model(linear, images, targets, keys):
    weight = linear.weights.detach().T[targets].reshape_as(images)
    method = Occlusion(window=1, stride=1, baseline=[0.1, 0.9])
    baseline = torch.tensor([0.1, 0.9], dtype=torch.float64).reshape(2, 1, 1)
    drop = (weight * (images - baseline)).sum(dim=1, keepdim=True)
    close(method(linear, images, targets, keys), drop.repeat(1, 2, 1, 1))


def test_the_whole_image_as_window_gives_the_fall_to_the_baseline(cnn, targets, keys):
    images = torch.rand(5, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cnn[-1] = torch.nn.Linear(16, 3).double()
    fall = (cnn(images) - cnn(torch.full_like(images, 0.5))).gather(1, targets.unsqueeze(1)).detach()
    found = Occlusion(window=5, stride=1)(cnn, images, targets, keys)
    close(found, fall.reshape(-1, 1, 1, 1).expand_as(images))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        *(({"window": 0}, "window"), ({"stride": 0}, "stride"), ({"window": 2, "stride": 3}, "stride")),
        *(({"baseline": []}, "baseline"), ({"baseline": "grey"}, "baseline")),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_wrong_options_are_refused(options, key):
    with pytest.raises(ConfigError, match=rf"^attribution\.{key}="):
        Occlusion(**options)


@pytest.mark.parametrize(("options", "key"), [({"window": 6}, "window"), ({"baseline": [0, 0, 0]}, "baseline")])
def test_options_that_do_not_fit_the_images_are_refused(options, key, cnn, images, targets, keys):
    with pytest.raises(ConfigError, match=rf"^attribution\.{key}="):
        Occlusion(**options)(cnn, images, targets, keys)
