"""What a certificate says nothing about: other attributions, noise, norms and reductions, and numbers out of range."""

import pytest

from runner.attributions.occlusion import Occlusion
from runner.attributions.saliency import Saliency
from runner.attributions.smoothgrad import SmoothGrad
from runner.attributions.sparsified_smoothgrad import SparsifiedSmoothGrad
from runner.attributions.squared_smoothgrad import SquaredSmoothGrad
from runner.attributions.uniform_gradient import UniformGradient
from runner.certificates.first_order import FirstOrder
from runner.certificates.levine_topk import LevineTopK
from runner.certificates.pixel import CertifiedPixels
from runner.certificates.smoothgrad_lipschitz import SmoothGradLipschitz
from runner.certificates.uniform_cosine import UniformCosine
from runner.core.errors import ConfigError

LEVINE = LevineTopK(k=10, reduction="abs_sum")
LIPSCHITZ = SmoothGradLipschitz(reduction="abs_sum")
UNIFORM = UniformCosine(reduction="abs_sum")
SPARSE, SMOOTH = SparsifiedSmoothGrad(), SmoothGrad(output="probability")
PLAIN_UNIFORM = UniformGradient(multiply_by_input=False)


@pytest.mark.parametrize(
    ("certificate", "attribution", "norm", "reduction", "message"),
    [
        (
            LEVINE,
            Saliency(),
            "l2",
            "abs_sum",
            "levine_topk: says nothing about the attribution Saliency; it is about Spars",
        ),
        (LEVINE, SPARSE, "linf", "abs_sum", "epsilon.norm=linf: must be l2"),
        (LEVINE, SPARSE, "l2", "sum", "certificate.reduction=abs_sum: must be metrics.reduction, which is sum"),
        (LIPSCHITZ, SmoothGrad(), "l2", "abs_sum", "attribution.output=logit: must be probability"),
        (LIPSCHITZ, SquaredSmoothGrad(), "l2", "abs_sum", "the attribution SquaredSmoothGrad"),
        (
            *(LIPSCHITZ, SmoothGrad(output="probability", relative_to="image"), "l2", "abs_sum"),
            "attribution.relative_to=image: must be unit",
        ),
        (LIPSCHITZ, SmoothGrad(output="probability", sigma=0), "l2", "abs_sum", "attribution.sigma=0: must be above 0"),
        (UNIFORM, UniformGradient(), "l2", "abs_sum", "attribution.multiply_by_input=True: must be false"),
        (FirstOrder(beta=None), Occlusion(), "l2", "abs_sum", "attribution=Occlusion: must be one with a gradient"),
        (FirstOrder(beta=None), Saliency(chunk=3), "l2", "abs_sum", "attribution.chunk=3: must be null"),
    ],
)
def test_what_it_says_nothing_about(certificate, attribution, norm, reduction, message) -> None:
    with pytest.raises(ConfigError) as caught:
        certificate.check(attribution, norm, reduction)
    assert message in str(caught.value)


def test_what_it_is_about() -> None:
    for certificate, attribution in ((LEVINE, SPARSE), (LIPSCHITZ, SMOOTH), (UNIFORM, PLAIN_UNIFORM)):
        certificate.check(attribution, "l2", "abs_sum")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LevineTopK(k=10, reduction="sum", confidence=1),
            "certificate.confidence=1: must be above 0 and below 1",
        ),
        (lambda: LevineTopK(k=0, reduction="sum"), "certificate.k=0: must be at least 1"),
        (
            lambda: SmoothGradLipschitz(reduction="sum", gradient_bound=0.0),
            "certificate.gradient_bound=0.0: must be above",
        ),
        (lambda: FirstOrder(beta=1.0), "certificate.beta=1.0: must be above 0 and with certificate.twin"),
        (
            lambda: CertifiedPixels(k=10, reduction="sum", channels=1, pilot=100),
            "certificate.samples=100: must be above certificate.pilot=100",
        ),
    ],
)
def test_numbers_out_of_range(make, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)
