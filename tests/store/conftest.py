import pytest


@pytest.fixture(autouse=True)
def _quick(no_pictures: None) -> None:
    """Attacks without pictures."""
