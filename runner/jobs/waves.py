"""In which order a cluster may do the missing tasks of a plan: arrays that wait for each other, and what each task holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from runner.jobs.plan import Plan, Task


def waves(plan: Plan, queued: Collection[Path] = ()) -> list[list[Task]]:
    """The tasks that are not queued yet; each list needs only what stands in the lists before it, or is queued.

    Trainings, which others wait for, are the first list; attacks whose model is finished already stand behind them in it.
    """
    depths, levels = dict[Path, int](), list[list[Task]]()
    for path, task in plan.tasks.items():  # inputs stand before what needs them
        if path in queued:
            continue
        depths[path] = max((depths[needed] + 1 for needed in task.needs if needed in depths), default=0)
        levels += [[] for _ in range(depths[path] + 1 - len(levels))]
        levels[depths[path]].append(task)
    return [sorted(level, key=lambda task: task.cell.job != "train") for level in levels]


def packs(wave: Sequence[Task], size: int) -> list[list[Task]]:
    """The tasks in lists of at most `size`, each of one kind of job."""
    kinds = list(dict.fromkeys(task.cell.job for task in wave))
    alike = [[task for task in wave if task.cell.job == kind] for kind in kinds]
    return [tasks[first : first + size] for tasks in alike for first in range(0, len(tasks), size)]
