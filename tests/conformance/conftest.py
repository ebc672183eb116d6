"""The plug-ins as parameters: a test that takes `attack` is one test for every YAML of conf/attack, one that takes
`any_attack` is one for every variant of their options too."""

import difflib
from collections.abc import Iterator

import pytest
import torch
from found import GROUPS, Plugin, everything, plugins, variants


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", default="", help="one plug-in, as `topk` or `attack=topk`; all when empty")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for group in GROUPS:
        for fixture, found in ((group, plugins(group)), (f"any_{group}", variants(group))):
            if fixture in metafunc.fixturenames:
                metafunc.parametrize(fixture, found, ids=lambda plugin: plugin.label, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--plugin", default="")
    if not wanted:
        return
    chosen = _chosen(wanted)
    kept = [item for item in items if _plugin_of(item) in chosen]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _chosen(wanted: str) -> list[Plugin]:
    found = [plugin for plugin in everything() if wanted in (plugin.name, f"{plugin.group}={plugin.name}")]
    if not found:
        names = [f"{plugin.group}={plugin.name}" for plugin in everything()]
        close = difflib.get_close_matches(wanted, [*names, *(plugin.name for plugin in everything())], n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise pytest.UsageError(f"NAME={wanted}: allowed are {', '.join(names)}{hint}")
    return found


def _plugin_of(item: pytest.Item) -> Plugin | None:
    values = getattr(item, "callspec", None)
    found = [value for value in values.params.values() if isinstance(value, Plugin)] if values else []
    return Plugin(found[0].group, found[0].name) if found else None


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Images of 8 x 8 pixels give a second thread nothing to do but wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
