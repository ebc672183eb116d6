"""Trainings: what a step of each defense costs, as a multiple of the natural step of the same network and batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.case import COST, Case, Sides, Where, require
from benchmarks.networks import SHAPES, Subject
from runner.api.options import described
from runner.core import rng
from runner.core.types import Batch, Defense, steps_per_batch
from runner.defenses.modes import training_step
from runner.runs.parts import Parts

Settings = Mapping[str, Any]
Check = Callable[["Step"], str]


@dataclass(frozen=True)
class Step:
    """A training step of a defense on one batch, as the trainer takes it, at learning rate 0: the network stays as it is."""

    model: nn.Module
    defense: Defense
    batch: Batch
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, subject: Subject, defense: str, count: int, settings: Settings, classes: int = 10) -> Step:
        """The defense by name with its settings, on the first `count` images."""
        given = {"dataset.shape": list(SHAPES[subject.name]), "dataset.classes": classes, **settings}
        parts = Parts(described({"model": subject.name, "defense": defense}, given), {})
        model = parts.new_model()
        if classes == 10:
            model.load_state_dict(subject.model.state_dict())
        keys = rng.example_keys(0, range(count)).to(subject.device)
        batch = Batch(subject.images[:count], subject.labels[:count], keys, progress=0.5, epoch=9)
        model = model.to(subject.device).train()
        return cls(model, parts.defense, batch, torch.optim.Adam(model.parameters(), 0.0))

    def __call__(self) -> None:
        """Loss, backward pass, optimiser."""
        for _ in range(steps_per_batch(self.defense)):
            with training_step(self.model, self.batch.images):
                loss, _ = self.defense.loss(self.model, self.batch)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()

    def gradient(self, dtype: torch.dtype, count: int = 8) -> tuple[float, Tensor]:
        """The loss of the first `count` images, and its gradient in all parameters, in this precision."""
        model, whole = self.model.to(dtype), self.batch
        images = whole.images[:count].to(dtype)
        with training_step(model, images):
            few = replace(whole, images=images, labels=whole.labels[:count], keys=whole.keys[:count])
            loss, _ = self.defense.loss(model, few)
            found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        self.model.to(torch.float32)
        return float(loss.detach()), torch.cat([gradient.flatten() for gradient in found]).double().detach()


def exact(step: Step) -> str:
    """Loss and gradient equal those in double precision: no shortcut that costs precision."""
    (loss, gradient), (expected, wanted) = (step.gradient(dtype) for dtype in (torch.float32, torch.float64))
    alike = float(F.cosine_similarity(gradient, wanted, dim=0))
    apart = abs(loss / expected - 1)
    return require(
        apart < 1e-2 and alike > 0.99, f"loss within {apart:.0e} and gradient's cosine {alike:.4f} of float64"
    )


def strong(step: Step) -> str:
    """The adversary is no weaker than a plain loop of 7 steps in the same ball, with the loop's own random start."""
    defense: Any = step.defense
    model, batch = step.model.eval(), step.batch
    found = defense.perturb(model, batch)
    plain = _plain_pgd(model, batch.images, batch.labels, float(defense.epsilon), 7)
    with torch.no_grad():
        ours, theirs = (float(F.cross_entropy(model(images), batch.labels)) for images in (found, plain))
    model.train()
    return require(ours >= 0.98 * theirs, f"adversarial loss {ours:.3f} against {theirs:.3f} of a plain loop")


def eigenvalue(step: Step) -> str:
    """Power iteration finds at least 95 % of the exact eigenvalue, which comes from the whole Jacobian."""
    defense: Any = step.defense
    model, images = step.model.eval(), step.batch.images[:8]
    few = replace(step.batch, images=images, labels=step.batch.labels[:8], keys=step.batch.keys[:8])
    found = float(defense.penalty(model, few).detach()) * len(images)
    expected = sum(_top_eigenvalue(model, image) for image in images.split(1))
    model.train()
    share = found / expected
    return require(0.95 <= share <= 1.001, f"{share:.1%} of the exact eigenvalue; {exact(step)}")


def _plain_pgd(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int) -> Tensor:
    torch.manual_seed(0)
    noise = torch.randn_like(images)
    radius = torch.rand(len(images)).to(images) ** (1 / images[0].numel())
    found = images + _unit(noise) * (epsilon * radius).reshape(-1, 1, 1, 1)
    for _ in range(steps):
        leaf = found.clamp(0, 1).requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf), labels, reduction="sum"), leaf)
        delta = leaf.detach() + 2.5 * epsilon / steps * _unit(gradient) - images
        size = delta.flatten(1).norm(dim=1).clamp_min(epsilon).reshape(-1, 1, 1, 1)
        found = images + delta * epsilon / size
    return found.clamp(0, 1)


def _unit(values: Tensor) -> Tensor:
    unit: Tensor = values / values.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
    return unit


def _top_eigenvalue(model: nn.Module, image: Tensor) -> float:
    """Of J^T (diag(p) - p p^T) J, the Hessian of the cross-entropy of a piecewise linear network, in one image."""
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x)[0], image).flatten(1).double()
    p = model(image)[0].double().softmax(dim=0).detach()
    return float(torch.linalg.eigvals((torch.diag(p) - torch.outer(p, p)) @ jacobian @ jacobian.T).real.max())


def defended(defense: str, check: Check = exact, count: int = 64, **settings: Any) -> Callable[[Subject], Sides]:
    """A defense's step against the natural one; settings are keys of the defense."""

    def prepare(subject: Subject) -> Sides:
        given = {f"defense.{key}": value for key, value in settings.items()}
        step = Step.of(subject, defense, subject.size(count, 8), given)
        natural = Step.of(subject, "none", subject.size(count, 8), {})
        return Sides(lambda: check(step), {"ours": step, "theirs": natural})

    return prepare


def ssr_classes(subject: Subject) -> Sides:
    """SSR with 1,000 classes against SSR with 10."""
    count, power = subject.size(64, 8), {"defense.method": "power"}
    many, few = (Step.of(subject, "ssr", count, power, classes) for classes in (1000, 10))
    return Sides(lambda: exact(many), {"ours": many, "theirs": few})


def _row(
    name: str,
    what: str,
    target: float | None,
    prepare: Callable[[Subject], Sides],
    peer: str = "natural step",
    where: tuple[Where, ...] = ("one", "all", "gpu"),
) -> Case:
    return Case(name, what, peer, target, prepare, COST, where=where)


CASES = (
    _row("ssr_power", "SSR step, power, C = 10", 3.5, defended("ssr", eigenvalue, method="power")),
    _row("ssr_closed_form", "SSR step, closed form, C = 10", None, defended("ssr", method="closed_form")),
    _row("ssr_classes", "SSR step, C = 1000", 1.2, ssr_classes, "SSR step, C = 10"),
    _row("adversarial", "adversarial training step, l2, 7 steps", 5.0, defended("madry_l2", strong)),
    _row("cure", "CURE step", 3.5, defended("cure")),
    _row("hessian_frobenius", "Hessian-Frobenius step", 4.5, defended("hessian_frobenius")),
    _row("art", "ART step", 12.0, defended("art")),
    _row("igr", "IGR step", 40.0, defended("igr")),
    _row("far", "FAR step", 60.0, defended("far", count=32)),
    _row(
        "ig_norm",
        "IG-NORM step, 7 steps, factor 10, batch of 32",
        90.0,
        defended("ig_norm", count=32, steps=7, step_size=0.25, approx_factor=10),
    ),
    _row(
        "ig_norm_published",
        "IG-NORM step, 40 steps, factor 5, batch of 16",
        450.0,
        defended("ig_norm", count=16),
        where=("one", "gpu"),
    ),
)
