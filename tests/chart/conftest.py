"""The manifests of every environment, and a way to render with something changed."""

import pytest

from support.chart_rendering import ENVIRONMENTS, Charts, Render, Rendered


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest, charts: Charts) -> Rendered:
    """Each environment in turn."""
    return charts.environment(request.param)


@pytest.fixture
def dev(charts: Charts) -> Rendered:
    return charts.environment("dev")


@pytest.fixture
def prod(charts: Charts) -> Rendered:
    return charts.environment("prod")


@pytest.fixture
def render(charts: Charts) -> Render:
    """Render one release as a user would, with values of one's own on top."""
    return charts.render
