"""The manifests of every environment, rendered once, and a way to render with something changed."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.repository import ROOT
from support.chart_rendering import CHARTS, ENVIRONMENTS, HelmOutput, Render, Rendered, needs_chart, rendered


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> Rendered:
    """Each environment in turn."""
    needs_chart()
    return rendered(request.param)


@pytest.fixture
def dev() -> Rendered:
    needs_chart()
    return rendered("dev")


@pytest.fixture
def prod() -> Rendered:
    needs_chart()
    return rendered("prod")


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Render one release as a user would, with values of one's own on top."""
    needs_chart()

    def run(
        release: str, values: dict[str, Any] | None = None, environment: str = "dev", only: str | None = None
    ) -> HelmOutput:
        chart = CHARTS.get(release, "airflow")
        own = tmp_path / "values.yaml"
        own.write_text(yaml.safe_dump(values or {}))
        files = (ROOT / "values/base.yaml", ROOT / f"values/{environment}.yaml", own)
        command = ["helm", "template", release, str(ROOT / "charts" / chart), "-n", f"airflow-{environment}"]
        command += [part for file in files for part in ("-f", str(file))]
        command += ["--show-only", f"templates/{only}"] if only else []
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        objects = [o for o in yaml.safe_load_all(answer.stdout) if o] if answer.returncode == 0 else []
        return HelmOutput(answer.returncode, answer.stderr, objects)

    return run
