"""How far a rotation is, kept in a ConfigMap of the environment."""

from dataclasses import dataclass, field
from datetime import datetime

from airflow_ops.cluster.config_map import RecordedConfigMap
from airflow_ops.cluster.connection import Cluster
from airflow_ops.rotation.sequence import RotationState


@dataclass
class ConfigMapStore:
    """The state of one kind's rotation in ConfigMap airflow-rotation-<kind>."""

    cluster: Cluster
    kind: str
    _record: RecordedConfigMap = field(init=False)

    def __post_init__(self) -> None:
        """Name the ConfigMap."""
        name = f"airflow-rotation-{self.kind}"
        self._record = RecordedConfigMap(self.cluster, name, f"the rotation of {self.kind}")

    def read(self) -> RotationState:
        """See `StateStore`."""
        data = self._record.read()
        times = {key: datetime.fromisoformat(data[key]) for key in ("at", "begun") if data.get(key)}
        return RotationState(data.get("done", ""), times.get("at"), times.get("begun"))

    def write(self, state: RotationState) -> None:
        """See `StateStore`."""
        data = {"done": state.done, "at": state.at, "begun": state.begun}
        self._record.write(
            {key: value if isinstance(value, str) else value.isoformat() for key, value in data.items() if value}
        )
