"""Triggers that do, in the triggerer, what triggers may do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import Variable
from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async


def tell(context: Any) -> None:
    """A callback, which the DAG processor runs."""
    print(f"the callback of {context['run_id']} runs")


async def later(**_: Any) -> str:
    """A callback, which the triggerer runs."""
    return "told"


class Watch(BaseEventTrigger):
    """Tells once that its asset has changed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "fires.Watch", {"name": self.name}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(self.name)
        await asyncio.sleep(3600)


class Fire(BaseTrigger):
    """Reads, and writes what it is told to, then ends as it is told to."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "fires.Fire", {"what": self.what}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        assert await sync_to_async(Variable.get)("a_variable") == "its value"
        assert (await sync_to_async(BaseHook.get_connection)("a_connection")).password == "its password"  # noqa: S105
        ti = self.task_instance
        where = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": -1, "key": "mine"}
        await sync_to_async(XCom.set)(value="written", **where)
        assert await sync_to_async(XCom.get_one)(**where) == "written"
        match self.what:
            case "variable":
                await sync_to_async(Variable.set)("made", "by a trigger")
            case "error":
                raise RuntimeError("this trigger fails")
            case "success":
                yield TaskSuccessEvent(xcoms={"pushed": "value"})
            case "failed" | "retried":
                yield TaskFailedEvent()
        yield TriggerEvent(self.what)
