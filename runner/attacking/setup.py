"""What the chunks of an attack job share, built once: model, attribution, attack, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from runner.core import rng
from runner.core.config import Config
from runner.core.errors import ConfigError
from runner.core.types import Attribution, Certificate, ContextualMetric, Explain, Metric
from runner.datasets.base import Examples
from runner.models.twin import softplus_twin
from runner.models.weights import load_weights
from runner.runs.run import Run


@dataclass(frozen=True)
class Setup:
    """The parts of an attack job that its chunks share."""

    run: Run
    device: torch.device
    model: nn.Module
    attribution: Attribution
    attack: Any
    explain: Explain
    metrics: dict[str, Metric | ContextualMetric]
    certificate: Certificate | None
    epsilons: tuple[float, ...]
    test: Examples

    @classmethod
    def of(cls, run: Run) -> Setup:
        """Build everything; the training must be finished."""
        parts = run.parts
        attribution = parts.attribution_on(parts.device)
        return cls(
            run=run,
            device=parts.device,
            model=load_model(run.inputs[0]),
            attribution=attribution,
            attack=parts.attack,
            explain=parts.explainer(attribution),
            metrics=parts.metrics,
            certificate=parts.certificate,
            epsilons=parts.grid.epsilons(),
            test=parts.dataset.test,
        )

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.run.config

    def keys(self, ids: Tensor, stream: str) -> Tensor:
        """Random keys of examples for one stream; they depend only on (seed, attack_seed, example)."""
        seed = self.config["seed"] * 1_000_003 + self.config["attack_seed"]
        return rng.example_keys(seed, ids.cpu(), stream).to(self.device)

    @cached_property
    def harm(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(reference maps, maps) -> (N,): the attack's measure, larger is worse."""
        measure = self.attack.measure
        return _no_metric if measure == "objective" else self.run.parts.harm(measure)

    @cached_property
    def twin(self) -> Any:
        """beta -> softplus twin, cached."""
        return lru_cache(maxsize=None)(lambda beta: softplus_twin(self.model, beta).eval())

    @cached_property
    def source(self) -> Setup | None:
        """The setup of the run that the attack takes its images from; None for an attack that searches itself."""
        return None if self.run.source is None else Setup.of(self.run.source)

    @property
    def beta(self) -> float | None:
        """Final softplus beta of the twin that gradients are taken from; None without a twin."""
        betas = self.attack.betas() if self.attack.order >= 2 else [None]
        return None if betas[-1] is None else float(betas[-1])


def load_model(training: Run) -> nn.Module:
    """The model of a finished training, in evaluation mode and with frozen parameters."""
    model = training.parts.new_model(weights=False)
    load_weights(model, str(training.folder / "model.safetensors"))
    return model.to(training.parts.device).eval().requires_grad_(False)


def _no_metric(reference: Tensor, maps: Tensor) -> Tensor:
    raise ConfigError("attack.measure=objective: this attack keeps what its own objective calls worst, not a metric's")
