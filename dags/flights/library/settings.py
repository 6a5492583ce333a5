"""Settings of the flights pipeline by environment: `dags/flights/config/settings/<AIRFLOW_ENV>.yaml`."""

from functools import cache
from pathlib import Path

from shared.authoring.configuration import Section
from shared.authoring.settings import of_environment

CONFIG = Path(__file__).resolve().parents[1] / "config"


class FlightsSettings(Section):
    """Settings of the flights pipeline.

    Attributes:
        max_rejected_share: Share of a partition's rows (0 to 1) that may be set aside before the load is refused.
        source_megabytes: Size of a year's flights: how much a task that reads them all has to move.
    """

    max_rejected_share: float
    source_megabytes: float


@cache
def flights_settings() -> FlightsSettings:
    """The settings of the environment that the DAGs run in.

    Raises:
        ValueError: The environment is unknown, or its file has an unknown, missing or mistyped key.
    """
    return of_environment(FlightsSettings, CONFIG)
