"""A synthetic store with known numbers, in the format that the jobs write, and what the report makes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from runner.report.analysis import Analysis
from runner.report.load import load
from runner.report.page import render
from runner.report.tables.summary import summary_tables

METRICS: dict[str, dict[str, Any]] = {
    "topk_intersection": {"direction": "higher", "range": [0.0, 1.0], "unit": ""},
    "spearman": {"direction": "higher", "range": [-1.0, 1.0], "unit": ""},
    "kendall": {"direction": "higher", "range": [-1.0, 1.0], "unit": ""},
    "cosine_distance": {"direction": "lower", "range": [0.0, 2.0], "unit": ""},
    "mass_center_shift": {"direction": "lower", "range": [0.0, None], "unit": "pixels"},
}
TENTHS = [round(index / 10, 1) for index in range(11)]


@dataclass(frozen=True)
class Store:
    """Writes runs below `root`; the metrics of a run follow exactly from `strength`, the seed and the example."""

    root: Path
    folders: list[Path] = field(default_factory=list)
    metrics: Sequence[str] = tuple(METRICS)

    @property
    def models(self) -> Path:
        return self.root / "models"

    def attack(
        self,
        defense: str = "none",
        seed: int = 0,
        *,
        strength: float = 0.4,
        jitter: float = 0.01,
        accuracy: float = 0.9,
        attribution: str = "saliency",
        attack: str = "topk",
        dataset: str = "mnist5k",
        model: str = "small_cnn",
        norm: str = "l2",
        epsilons: Sequence[float] = TENTHS,
        examples: int = 8,
        stochastic: bool = False,
        group: str = "",
        gallery: bool = True,
        history: bool = True,
        kept_by: str = "topk_intersection",
        size: tuple[int, int, int] = (1, 12, 12),
        result: dict[str, Any] | None = None,
    ) -> Path:
        keys = {"dataset": dataset, "model": model, "defense": defense, "attribution": attribution, "attack": attack}
        configuration = "-".join([*keys.values(), norm, group])
        train_id = f"t{short_hash(f'{dataset}{model}{defense}{seed}{group}')}"
        run_id = f"r{short_hash(f'{configuration}{seed}')}"
        folder = self.root / "attacks" / f"{'-'.join(keys.values())}-s{seed}-{run_id}"
        folder.mkdir(parents=True)
        identity = keys | {"seed": seed, "train_id": train_id, "run_id": run_id, "group_id": short_hash(configuration)}
        rows = make_rows(identity, norm, epsilons, examples, strength + jitter * (seed - 0.5), stochastic)
        rows.to_parquet(folder / "rows.parquet")
        if gallery:
            save_gallery(folder / "gallery.safetensors", rows, norm, size, seed)
        if history:
            self._history(f"{dataset}-{model}-{defense}-s{seed}-{train_id}", accuracy)
        record = {"status": "ok", "job": "attack", **identity, "norm": norm}
        record |= {"epsilons": list(epsilons), "examples": examples, "test_accuracy": accuracy + 0.01 * (seed - 0.5)}
        record |= {"seconds_per_epoch": 2.0 + seed, "seconds": 12.5, "kept_by": kept_by, "stochastic": stochastic}
        record |= {"twin": {"beta": 30.0, "map_cosine": 0.97}}
        record |= {"metrics": {name: METRICS[name] for name in self.metrics}}
        record |= {"provenance": {"git": {"commit": "abc1234", "dirty": False}, "versions": {"torch": "2.13.0"}}}
        (folder / "config.yaml").write_text("seed: 0\n")
        (folder / "result.json").write_text(json.dumps({**record, **(result or {})}))
        self.folders.append(folder)
        return folder

    def attack_with_bound(
        self, shift: float, confidence: float | None = 0.95, metric: str = "topk_intersection", **keys: Any
    ) -> Path:
        """A run whose certificate is its metric plus `shift` (towards worse values: negative for higher is better)."""
        claim = {"name": "levine_topk", "bounds": metric, "confidence": confidence}
        keys = {"epsilons": [0.0, 0.5, 1.0], "gallery": False, "history": False, **keys}
        folder = self.attack(result={"certificate": claim}, **keys)
        self.edit(folder, lambda rows: rows.assign(certificate=rows[metric] + shift, certificate_smoothed=0.5))
        return folder

    def edit(self, folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Replace the rows of a run by `change(rows)`."""
        change(pd.read_parquet(folder / "rows.parquet")).to_parquet(folder / "rows.parquet")

    def failed(self, defense: str, seed: int, error: str = "loss is nan at epoch 3", **keys: Any) -> Path:
        """A finished run turned into a failed one: only result.json is left."""
        folder = self.attack(defense, seed, gallery=False, history=False, **keys)
        record = json.loads((folder / "result.json").read_text())
        kept = ("job", "group_id", "dataset", "model", "defense", "attribution", "attack", "seed", "norm", "run_id")
        failure = {"status": "failed", "error": error, **{key: record[key] for key in kept}}
        (folder / "result.json").write_text(json.dumps(failure))
        (folder / "rows.parquet").unlink()
        return folder

    def _history(self, name: str, accuracy: float) -> None:
        folder = self.models / name
        folder.mkdir(parents=True, exist_ok=True)
        epochs = np.arange(1, 6)
        table = {"epoch": epochs, "loss": 2.0 / epochs, "train_accuracy": accuracy, "seconds": 2.0}
        pd.DataFrame({**table, "test_accuracy": accuracy * (1 - 0.5 / epochs)}).to_parquet(folder / "history.parquet")


def analysis_of(store: Store, folders: Sequence[Path] | None = None) -> Analysis:
    return Analysis(load(store.folders if folders is None else folders, store.models))


def page_of(store: Store, failed: Sequence[dict[str, Any]] = ()) -> str:
    """The page without figures, which take most of the time."""
    analysis = Analysis(load(store.folders, store.models, failed))
    tables = summary_tables(analysis) if len(analysis.data.runs) else []
    return render(analysis, "Title", "python run.py job=report", tables)


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def make_rows(
    identity: dict[str, Any], norm: str, epsilons: Iterable[float], examples: int, strength: float, stochastic: bool
) -> pd.DataFrame:
    """Top-k intersection of example i: 1 - floor - strength * min(epsilon, 1) * i / mean(i), where floor is 0.1 if stochastic.

    The mean over examples is 1 - floor - strength * min(epsilon, 1); example 0 is never moved.
    """
    records = []
    for epsilon in epsilons:
        for example in range(examples):
            drop = strength * min(epsilon, 1.0) * example / max((examples - 1) / 2, 0.5)
            drop += 0.1 if stochastic else 0.0
            value = 1.0 - drop
            record = {"example_id": 100 + example, "epsilon": float(epsilon), "norm": norm, "label": example % 10}
            record |= {"clean_prediction": example % 10, "adversarial_prediction": example % 10, "clean_correct": True}
            record |= {"label_preserved": True, "perturbation_norm": min(epsilon, 9.0) if example else 0.0}
            record |= {"topk_intersection": value, "spearman": 2 * value - 1, "kendall": (2 * value - 1) * 0.8}
            record |= {"cosine_distance": 1 - value, "mass_center_shift": 4 * (1 - value), "attack_harm": 1 - value}
            records.append({**record, **identity})
    return pd.DataFrame(records)


def save_gallery(path: Path, rows: pd.DataFrame, norm: str, size: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, height, width = size
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    blob = np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.05)
    images = np.stack([blob * scale for scale in (0.6, 0.8, 1.0)])[:, None].repeat(channels, 1)
    noise = rng.normal(0, 0.03, images.shape)
    maps = np.stack([np.abs(np.gradient(blob)[axis % 2]) for axis in range(3)])
    last = rows[rows["epsilon"] == rows["epsilon"].max()].sort_values("topk_intersection")
    picked = last.iloc[[0, len(last) // 2, -1]].to_dict("records")
    examples = [
        {"role": role, "example_id": row["example_id"], "label": row["label"], "prediction": row["clean_prediction"]}
        | {"value": row["topk_intersection"]}
        for role, row in zip(("worst", "median", "best"), picked, strict=True)
    ]
    meta = {"epsilon": float(rows["epsilon"].max()), "norm": norm, "metric": "topk_intersection", "examples": examples}
    arrays = {"images": images, "perturbed": (images + noise).clip(0, 1), "clean_maps": maps}
    arrays["perturbed_maps"] = np.roll(maps, 3, axis=2) + 0.02 * rng.random(maps.shape)
    save_file(
        {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()},
        path,
        {"gallery": json.dumps(meta)},
    )


def fill_quickstart(store: Store, examples: int = 8, size: tuple[int, int, int] = (1, 12, 12)) -> None:
    defenses = {"none": (0.4, 0.95), "madry_l2-0.3": (0.35, 0.94), "madry_l2-0.6": (0.25, 0.92), "ssr": (0.2, 0.9)}
    for attribution, factor in (("saliency", 1.0), ("smoothgrad", 0.6)):
        for defense, (strength, accuracy) in defenses.items():
            for seed in (0, 1):
                store.attack(
                    defense,
                    seed,
                    strength=strength * factor,
                    accuracy=accuracy,
                    attribution=attribution,
                    stochastic=attribution == "smoothgrad",
                    examples=examples,
                    size=size,
                )
