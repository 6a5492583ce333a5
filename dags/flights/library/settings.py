"""The settings of flights: `dags/flights/config/environments/<AIRFLOW_ENV>.yaml`, read once."""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from shared.authoring.settings import load_settings
from shared.configuration import Closed, Positive

ENVIRONMENTS = Path(__file__).resolve().parents[1] / "config/environments"


class FlightsSettings(Closed):
    """How the flights DAGs behave in an environment.

    Attributes:
        max_rejected_share: Share of a partition's rows (0 to 1) that may be set aside before the load is refused.
        source_megabytes: Size of a year's flights; it decides the pool and the priority of a task that reads them all.
    """

    max_rejected_share: Annotated[float, Field(ge=0, le=1)]
    source_megabytes: Positive


@cache
def settings() -> FlightsSettings:
    """The settings of flights in this environment.

    Raises:
        ValueError: There is no file for it, or the file is wrong; file and key are named.
    """
    return load_settings(FlightsSettings, ENVIRONMENTS)
