"""What holds for Grad-CAM, beta-smoothing and the maps with rules of their own, on every kind of network."""

import pytest
import torch
from networks import BUILDERS, build, slope_and_difference, twin

from runner.attributions.beta_smoothing import BetaSmoothing
from runner.attributions.deep_lift import DeepLift
from runner.attributions.grad_cam import GradCam
from runner.attributions.guided_backprop import GuidedBackprop
from runner.attributions.lrp import LayerwiseRelevance
from runner.attributions.sparsified_smoothgrad import SparsifiedSmoothGrad
from runner.attributions.squared_smoothgrad import SquaredSmoothGrad
from runner.core.errors import ConfigError
from runner.models.twin import softplus_twin

METHODS = {
    "squared_smoothgrad": SquaredSmoothGrad(samples=3, output="probability"),
    "beta_smoothing": BetaSmoothing(twin=softplus_twin, beta=1.5, multiply_by_input=True),
    "grad_cam": GradCam(relu=False),
    "guided_backprop": GuidedBackprop(multiply_by_input=True),
    "deep_lift": DeepLift(baseline=[0.1, 0.3]),
    "lrp": LayerwiseRelevance(),
    "lrp_z_plus": LayerwiseRelevance(first=None, convolution="z_plus", dense="gamma", epsilon=1e-2),
}
RULED = ("guided_backprop", "deep_lift", "lrp", "lrp_z_plus")
PAIRS = [(name, kind) for name in RULED for kind in BUILDERS if kind != "resnet20"]
PAIRS += [(name, "small_cnn") for name in METHODS if name not in RULED]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_the_gradient_that_an_attack_takes_from_the_twin_is_the_true_one(name, kind, images, targets, keys):
    network = twin(build(kind))
    slope, difference = slope_and_difference(lambda x: METHODS[name](network, x, targets, keys), images)
    assert slope.abs().max() > 1e-8
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-6 * float(difference.abs().max()))


@pytest.mark.parametrize("name", METHODS)
def test_single_precision_gives_the_same_maps(name, images, targets, keys):
    exact = METHODS[name](build("small_cnn"), images, targets, keys)
    rounded = METHODS[name](build("small_cnn").float(), images.float(), targets, keys)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


WRONG = [
    (SquaredSmoothGrad, "samples", 0),
    (SparsifiedSmoothGrad, "sigma", -1),
    (SparsifiedSmoothGrad, "tau", 0),
    (SparsifiedSmoothGrad, "tau", 1.5),
    (SparsifiedSmoothGrad, "temperature", 0.0),
    (SparsifiedSmoothGrad, "chunk", 0),
    (DeepLift, "baseline", []),
    (DeepLift, "baseline", "black"),
    (DeepLift, "chunk", -1),
    (LayerwiseRelevance, "gamma", -0.5),
    (LayerwiseRelevance, "epsilon", "small"),
]


@pytest.mark.parametrize(("kind", "key", "value"), WRONG)
def test_wrong_values_are_refused_by_name(kind, key, value):
    with pytest.raises(ConfigError) as error:
        kind(**{key: value})
    assert str(error.value).startswith(f"attribution.{key}=")
    assert "\n" not in str(error.value)
