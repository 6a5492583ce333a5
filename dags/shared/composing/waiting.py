"""Sensors that wait in the triggerer: while they wait there is no worker pod.

Their triggers are in `plugins/platform_triggers.py`, where the triggerer finds them. If a provider has a sensor
that defers, take that one: `S3KeySensor(deferrable=True)`, `ExternalTaskSensor(deferrable=True)`,
`DateTimeSensorAsync`. These two are for what no provider has: a file in any object storage, where
a refused access is an error and not a reason to wait, and a row in any SQL database (`SqlSensor` of common.sql can only
be rescheduled, which takes a worker pod for each look).
"""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from platform_triggers import ObjectTrigger, RecordTrigger

SIX_HOURS = 6 * 3600.0


class _TriggerSensor(BaseSensorOperator):
    """Looks once in the worker, and leaves the rest to the triggerer."""

    @abstractmethod
    def make_trigger(self) -> "ObjectTrigger | RecordTrigger":
        """The trigger that waits."""

    def execute(self, context: Context) -> Any:
        """Return what is there already, or defer; after `timeout` seconds the task fails, or skips by `soft_fail`."""
        trigger = self.make_trigger()
        found = trigger.probe()
        if found is None:
            self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=self.timeout))
        return self.accept(found)

    def accept(self, found: dict[str, Any]) -> Any:
        """The result of the task, from what was waited for."""
        return found

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Return what the trigger found.

        Raises:
            AirflowFailException: Access was refused: no retry can heal it.
            RuntimeError: Waiting ended with another error; the retries of the task wait again.
        """
        if "error" in event:
            message = f"{self.task_id} did not wait to the end: {event['error']}"
            raise AirflowFailException(message) if event["refused"] else RuntimeError(message)
        return self.accept(event["found"])


class ObjectSensor(_TriggerSensor):
    """Wait for a whole file in object storage; returns its URI, size and time of change.

    Args:
        uri: Of the file.
        min_bytes: A smaller one is still being written.
        stable_seconds: How long it must have stayed the same.
        max_age_seconds: An older one is left over from an earlier run; None takes a file of any age.
        columns: What a delimited text (packed by zip or not) or a Parquet file must have; more may be there.
        poke_interval: Seconds between two looks.
        timeout: Seconds until the sensor gives up.
        **kwargs: Of every sensor.
    """

    template_fields: Sequence[str] = ("uri",)

    def __init__(
        self,
        *,
        uri: str,
        min_bytes: int = 0,
        stable_seconds: float = 0.0,
        max_age_seconds: float | None = None,
        columns: Sequence[str] = (),
        poke_interval: float = 30.0,
        timeout: float = SIX_HOURS,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.uri = uri
        self.min_bytes = min_bytes
        self.stable_seconds = stable_seconds
        self.max_age_seconds = max_age_seconds
        self.columns = columns

    def accept(self, found: dict[str, Any]) -> dict[str, Any]:
        """The file, if it has the columns. Looked at in the worker: whoever waits in the triggerer reads no files.

        Raises:
            AirflowFailException: It lacks some. It is whole, so neither waiting nor a retry would bring them.
        """
        if not self.columns:
            return found
        from airflow.sdk import ObjectStoragePath

        from shared.loading.data_files import column_names

        try:
            there = column_names(ObjectStoragePath(found["uri"]))
        except ValueError as error:
            raise AirflowFailException(f"{found['uri']} cannot be read: {error}") from error
        if missing := [name for name in self.columns if name not in there]:
            raise AirflowFailException(f"{found['uri']} lacks {', '.join(missing)}; it has {', '.join(there)}.")
        return found

    def make_trigger(self) -> "ObjectTrigger":
        """The trigger that looks for the file."""
        from platform_triggers import ObjectTrigger

        return ObjectTrigger(
            self.uri, self.min_bytes, self.stable_seconds, self.max_age_seconds, float(self.poke_interval)
        )


class RecordSensor(_TriggerSensor):
    """Wait until a query's first cell is neither empty nor 0; returns it as `{"value": ...}`.

    Args:
        conn_id: Connection to a SQL database.
        sql: The query, with `?` for parameters.
        parameters: Their values; templated, so that a date needs no place in the text of the query.
        poke_interval: Seconds between two queries.
        timeout: Seconds until the sensor gives up.
        **kwargs: Of every sensor.
    """

    template_fields: Sequence[str] = ("sql", "parameters")

    def __init__(
        self,
        *,
        conn_id: str,
        sql: str,
        parameters: Sequence[Any] = (),
        poke_interval: float = 60.0,
        timeout: float = 7200.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.conn_id = conn_id
        self.sql = sql
        self.parameters = parameters

    def make_trigger(self) -> "RecordTrigger":
        """The trigger that asks the database."""
        from platform_triggers import RecordTrigger

        return RecordTrigger(self.conn_id, self.sql, list(self.parameters), float(self.poke_interval))
