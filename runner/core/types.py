"""The contracts between the parts: what a model, an attribution, a metric, an attack and a defense are.

Shapes: images (N, C, H, W) float32 in [0, 1]; targets and labels (N,) int64; maps (N, H, W) after reduction;
keys (N,) int64, the counter-based random keys of `runner.core.rng`, one an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

Direction = Literal["higher", "lower"]
Norm = Literal["l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)
PixelNorm = Literal["l2", "linf", "l0"]
"""`l0` counts pixels: one that differs in any channel counts once."""
Budget = Literal["l2", "linf", "l0", "spatial"]
"""What an epsilon measures. `spatial` is a share, in [0, 1], of the largest transform that the attack states."""
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
    """Whether a map has a gradient in the images. One that has none (occlusion) says `differentiable: ClassVar = False`."""
    return bool(getattr(attribution, "differentiable", True))


def exact_gradient(attribution: Attribution) -> bool:
    """Whether autograd differentiates the map itself. One whose backward pass takes a stand-in for what has no derivative
    (a relaxed indicator, a searched point held fixed) says `exact_gradient: ClassVar = False`."""
    return bool(getattr(attribution, "exact_gradient", True))


@runtime_checkable
class Referenced(Protocol):
    """An attribution that compares an image with training images (expected gradients)."""

    @property
    def references(self) -> int:
        """How many training images it wants."""

    def with_references(self, images: Tensor) -> Attribution:
        """The attribution that compares with these images (R, C, H, W), the first of a stratified order."""


@runtime_checkable
class Metric(Protocol):
    """(reference maps, other maps), each (N, H, W) -> (N,). `direction` says which end is the more robust one."""

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
        """One value an example."""


def symmetric(metric: Metric | ContextualMetric) -> bool:
    """Whether exchanging the maps (and with them the images) changes nothing; otherwise `symmetric: ClassVar = False`."""
    return bool(getattr(metric, "symmetric", True))


def scale_invariant(metric: Metric | ContextualMetric) -> bool:
    """Whether positive factors, one a map, change nothing; otherwise `scale_invariant: ClassVar = False`."""
    return bool(getattr(metric, "scale_invariant", True))


def compares(metric: Metric | ContextualMetric) -> bool:
    """Whether it compares two maps, so that equal maps are at its robust end. One that judges the map of the perturbed
    image alone says `compares: ClassVar = False`."""
    return bool(getattr(metric, "compares", True))


@dataclass(frozen=True)
class Context:
    """What a metric may need beside two maps: the network, and the images that the maps belong to."""

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
    """A metric that looks at the network too (infidelity, stability): no attack can be told to keep what it calls worst."""

    @property
    def needs_context(self) -> Literal[True]:
        """True: what tells it from a `Metric`."""

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
        """Maps (N, H, W) of the clean and of the perturbed images -> one value an example (N,)."""


@runtime_checkable
class Certificate(Protocol):
    """A bound on a metric that no perturbation inside the budget can break, or an estimate of one."""

    @property
    def bounds(self) -> str:
        """Name of the metric (as in conf/metrics): from below when higher is better, from above when lower is."""

    @property
    def confidence(self) -> float | None:
        """Probability that the bound of an example holds, 1 when it is deterministic; None for a mere estimate."""

    def check(self, attribution: Attribution, norm: str, reduction: str) -> None:
        """Errors: `ConfigError` when it says nothing about this attribution, norm or reduction of maps."""

    def __call__(self, subject: Subject, epsilons: Sequence[float]) -> Tensor:
        """(N, E) float64 bounds, one an example and budget."""


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
class Problem:
    """Everything that an attack may use on one chunk of examples; an attack sees nothing else."""

    model: nn.Module
    twin: Twin
    explain: Explain
    harm: Callable[[Tensor, Tensor], Tensor]
    """(reference maps, maps) -> (N,), larger is worse for the attribution: the measure that decides what is kept."""
    images: Tensor
    targets: Tensor
    """The classes predicted on the clean images: explained, and to be preserved."""
    partners: Tensor
    """Another test image for each example: where targeted attacks take their target map from."""
    keys: Tensor
    """Random keys of the attack, (N,); streams of them come from `runner.core.rng.fold`."""
    stored: Callable[[float], Tensor] | None = None
    """epsilon -> images (N, C, H, W) that the attack's `source` run found for these examples; None without a source."""
    reduce: Callable[[Tensor], Tensor] = field(default=lambda maps: maps.abs().sum(dim=1))
    """Maps (N, C, H, W) -> (N, H, W), as `explain` does it: for attacks that look at other attributions too."""
    watch: Callable[[Tensor], None] | None = None
    """Told of every candidate that is judged whether it keeps the label (N,), for attacks made of attacks."""


@dataclass(frozen=True)
class Best:
    """The most harmful label-preserving images found so far. `harm` starts at the clean image's own."""

    images: Tensor
    harm: Tensor
    found: Tensor
    """(N,) bool: whether anything other than the clean image was ever kept."""
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    """What else the attack says of each example at this budget, (N,) each; rows carry it as columns `attack_NAME`."""


@runtime_checkable
class Attack(Protocol):
    """A search inside a ball: `start` scores the clean images, `search` improves on what smaller balls gave.

    An attack that is not for l2 and linf says so by `norms: ClassVar`, one whose images need not lie in a pixel ball by
    `ball: ClassVar = False`, one that may change the predicted class by `preserves_label: ClassVar = False`.
    """

    @property
    def order(self) -> int:
        """Order of derivatives it takes through the model: 0 (none), 1, or 2 (gradients of an attribution)."""

    def start(self, problem: Problem) -> Best:
        """The clean images as the first best."""

    def search(self, problem: Problem, epsilon: float, norm: Norm, best: Best) -> Best:
        """The best inside the ball of `epsilon`, never less harmful than `best` (which lies inside a smaller ball)."""


@runtime_checkable
class Reviewing(Protocol):
    """An attack that has more to say of a finished run than its rows do."""

    def verdict(self, epsilons: Sequence[float], notes: Mapping[str, Tensor]) -> dict[str, Any]:
        """Plain data for result.json, from the notes of all examples, (E, N) each, at these budgets."""


def budgets(attack: Attack) -> tuple[Budget, ...]:
    """The norms of the epsilon grids that an attack can be given; l2 and linf unless it says otherwise (`norms`)."""
    return tuple(getattr(attack, "norms", NORMS))


def in_ball(attack: Attack) -> bool:
    """Whether `images - clean` lies in the ball of epsilon; False for transforms of the image (`ball`)."""
    return bool(getattr(attack, "ball", True))


def preserves_label(attack: Attack) -> bool:
    """Whether the attack keeps only images of the predicted class (`preserves_label`)."""
    return bool(getattr(attack, "preserves_label", True))


@dataclass(frozen=True)
class Batch:
    """One training batch. `keys` (N,) are fresh each step and depend on (seed, epoch, example) alone."""

    images: Tensor
    labels: Tensor
    keys: Tensor
    progress: float
    """Share of the training that is done, in [0, 1]: what warm-ups and ramps read."""
    epoch: int = 0
    """Number of the pass over the training split, from 0: what schedules given epoch by epoch read."""


@runtime_checkable
class Defense(Protocol):
    """How a model is trained: a loss for a batch, and named scalars to log (`penalty`, `adversarial_loss`, ...)."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss with gradients in the parameters, and detached scalars."""


@runtime_checkable
class Stateful(Protocol):
    """A defense that carries tensors from step to step, such as the vectors of a power iteration; saved at every epoch."""

    @property
    def state(self) -> dict[str, Tensor]:
        """Named tensors, changed in place by `loss`; empty before the first step. Restored before a training resumes."""


@runtime_checkable
class Replaying(Protocol):
    """A defense that takes several optimiser steps on each batch (free adversarial training)."""

    @property
    def replays(self) -> int:
        """Steps taken on each batch; `loss` is called once for each."""
