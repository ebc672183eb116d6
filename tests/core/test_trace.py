"""The harm that a search had found after parts of its candidates."""

import torch

from runner.core.trace import SHARES, Trace

YES, NO, NAN = True, False, torch.nan


def seen(trace: Trace, *candidates: tuple[list[bool], list[float]]) -> Trace:
    for kept, harm in candidates:
        trace.see(torch.tensor(kept), torch.tensor(harm))
    return trace


def shares(trace: Trace) -> list[list[float]]:
    return [trace.at(share).tolist() for share in SHARES]


def test_what_was_found_never_falls_and_counts_only_where_the_label_is_kept() -> None:
    trace = seen(
        Trace(torch.tensor([0.0, 0.5])),
        *[([YES, NO], [1.0, 9.0])] * 2,
        *[([YES, YES], [0.5, NAN]), ([YES, YES], [2.0, 0.75])],
    )
    assert shares(trace) == [[0.0, 0.5], [1.0, 0.5], [1.0, 0.5], [2.0, 0.75]]
    assert trace.candidates == 4


def test_parts_run_beside_each_other() -> None:
    """After half of all work each part has had half of its candidates, whichever ran first."""
    trace = Trace(torch.tensor([0.0]))
    for name, values in {"first": [1.0, 4.0], "second": [2.0, 2.0, 2.0, 3.0]}.items():
        seen(trace.beside(name, torch.tensor([0.0])), *[([YES], [value]) for value in values])
    assert shares(trace) == [[0.0], [2.0], [2.0], [4.0]]
    assert trace.candidates == 6
    seen(trace.beside("second", torch.tensor([0.0])), *[([YES], [5.0])] * 4)
    assert trace.at(0.5).tolist() == [3.0]


def test_nan_is_what_no_part_knows() -> None:
    trace = Trace(torch.tensor([NAN, NAN]))
    seen(trace.beside("only", torch.tensor([1.0, NAN])), ([YES, YES], [2.0, NAN]))
    assert trace.at(1.0)[0] == 2.0
    assert trace.at(1.0)[1].isnan()
