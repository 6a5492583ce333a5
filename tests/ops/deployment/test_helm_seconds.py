"""How long a release may take to be installed."""

from airflow_ops.deployment.helm import platform_seconds
from airflow_ops.environments.environment import Environment


def test_the_platform_may_take_as_long_as_its_migration() -> None:
    for name in ("dev", "prod"):
        environment = Environment.load(name)
        assert platform_seconds(environment) > environment.values["platform"]["migration"]["deadline"]
