"""A chunk of examples, attacked at one budget after another, and its state on disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from runner.attacking.convergence import SEARCHES, doubled, recorded
from runner.attacking.degenerate import degenerate
from runner.attacking.setup import Setup
from runner.attacking.transfer_images import stored_images
from runner.core import rng
from runner.core.attack_types import Best, Problem
from runner.core.cosine import map_cosines
from runner.core.errors import NotFiniteError
from runner.core.norms import perturbation_norms
from runner.core.trace import Trace
from runner.core.types import Annotated, Context, ContextualMetric, Metric, Subject
from runner.store import files

_STATE = ("images", "harm", "found")
_NOTE = "best.note."
_AGAIN_STREAM = 7_000_003
NOTE = "attack_"
"""Prefix of the columns of an attack's notes."""
log = logging.getLogger(__name__)


@dataclass
class Chunk:
    """A chunk of examples, the best perturbed images so far, and the measurements at every finished budget."""

    setup: Setup
    indices: Tensor
    file: Path | None
    images: Tensor
    labels: Tensor
    ids: Tensor
    steps: list[dict[str, Tensor]] = field(default_factory=list)
    best: Best | None = None

    @classmethod
    def new(cls, setup: Setup, indices: Tensor, file: Path | None = None) -> Chunk:
        """The chunk at its start."""
        images, labels, ids = setup.test.batch(indices, setup.device)
        return cls(setup, indices, file, images, labels, ids.cpu())

    @classmethod
    def open(cls, setup: Setup, indices: Tensor, file: Path) -> Chunk:
        """The chunk with the state that an earlier call saved, or a new one."""
        chunk = cls.new(setup, indices, file)
        saved = files.read_tensors(file)
        lacks_images = setup.keeps_images and saved is not None and "0.images" not in saved[0]
        if saved is not None and saved[1].get("run_id") == setup.identity and not lacks_images:
            try:
                chunk._restore(saved[0], int(saved[1]["steps"]))
            except (KeyError, ValueError) as error:
                log.warning("%s cannot be read (it lacks %s): its work starts from the beginning", file, error)
                return cls.new(setup, indices, file)
        return chunk

    def step(self, epsilon: float) -> None:
        """Search inside the ball of `epsilon`, which contains all earlier balls, and measure the result."""
        setup, problem = self.setup, self.problem
        if self.best is None:
            self.best = setup.attack.start(problem)
        trace = Trace(self.best.harm)
        if epsilon > 0:
            self.best = setup.attack.search(replace(problem, trace=trace), epsilon, setup.norm, self.best)
        searched = {} if setup.source is not None else recorded(trace)  # stored images are no search
        self.steps.append(self._measure(self.best) | {name: value.cpu() for name, value in searched.items()})

    def go_on(self, epsilon: float) -> None:
        """Search the last budget again, as often as it was searched so far, with other random draws."""
        before, keys = self.steps[-1], self.problem.keys
        assert self.best is not None
        for number in range(count := int(before[SEARCHES][0])):
            problem = replace(self.problem, keys=rng.fold(keys, _AGAIN_STREAM + count + number), again=True)
            self.best = self.setup.attack.search(problem, epsilon, self.setup.norm, self.best)
        self.steps[-1] = self._measure(self.best) | doubled(before, self.best.harm)

    def save(self) -> None:
        """Write the state to one file, atomically. Errors: `ValueError` before the first budget, and without a file."""
        if self.best is None or self.file is None:
            raise ValueError("nothing to save before the first budget, or no file to save it in")
        tensors = {f"best.{name}": getattr(self.best, name) for name in _STATE}
        tensors |= {f"{_NOTE}{name}": value for name, value in self.best.notes.items()}
        for number, values in enumerate(self.steps):
            tensors |= {f"{number}.{name}": value for name, value in values.items()}
        files.write_tensors(self.file, tensors, {"run_id": self.setup.identity, "steps": str(len(self.steps))})

    def frame(self) -> pd.DataFrame:
        """One row per (example, epsilon); `position` is the example's place in the evaluated order."""
        clean = {
            "position": self.indices,
            "example_id": self.ids,
            "label": self.labels,
            "clean_prediction": self.problem.targets,
        }
        frames = []
        for number, (epsilon, values) in enumerate(zip(self.setup.epsilons, self.steps, strict=True)):
            columns = clean | {name: value for name, value in values.items() if name != "images"}
            columns |= {name: values[:, number] for name, values in self.certified.items()}
            frame = pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
            frames.append(frame.assign(epsilon=epsilon))
        rows = pd.concat(frames, ignore_index=True)
        return rows.assign(
            clean_correct=rows.clean_prediction == rows.label,
            label_preserved=rows.adversarial_prediction == rows.clean_prediction,
        )

    def maps(self, images: Tensor, clean: bool) -> Tensor:
        """Evaluation maps (N, H, W) with fresh noise; clean and perturbed images share it only with `common_noise`."""
        stream = "evaluate-clean" if clean or self.setup.common_noise else "evaluate-perturbed"
        keys = self.setup.keys(self.ids, stream)
        return self.setup.explain(self.setup.model, images, self.problem.targets, keys).detach()

    def twin_cosine(self) -> Tensor:
        """(N,) cosines between the maps of the model and its twin on the clean images."""
        setup, keys = self.setup, self.setup.keys(self.ids, "evaluate-clean")
        twin = setup.explain(setup.twin(setup.beta), self.images, self.problem.targets, keys).detach()
        return map_cosines(twin, self.clean_maps)

    @cached_property
    def clean_maps(self) -> Tensor:
        """Evaluation maps (N, H, W) of the clean images. Errors: `NotFiniteError`."""
        maps = self.maps(self.images, clean=True)
        self._require_finite("map", maps)
        return maps

    @cached_property
    def certified(self) -> dict[str, Tensor]:
        """The certificate's columns, (N, E) each: its bound and its notes; empty without a certificate."""
        setup = self.setup
        if setup.certificate is None:
            return {}
        subject = Subject(
            model=setup.model,
            attribution=setup.attribution,
            explain=setup.explain,
            images=self.images,
            targets=self.problem.targets,
            keys=setup.keys(self.ids, "certificate"),
        )
        if not isinstance(setup.certificate, Annotated):
            return {"certificate": setup.certificate(subject, setup.epsilons).cpu()}
        bounds, notes = setup.certificate.annotate(subject, setup.epsilons)
        return {"certificate": bounds.cpu()} | {f"certificate_{name}": value.cpu() for name, value in notes.items()}

    @cached_property
    def problem(self) -> Problem:
        """Everything that the attack may use."""
        setup = self.setup
        return Problem(
            model=setup.model,
            twin=setup.twin,
            explain=setup.explain,
            harm=setup.harm,
            images=self.images,
            targets=self._clean_predictions(),
            partners=setup.test.batch(self._partners(), setup.device)[0],
            keys=setup.keys(self.ids, "attack"),
            stored=None if setup.source is None else self._stored,
            reduce=setup.reduce,
        )

    def _stored(self, epsilon: float) -> Tensor:
        assert self.setup.source is not None
        return stored_images(self.setup.source, epsilon, self.indices, self.images)

    def _partners(self) -> Tensor:
        """For each example, the position of another test image, drawn with its key."""
        count = len(self.setup.test)
        draws = rng.bits(self.setup.keys(self.ids, "partner").cpu(), 1).squeeze(1)
        return (self.indices + 1 + draws.remainder(max(count - 1, 1))).remainder(count)

    def _logits(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.setup.model(images)
        return logits

    def _clean_predictions(self) -> Tensor:
        logits = self._logits(self.images)
        self._require_finite("logits", logits)
        return logits.argmax(dim=1)

    def _require_finite(self, what: str, values: Tensor) -> None:
        """Errors: `NotFiniteError` naming the first test image whose values (N, ...) are not all finite."""
        bad = values.flatten(1).isfinite().all(dim=1).logical_not().nonzero()
        if len(bad):
            raise NotFiniteError(f"{what} of test image {int(self.ids[int(bad[0])])}: nan or inf")

    def _measure(self, best: Best) -> dict[str, Tensor]:
        maps = self.maps(best.images, clean=False)
        values = {
            "adversarial_prediction": self._logits(best.images).argmax(dim=1),
            "perturbation_norm": self._length(best),
            "attack_harm": best.harm.double(),
        }
        values |= {f"{NOTE}{name}": value for name, value in best.notes.items()}
        values |= degenerate(maps)
        values |= {name: self._value(metric, maps, best.images) for name, metric in self.setup.metrics.items()}
        if self.setup.keeps_images:
            values["images"] = best.images
        return {name: value.detach().cpu() for name, value in values.items()}

    def _length(self, best: Best) -> Tensor:
        """(N,) float64: the used part of the budget. Transforms have no norm; their attack notes their size instead."""
        if self.setup.norm == "spatial":
            return best.notes["transform_size"].double()
        return perturbation_norms(best.images, self.images, self.setup.norm)

    def _value(self, metric: Metric | ContextualMetric, maps: Tensor, perturbed: Tensor) -> Tensor:
        if not isinstance(metric, ContextualMetric):
            return metric(self.clean_maps, maps)
        setup, keys = self.setup, self.setup.keys(self.ids, "metric")
        context = Context(setup.model, setup.explain, self.problem.targets, self.images, perturbed, keys)
        return metric(self.clean_maps, maps, context)

    def _restore(self, tensors: dict[str, Tensor], count: int) -> None:
        self.steps = [
            {name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(f"{number}.")}
            for number in range(count)
        ]
        images, harm, found = (tensors[f"best.{name}"].to(self.setup.device) for name in _STATE)
        notes = {name.removeprefix(_NOTE): value for name, value in tensors.items() if name.startswith(_NOTE)}
        self.best = Best(images, harm, found, {name: value.to(self.setup.device) for name, value in notes.items()})
