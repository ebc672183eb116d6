"""What the chunks of an attack share, built once: model, attribution, attack, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from runner.attacking.convergence import Until
from runner.core import rng
from runner.core.config import Config
from runner.core.errors import ConfigError
from runner.core.types import Attribution, Budget, Certificate, ContextualMetric, Explain, Metric
from runner.datasets.base import Device, Indices, Loaded
from runner.metrics.harm import OBJECTIVE, harm_by
from runner.models.finite import require_finite
from runner.models.twin import softplus_twin
from runner.models.weights import load_weights
from runner.runs.run import Run
from runner.store.torn import torn


class Attacked(Protocol):
    """The examples that are attacked, or whose maps are aimed for."""

    def __len__(self) -> int:
        """Number of examples."""

    def batch(self, indices: Indices, device: Device) -> Loaded:
        """The examples at these positions."""


@dataclass(frozen=True)
class Setup:
    """What the chunks of an attack share, whether a job or a caller in Python describes it."""

    model: nn.Module
    attribution: Attribution
    attack: Any
    explain: Explain
    reduce: Callable[[Tensor], Tensor]
    """Maps (N, C, H, W) -> (N, H, W), as in `explain`."""
    metrics: Mapping[str, Metric | ContextualMetric]
    epsilons: tuple[float, ...]
    norm: Budget
    test: Attacked
    device: torch.device
    seed: int = 0
    attack_seed: int = 0
    common_noise: bool = False
    """Whether the maps of the clean and the perturbed image share their noise."""
    keeps_images: bool = False
    """Whether the perturbed images of every budget are kept."""
    until: Until = field(default_factory=Until)
    """When a budget has been searched enough."""
    certificate: Certificate | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The columns of identity that the rows carry."""
    run: Run | None = None
    """The job that it belongs to; None for a caller in Python."""

    @classmethod
    def of(cls, run: Run) -> Setup:
        """Build everything; the training must be finished."""
        parts = run.parts
        attribution = parts.attribution_on(parts.device)
        return cls(
            model=load_model(run.inputs[0]),
            attribution=attribution,
            attack=parts.attack,
            explain=parts.explainer(attribution),
            reduce=parts.reducer(),
            metrics=parts.metrics,
            epsilons=parts.grid.epsilons(),
            norm=parts.grid.norm,
            test=parts.dataset.test,
            device=parts.device,
            seed=run.config["seed"],
            attack_seed=run.config["attack_seed"],
            common_noise=run.config["metrics"]["common_noise"],
            keeps_images=run.keeps_images,
            until=Until.of(run.config["attack"]),
            certificate=parts.certificate,
            columns=run.columns,
            run=run,
        )

    @property
    def config(self) -> Config:
        """The settings of the job that it belongs to."""
        assert self.run is not None
        return self.run.config

    @property
    def identity(self) -> str:
        """The id of the job that it belongs to; empty without one."""
        return "" if self.run is None else self.run.identity

    def keys(self, ids: Tensor, stream: str) -> Tensor:
        """Random keys of examples for one stream; they depend only on (seed, attack_seed, example)."""
        return attack_keys(self.seed, self.attack_seed, ids, stream).to(self.device)

    @cached_property
    def harm(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(reference maps, maps) -> (N,): the attack's measure, larger is worse."""
        measure = self.attack.measure
        return _no_metric if measure == OBJECTIVE else harm_by(self.metrics, measure)

    @property
    def measure(self) -> Metric | ContextualMetric | None:
        """The metric that images are kept by; None for the attack's own objective."""
        return self.metrics.get(self.attack.measure)

    @cached_property
    def twin(self) -> Any:
        """beta -> softplus twin, cached."""
        return lru_cache(maxsize=None)(lambda beta: softplus_twin(self.model, beta).eval())

    @cached_property
    def source(self) -> Setup | None:
        """The setup of the run that the attack takes its images from; None for an attack that searches itself."""
        return None if self.run is None or self.run.source is None else Setup.of(self.run.source)

    @property
    def beta(self) -> float | None:
        """Final softplus beta of the twin that gradients are taken from; None without a twin."""
        betas = self.attack.betas() if self.attack.order >= 2 else [None]
        return None if betas[-1] is None else float(betas[-1])


def attack_keys(seed: int, attack_seed: int, ids: Tensor, stream: str) -> Tensor:
    """Random keys (N,) of examples for one stream; they depend only on (seed, attack_seed, example)."""
    return rng.example_keys(seed * 1_000_003 + attack_seed, ids.cpu(), stream)


def load_model(training: Run) -> nn.Module:
    """The model of a finished training, in evaluation mode and with frozen parameters.

    Errors: `StoreError` for a torn file, `NotFiniteError`.
    """
    model = training.parts.new_model(weights=False)
    stored = training.folder / "model.safetensors"
    try:
        load_weights(model, str(stored))
    except ConfigError as error:  # it was written by this project, so that no key is wrong
        raise torn(stored, str(error).partition(": ")[2]) from None
    require_finite(model, f"weights of {training.folder.name}")
    return model.to(training.parts.device).eval().requires_grad_(False)


def _no_metric(reference: Tensor, maps: Tensor) -> Tensor:
    raise ConfigError("attack.measure=objective: this attack keeps what its own objective calls worst, not a metric's")
