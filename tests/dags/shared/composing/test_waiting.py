"""What waits: for a whole file, for a row; in the triggerer, and only for what may still come."""

import asyncio
import datetime as dt
import json
import os
import socket
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from platform_triggers import ObjectTrigger, RecordTrigger
from shared.composing.waiting import ObjectSensor, RecordSensor

QUICK = 0.02


def fire(trigger: Any, meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The payload with which a trigger fires; `meanwhile` runs once it has looked for the first time."""
    looked = threading.Event()
    look = trigger.probe

    def probe() -> Any:
        try:
            return look()
        finally:
            looked.set()

    trigger.probe = probe

    async def first() -> dict[str, Any]:
        waiting = asyncio.create_task(anext(trigger.run()))
        await asyncio.to_thread(looked.wait, 10)
        await asyncio.to_thread(meanwhile)
        return (await asyncio.wait_for(waiting, 10)).payload

    return asyncio.run(first())


def copy(trigger: Any) -> Any:
    """The trigger as another triggerer makes it: from what is in the database."""
    from airflow.sdk.module_loading import import_string

    path, arguments = trigger.serialize()
    return import_string(path)(**json.loads(json.dumps(arguments)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def object_trigger(file: Path, **more: Any) -> Any:
    return copy(ObjectTrigger(file.as_uri(), poke_interval=QUICK, **more))


def test_a_file_that_is_not_there_is_waited_for(file: Path) -> None:
    fired = fire(object_trigger(file), lambda: file.write_text("whole"))
    assert (fired["found"]["uri"], fired["found"]["size"]) == (file.as_uri(), 5)
    assert dt.datetime.fromisoformat(fired["found"]["modified"]).tzinfo


def test_a_file_that_is_too_small_or_too_old_or_a_folder_is_waited_for(file: Path) -> None:
    file.mkdir()
    assert object_trigger(file).probe() is None
    file.rmdir()
    file.write_text("half")
    assert object_trigger(file, min_bytes=5).probe() is None
    assert object_trigger(file, min_bytes=4).probe()
    os.utime(file, (time.time() - 7200, time.time() - 7200))
    assert object_trigger(file, max_age_seconds=3600.0).probe() is None
    assert object_trigger(file, max_age_seconds=9000.0).probe()


def test_a_file_that_still_grows_is_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platform_triggers

    now = [100.0]
    monkeypatch.setattr(platform_triggers.time, "monotonic", lambda: now[0])
    trigger = object_trigger(file, stable_seconds=60.0)
    file.write_text("a")
    assert trigger.probe() is None
    now[0] += 59
    file.write_text("ab")
    assert trigger.probe() is None
    now[0] += 59
    assert trigger.probe() is None
    now[0] += 1
    assert trigger.probe()["size"] == 2


class RefusingFileSystem:
    """A bucket that may not be read, as s3fs reports it; a test has no account for a real one."""

    def invalidate_cache(self) -> None:
        pass

    def info(self, path: str) -> dict[str, Any]:
        raise PermissionError(f"Access Denied: {path}")


def test_a_refused_access_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import ObjectStoragePath

    monkeypatch.setattr(ObjectStoragePath, "fs", property(lambda self: RefusingFileSystem()))
    event = fire(object_trigger(file))
    assert event == {"error": f"PermissionError: Access Denied: {file}", "refused": True}
    with pytest.raises(AirflowFailException, match="Access Denied"):
        ObjectSensor(task_id="wait", uri=file.as_uri()).resume({}, event)


def test_an_error_of_the_storage_is_left_to_the_retries_of_the_task() -> None:
    event = fire(copy(ObjectTrigger("nostorage://bucket/key")))
    assert event["refused"] is False
    with pytest.raises(RuntimeError, match="wait did not wait to the end: .*nostorage"):
        ObjectSensor(task_id="wait", uri="x").resume({}, event)


def ledger(*days: str) -> None:
    from shared.loading.warehouse import create_tables, execute, transaction, warehouse_hook

    hook = warehouse_hook()
    create_tables(hook, [])
    with transaction(hook) as cursor:
        for day in days:
            sql = (
                "INSERT INTO load_ledger (table_name, partition_key, rows_loaded, rows_rejected, run_id, loaded_at) "
                "VALUES ('flights', ?, 1, 0, 'r', ?)"
            )
            execute(hook, cursor, sql, [day, "2013-01-01T00:00:00+00:00"])


COUNT = "SELECT COUNT(*) FROM load_ledger WHERE partition_key = ?"


def test_a_row_is_waited_for(warehouse: str) -> None:
    ledger("2013-01-01")
    trigger = copy(RecordTrigger("warehouse", COUNT, ["2013-01-02"], QUICK))
    assert fire(trigger, lambda: ledger("2013-01-02")) == {"found": {"value": 1}}


def test_a_query_that_fails_is_not_waited_for(warehouse: str) -> None:
    event = fire(copy(RecordTrigger("warehouse", "SELECT 1 FROM no_such_table", [], QUICK)))
    assert "no_such_table" in event["error"]


def test_no_worker_waits(file: Path, warehouse: str) -> None:
    """Whoever does not find it at once leaves the worker, with the time that is left to wait."""
    ledger()
    sensors = (
        ObjectSensor(task_id="file", uri=file.as_uri()),
        RecordSensor(task_id="row", conn_id="warehouse", sql=COUNT, parameters=["2013-01-02"]),
    )
    for sensor, hours in zip(sensors, (6, 2), strict=True):
        with pytest.raises(TaskDeferred) as deferred:
            sensor.execute({})
        assert deferred.value.timeout == dt.timedelta(hours=hours)
    file.write_text("there")
    assert sensors[0].execute({})["size"] == 5


def written(folder: Path, kind: str, columns: str) -> Path:
    """A file of two rows and these columns."""
    path = folder / f"flights.{kind}"
    names = columns.split(",")
    if kind == "parquet":
        pq.write_table(pa.table({name: [1, 2] for name in names}), path)
    elif kind == "csv":
        path.write_bytes(f"\ufeff{columns}\n1,2\n3,4\n".encode())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("flights.csv", f"{columns}\n1,2\n3,4\n")
    return path


def sensor_of(path: Path) -> ObjectSensor:
    return ObjectSensor(task_id="file", uri=path.as_uri(), columns=["day", "carrier"])


@pytest.mark.parametrize("kind", ["csv", "csv.zip", "parquet"])
def test_a_file_with_the_columns_is_taken_and_one_without_fails_at_once(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, "carrier,more,day")
    assert sensor_of(path).execute({})["uri"] == path.as_uri()

    found = {"found": {"uri": written(tmp_path, kind, "carrier,date").as_uri()}}
    with pytest.raises(AirflowFailException, match="lacks day; it has carrier, date"):
        sensor_of(path).resume({}, found)


@pytest.mark.parametrize("kind", ["csv.zip", "parquet"])
def test_a_file_that_is_cut_off_fails_at_once(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, "carrier,day")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(AirflowFailException, match=r"flights.*cannot be read"):
        sensor_of(path).execute({})


def test_two_looks_that_block_do_not_wait_for_each_other(file: Path) -> None:
    both_look = threading.Barrier(2)

    def probe() -> dict[str, Any]:
        both_look.wait(10)  # passes only while the other one looks as well
        return {"looked": True}

    async def fired() -> list[Any]:
        triggers = [ObjectTrigger(file.as_uri()) for _ in range(2)]
        for trigger in triggers:
            trigger.probe = probe  # type: ignore[method-assign]
        return [event.payload for event in await asyncio.gather(*(anext(trigger.run()) for trigger in triggers))]

    assert asyncio.run(fired()) == [{"found": {"looked": True}}] * 2


def test_a_look_in_a_thread_gets_its_connection_from_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the channel that Airflow's own triggerer has: a trigger asks its supervisor, over a socket."""
    from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ConnectionResult, _ResponseFrame

    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("CREATE TABLE rows AS SELECT 7 AS n")
    unset = dict.fromkeys(("schema", "login", "password", "port", "extra"))
    known = ConnectionResult(conn_id="rows", conn_type="sqlite", host=str(tmp_path / "rows.db"), **unset)
    asked: list[str] = []

    async def supervise(end: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=end)
        while True:
            number, body, *_ = msgspec.msgpack.decode(
                await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            )
            asked.append(f"{body['type']} {body.get('conn_id')}")
            writer.write(_ResponseFrame(id=number, body=known.model_dump(by_alias=True)).as_bytes())

    async def fired() -> Any:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        channel = TriggerCommsDecoder(socket=ours, async_reader=reader, async_writer=writer)
        await channel.start_reader()
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", channel, raising=False)
        supervisor = asyncio.create_task(supervise(theirs))
        looks = asyncio.gather(*(anext(RecordTrigger("rows", "SELECT n FROM rows", []).run()) for _ in range(3)))
        events = await asyncio.wait_for(looks, 20)
        supervisor.cancel()
        channel._reader_task.cancel()
        return [event.payload for event in events]

    assert asyncio.run(fired()) == [{"found": {"value": 7}}] * 3
    assert set(asked) == {"GetConnection rows"}


def test_the_triggerer_finds_the_triggers_without_the_bundle() -> None:
    """It has only what is installed and the folder of plugins; `dags/` is not on its path."""
    import subprocess
    import sys

    from airflow_ops.paths import PLUGINS

    code = (
        "import airflow.settings, sys; airflow.settings.prepare_syspath_for_config_and_plugins()\n"
        "from airflow._shared.module_loading import import_string\n"
        "assert not any(path.rstrip('/').endswith('dags') for path in sys.path)\n"
        "import_string('platform_triggers.ObjectTrigger'), import_string('platform_triggers.RecordTrigger')"
    )
    environment = {**os.environ, "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
