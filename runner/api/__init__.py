"""The functions for Python: maps, metrics and attacks on a network of one's own, without a store, a Hydra run or W&B.

    from runner.api import attack, compare, evaluate, explain, load_images

Options have the names of conf/ (`attack="topk", steps=20`); objects and functions are taken too. Numbers are those of the jobs.
"""

from runner.api.attacking import AttackResult, attack, evaluate
from runner.api.folders import load_images
from runner.api.maps import compare, explain

__all__ = ["AttackResult", "attack", "compare", "evaluate", "explain", "load_images"]
