"""What the tests of the command need: its programs, and a small checkout."""

import shutil
from pathlib import Path

import pytest

from support.small_checkout import Checkout, make_checkout


@pytest.fixture(scope="session")
def helm() -> None:
    """Skips where there is no Helm; the charts of the small checkout need no download."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH")


@pytest.fixture(scope="session")
def kubeconform() -> None:
    if shutil.which("kubeconform") is None:
        pytest.skip("kubeconform is not on PATH")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make_checkout(tmp_path)
