"""Compositions in which every option of every group stands at least once."""

from functools import cache
from itertools import cycle, islice

from composing import OWN, ROOT, composed

from runner.core.config import Config, resolved

TRAIN = ("dataset", "model", "training", "defense")
RUN = ("attribution", "attack", "metrics", "certificate", "epsilon")


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@cache
def compositions() -> list[Config]:
    """Configs in which every option of every group stands at least once."""
    groups = [group for group in (*TRAIN, *RUN) if group not in ("model", "metrics")]
    longest = max(len(options(group)) for group in groups)
    columns = [[f"{group}={name}" for name in islice(cycle(options(group)), longest)] for group in groups]
    rows = [[*row, f"metrics=[{','.join(options('metrics'))}]"] for row in zip(*columns, strict=True)]
    rows += [[f"model={name}"] for name in options("model")]
    needed = {**OWN, "dataset=image_folder": ["dataset.name=mine", "dataset.classes=3"]}
    settings = [[word for choice in row for word in needed.get(choice, [])] for row in rows]
    return [
        resolved(composed(*row, *own, "outputs=o", "tracking=none")) for row, own in zip(rows, settings, strict=True)
    ]
