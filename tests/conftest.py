"""What holds for all tests."""

import os

import pytest

from support.chart_rendering import Charts, needs_chart
from support.once import session_folder

# helm, promtool and kubeconform are Go programs that live for a second or two. With a garbage collector that runs less
# often helm takes a quarter less CPU time, for more memory: up to a limit above which it runs as often as it must.
os.environ.setdefault("GOGC", "400")
os.environ.setdefault("GOMEMLIMIT", "1GiB")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what is marked `long` first: at the end of a run one process would be left alone with it."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Charts:
    """Renders this repository's charts, each thing once in a session; skips without Helm or the official chart."""
    needs_chart()
    return Charts(session_folder(tmp_path_factory))
