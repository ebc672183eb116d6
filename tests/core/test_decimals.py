"""Exact decimal ranges, against the numbers written by hand."""

import pytest

from runner.core.decimals import decimals, listed, spelled_out
from runner.core.errors import ConfigError


@pytest.mark.parametrize(
    ("start", "stop", "step", "expected"),
    [
        ("0.1", "1.0", "0.1", "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0"),
        ("0", "0.3", "0.1", "0.0 0.1 0.2 0.3"),  # three times 0.1 is not 0.3 in floats
        ("1", "5", "2", "1 3 5"),
        ("1", "2", "0.5", "1.0 1.5 2.0"),
        ("-0.2", "0.2", "0.2", "-0.2 0.0 0.2"),
        ("0.25", "0.25", "0.1", "0.25"),
        ("1e-5", "3e-5", "1e-5", "0.00001 0.00002 0.00003"),
        ("100", "300", "100", "100 200 300"),
    ],
)
def test_both_ends_and_no_noise(start: str, stop: str, step: str, expected: str) -> None:
    assert decimals(start, stop, step) == expected.split()


def test_values_are_those_that_people_write() -> None:
    assert [float(text) for text in decimals("0.1", "1.0", "0.1")] == [tenth / 10 for tenth in range(1, 11)]


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ("decimals(0.1,1.0,0.4)", "a range whose step divides stop - start = 0.9"),
        ("decimals(0.1,1.0,0)", "a range with a step above 0, not 0"),
        ("decimals(0.1,1.0,-0.1)", "a range with a step above 0, not -0.1"),
        ("decimals(1.0,0.1,0.1)", "a range whose stop is at least its start 1.0"),
        ("decimals(0,1,0.0001)", "a range of at most 10000 values"),
        ("decimals(0.1,many,0.1)", "a range of three decimal numbers, and many is not one"),
        ("decimals(1/255,8/255,1/255)", "a range of three decimal numbers, and 1/255 is not one"),
        ("decimals(0,inf,1)", "a range of three decimal numbers, and inf is not one"),
        ("decimals(0,,1)", "a range of three decimal numbers, and an empty text is not one"),
        ("decimals(0.1,1.0)", "decimals(START, STOP, STEP), as in decimals(0.1, 1.0, 0.1)"),
    ],
)
def test_what_is_refused(written: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as refused:
        spelled_out(written, "defense.epsilon")
    assert str(refused.value) == f"defense.epsilon={written}: must be {allowed}"


def test_ranges_beside_single_values() -> None:
    assert spelled_out("decimals(0.1,0.3,0.1),0.25", "x") == "0.1,0.2,0.3,0.25"
    assert listed("decimals(0.1, 0.3, 0.1), 0.25, decimals(1, 2, 1)", "x") == ["0.1", "0.2", "0.3", "0.25", "1", "2"]


@pytest.mark.parametrize("text", ["0.25", "madry_l2", "[0.5, 2.0]", "0.1,0.2", "some_decimals(1,2,1)", "null"])
def test_a_text_without_a_range_stays(text: str) -> None:
    assert spelled_out(text, "x") == text
    assert listed(text, "x") == [text]
