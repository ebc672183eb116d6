"""The contracts between the parts: what a model, an attribution, a metric, a certificate and a defense are.

Attacks have a file of their own, `runner.core.attack_types`.

Shapes: images (N, C, H, W) float32 in [0, 1]; targets and labels (N,) int64; maps (N, H, W) after reduction;
keys (N,) int64, the random keys of `runner.core.rng`, one per example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

Direction = Literal["higher", "lower"]
Norm = Literal["l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)
PixelNorm = Literal["l2", "linf", "l0"]
"""`l0` counts the pixels that differ in at least one channel."""
Budget = Literal["l2", "linf", "l0", "spatial"]
"""The unit of epsilon. `spatial` is a share, in [0, 1], of the largest transform that the attack declares."""
BUDGETS: tuple[Budget, ...] = get_args(Budget)

Explain = Callable[["nn.Module", "Tensor", "Tensor", "Tensor"], "Tensor"]
"""(model, images, targets, keys) -> reduced map (N, H, W), differentiable in the images."""

Twin = Callable[[float], "nn.Module"]
"""beta -> the model with every ReLU replaced by softplus of that beta, sharing the weights."""


@runtime_checkable
class Attribution(Protocol):
    """(model, images, targets, keys) -> map (N, C, H, W), differentiable in the images when called with grad enabled."""

    @property
    def stochastic(self) -> bool:
        """Whether the map depends on `keys`."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """The attribution of `targets` for `images`."""


def differentiable(attribution: Attribution) -> bool:
    """Whether the map has a gradient in the images. Others (occlusion) declare `differentiable: ClassVar = False`."""
    return bool(getattr(attribution, "differentiable", True))


def exact_gradient(attribution: Attribution) -> bool:
    """Whether autograd gives the exact gradient of the map. Attributions whose backward pass uses an approximation (a relaxed
    indicator, a fixed search point) declare `exact_gradient: ClassVar = False`."""
    return bool(getattr(attribution, "exact_gradient", True))


@runtime_checkable
class Inspecting(Protocol):
    """An attribution that not every network has: it needs certain layers, or is the user's own code."""

    def inspect(self, model: nn.Module, images: Tensor) -> bool:
        """Try it on a few images (N, C, H, W) before any work. Returns whether its map has a gradient in them.

        Both may be on the meta device, which has no values. Errors: `ConfigError` for a network that it cannot explain.
        """


@runtime_checkable
class Referenced(Protocol):
    """An attribution that compares an image with training images (expected gradients)."""

    @property
    def references(self) -> int:
        """How many training images it needs."""

    def with_references(self, images: Tensor) -> Attribution:
        """The attribution with these images (R, C, H, W) as references, the first of a stratified order."""


@runtime_checkable
class Metric(Protocol):
    """(reference maps, other maps), each (N, H, W) -> (N,). `direction` says which end of the range is more robust."""

    @property
    def direction(self) -> Direction:
        """`higher` or `lower`: which values mean a more robust attribution."""

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest possible value."""

    @property
    def unit(self) -> str:
        """Unit for axis labels; empty for pure numbers."""

    def __call__(self, reference: Tensor, other: Tensor) -> Tensor:
        """One value per example."""


def symmetric(metric: Metric | ContextualMetric) -> bool:
    """Whether swapping the two maps (and their images) changes nothing; otherwise declare `symmetric: ClassVar = False`."""
    return bool(getattr(metric, "symmetric", True))


def scale_invariant(metric: Metric | ContextualMetric) -> bool:
    """Whether scaling each map by a positive factor changes nothing; otherwise declare `scale_invariant: ClassVar = False`."""
    return bool(getattr(metric, "scale_invariant", True))


def compares(metric: Metric | ContextualMetric) -> bool:
    """Whether the metric compares two maps, so that equal maps get its most robust value. Metrics of the perturbed image's map
    alone declare `compares: ClassVar = False`."""
    return bool(getattr(metric, "compares", True))


@dataclass(frozen=True)
class Context:
    """What a metric may need besides two maps: the network, and the images of the maps."""

    model: nn.Module
    explain: Explain
    targets: Tensor
    images: Tensor
    """Clean images (N, C, H, W), of the reference maps."""
    perturbed: Tensor
    """Perturbed images (N, C, H, W), of the other maps."""
    keys: Tensor
    """Random keys (N,) for the metric's own draws."""


@runtime_checkable
class ContextualMetric(Protocol):
    """A metric that also uses the network (infidelity, stability). It cannot be the `measure` of an attack."""

    @property
    def needs_context(self) -> Literal[True]:
        """True: distinguishes it from a `Metric`."""

    @property
    def direction(self) -> Direction:
        """`higher` or `lower`: which values mean a more robust attribution."""

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest possible value."""

    @property
    def unit(self) -> str:
        """Unit for axis labels; empty for pure numbers."""

    def __call__(self, reference: Tensor, other: Tensor, context: Context) -> Tensor:
        """Maps (N, H, W) of the clean and of the perturbed images -> one value per example (N,)."""


@runtime_checkable
class Certificate(Protocol):
    """A bound on a metric that holds for every perturbation inside the budget, or an estimate of one."""

    @property
    def bounds(self) -> str:
        """Name of the metric (as in conf/metrics): a lower bound if higher is better, an upper bound if lower is."""

    @property
    def confidence(self) -> float | None:
        """Probability that the bound of an example holds, 1 if it is deterministic; None for an estimate."""

    def check(self, attribution: Attribution, norm: str, reduction: str) -> None:
        """Errors: `ConfigError` when it does not apply to this attribution, norm or reduction of maps."""

    def __call__(self, subject: Subject, epsilons: Sequence[float]) -> Tensor:
        """(N, E) float64 bounds, one per example and budget."""


@runtime_checkable
class Annotated(Protocol):
    """A certificate with further values per example; rows carry them as columns `certificate_NAME`."""

    def annotate(self, subject: Subject, epsilons: Sequence[float]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(N, E) float64 bounds, as from `__call__`, and the further values by name, (N, E) each."""


@dataclass(frozen=True)
class Subject:
    """What a certificate is about: maps of a model on clean images."""

    model: nn.Module
    attribution: Attribution
    explain: Explain
    images: Tensor
    targets: Tensor
    keys: Tensor
    """Random keys (N,) for the certificate's own draws."""


@dataclass(frozen=True)
class Batch:
    """One training batch. `keys` (N,) are new for each step and depend only on (seed, epoch, example)."""

    images: Tensor
    labels: Tensor
    keys: Tensor
    progress: float
    """Share of the training that is done, in [0, 1]; for warm-ups and ramps."""
    epoch: int = 0
    """Number of the pass over the training split, from 0; for schedules by epoch."""


@runtime_checkable
class Defense(Protocol):
    """How a model is trained: a loss for a batch, and named scalars to log (`penalty`, `adversarial_loss`, ...)."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss with gradients in the parameters, and detached scalars."""


def kept_state(defense: Defense) -> dict[str, Tensor]:
    """Named tensors that a defense keeps between steps (such as power-iteration vectors); `loss` changes them in place.

    Empty before the first step and for a defense without `state`. Saved at every epoch and restored on resume.
    """
    return getattr(defense, "state", {})


def steps_per_batch(defense: Defense) -> int:
    """Optimiser steps on each batch, with one call of `loss` each: `replays`, by default 1."""
    return int(getattr(defense, "replays", 1))
