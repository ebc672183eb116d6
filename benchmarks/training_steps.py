"""What a training step of each defense costs, as a multiple of the natural step of the same network.

A step is the loss, its backward pass and the optimiser's step, as the trainer takes it, with images of the embedded digits or
random ones. Natural steps and those of the defenses take turns, in one process with one thread; times are CPU times, and each
ratio is a median over the rounds. Absolute seconds depend on the machine, ratios hardly.

python benchmarks/training_steps.py [--network small_cnn|resnet20] [--batch N] [--rounds N] [--seconds S] [CASE...]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import OmegaConf
from torch import nn

from runner.core import rng
from runner.core.types import Batch, steps_per_batch
from runner.defenses.modes import training_step
from runner.runs.parts import Parts

CONF = Path(__file__).resolve().parents[1] / "conf"
NATURAL = "natural"
SEVEN = ["defense.steps=7", "defense.step_size=0.25", "defense.approx_factor=10"]
CASES: Mapping[str, list[str]] = {
    NATURAL: ["defense=none"],
    "natural, softplus": ["defense=softplus", "model.beta=3"],
    "adversarial, l2, 7 steps": ["defense=madry_l2"],
    "adversarial, linf, 7 steps": ["defense=madry_linf"],
    "TRADES, 10 steps": ["defense=trades"],
    "SSR, power": ["defense=ssr", "defense.method=power"],
    "SSR, power, 1 round": ["defense=ssr", "defense.method=power", "defense.rounds=1"],
    "SSR, power, C=1000": ["defense=ssr", "defense.method=power", "dataset.classes=1000"],
    "SSR, closed form": ["defense=ssr", "defense.method=closed_form"],
    "CURE": ["defense=cure"],
    "Hessian-Frobenius": ["defense=hessian_frobenius"],
    "input gradient": ["defense=input_gradient"],
    "LGA": ["defense=lga"],
    "ART": ["defense=art"],
    "IGR": ["defense=igr"],
    "FAR": ["defense=far"],
    "IG-NORM, 7 steps, factor 10": ["defense=ig_norm", *SEVEN],
    "IG-NORM, as published": ["defense=ig_norm"],
}
"""By name, what to compose. SSR with 1,000 classes is compared with the natural step at 10."""
NETWORKS = {"small_cnn": [1, 28, 28], "resnet20": [3, 32, 32]}


def step_of(overrides: list[str], network: str, size: int) -> Callable[[], float]:
    """A function that takes one training step and returns its CPU seconds."""
    channels, height, width = NETWORKS[network]
    node = hydra.compose("config", [f"model={network}", f"dataset.shape=[{channels},{height},{width}]", *overrides])
    config: Any = OmegaConf.to_container(node, resolve=True)
    torch.manual_seed(0)
    parts = Parts(config, {})
    model, defense = parts.new_model().train(), parts.defense
    optimizer = parts.training.make_optimizer(model)
    images = torch.rand(size, channels, height, width)
    labels = torch.arange(size) % 10

    def step() -> float:
        began = time.process_time()
        batch = Batch(images, labels, rng.example_keys(0, range(size)), 0.5, 9)
        take(model, defense, batch, optimizer)
        return (time.process_time() - began) / steps_per_batch(defense)

    return step


def take(model: nn.Module, defense: Any, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    """The steps on one batch."""
    for _ in range(steps_per_batch(defense)):
        with training_step(model, batch.images):
            loss, _ = defense.loss(model, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()


def measured(network: str, size: int, rounds: int, seconds: float, chosen: list[str]) -> dict[str, list[float]]:
    """For each case the CPU seconds of its steps; a case that has taken `seconds` in all is left out of further rounds."""
    names = [NATURAL, *(name for name in CASES if name != NATURAL and any(part in name for part in chosen or [""]))]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        steps = {name: step_of(CASES[name], network, size) for name in names}
    for name in names:
        if "IG-NORM" not in name:
            steps[name]()  # warm
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            if sum(times[name]) < seconds:
                times[name].append(steps[name]())
                times[NATURAL].append(steps[NATURAL]())
    return times


def main() -> None:
    """Measure, and write a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="small_cnn")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("cases", nargs="*", help="parts of names; all by default")
    given = parser.parse_args()
    torch.set_num_threads(1)
    times = measured(given.network, given.batch, given.rounds, given.seconds, given.cases)
    natural = statistics.median(times[NATURAL])
    sys.stdout.write(f"{given.network}, batches of {given.batch}, torch {torch.__version__}; natural {natural:.4f} s\n")
    for name, taken in times.items():
        low, middle, high = min(taken), statistics.median(taken), max(taken)
        ratios = " ".join(f"{value / natural:8.2f}" for value in (middle, low, high))
        sys.stdout.write(f"{name:32s} {ratios}  ({len(taken)} steps)\n")


if __name__ == "__main__":
    main()
