"""How far an upgrade is: its record in a ConfigMap of the environment, written before each state and after it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from airflow_ops.cluster.config_map import RecordedConfigMap
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import fail
from airflow_ops.manifests.objects import Colour

NAME = "airflow-upgrade"
KEY = "record.json"
ID_FORMAT = "%Y%m%d%H%M%S"
"""An upgrade is named after the second in which it began, in UTC."""
ASKED_FOR = "asked for"
"""Reason of a rollback that nothing but `rollback` has caused."""


class Phase(StrEnum):
    """Where an upgrade as a whole is."""

    UPGRADING = "upgrading"
    SOAKING = "soaking"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    PROMOTED = "promoted"


OPEN = (Phase.UPGRADING, Phase.SOAKING, Phase.ROLLING_BACK)
"""In these phases the environment belongs to the upgrade: nothing else may change it."""


class State(StrEnum):
    """The states of an upgrade, and of a rollback; docs/upgrading.md says what happens in each."""

    SNAPSHOT = "SNAPSHOT"
    REHEARSE = "REHEARSE"
    MIGRATE = "MIGRATE"
    PREPARE = "PREPARE"
    WARM = "WARM"
    SWITCH = "SWITCH"
    QUIESCE = "QUIESCE"
    HANDOVER = "HANDOVER"
    VERIFY = "VERIFY"
    FINALIZE = "FINALIZE"


class Side(BaseModel):
    """One of the two colours of an upgrade.

    Attributes:
        colour: Its colour.
        version: Its version of Airflow.
        image: Its image.
        replicas: Replicas of its Deployments when all of it runs, by component.
        least: What the autoscaler of its API servers must not go below; None where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    colour: Colour
    version: str
    image: str
    replicas: dict[str, int]
    least: int | None = None


class Passage(BaseModel):
    """One time that a state was passed.

    Attributes:
        state: The state.
        to: The colour that is to work afterwards.
        began: When it began.
        ended: When it was done; None while it runs, or if it failed.
    """

    model_config = ConfigDict(extra="forbid")

    state: State
    to: Colour
    began: datetime
    ended: datetime | None = None


class Probed(BaseModel):
    """What the prober counted for one kind of request.

    Attributes:
        requests: How many were sent.
        failed: How many had no answer, or one of 400 and above.
        worst_ms: The longest time to an answer, in milliseconds.
        failures: The first that failed, with their times in seconds since 1970.
    """

    model_config = ConfigDict(extra="forbid")

    requests: int = 0
    failed: int = 0
    worst_ms: int = 0
    failures: list[str] = []


class Bucket(BaseModel):
    """What the prober counted in some seconds, all kinds of request together.

    Attributes:
        at: Beginning, in seconds since 1970.
        requests: How many were sent.
        failed: How many failed.
        worst_ms: The longest time to an answer, in milliseconds.
    """

    model_config = ConfigDict(extra="forbid")

    at: int
    requests: int = 0
    failed: int = 0
    worst_ms: int = 0


class Rehearsal(BaseModel):
    """What the rehearsal of a migration measured.

    Attributes:
        migration_seconds: How long the migration of a copy took.
        database_bytes: Size of the copy.
        start_seconds: From the start of a whole new Airflow on it to the first answer of its API server.
        bridged: Columns that were given a default for the former Airflow.
    """

    model_config = ConfigDict(extra="forbid")

    migration_seconds: float
    database_bytes: int
    start_seconds: float
    bridged: list[str]


def _files(value: Any) -> Any:
    """Files that cannot be imported; a record from before they were listed has only their number."""
    return [] if isinstance(value, int) else value


class Record(BaseModel):
    """An upgrade: from where to where, how far it is, and what it measured.

    Attributes:
        id: When it began, as a name.
        phase: Where it is as a whole.
        source: The colour that worked before.
        target: The colour that is to work.
        digest: Digest of the target's and the platform's manifests, with which an upgrade that continues has begun.
        colour_digest: Digest of the target's manifests alone.
        import_errors: The DAG files that could not be imported before.
        migrates: Whether the target needs another schema of the metadata database.
        backup: Name of the backup that was made before the migration.
        rehearsal: What the migration of a copy measured.
        passages: The states that were passed, in order.
        reason: Why it was rolled back.
        probed: What the prober counted, by kind of request.
        timeline: What it counted, by time.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    phase: Phase = Phase.UPGRADING
    source: Side
    target: Side
    digest: str
    colour_digest: str = ""
    import_errors: Annotated[list[str], BeforeValidator(_files)] = []
    migrates: bool = False
    backup: str = ""
    rehearsal: Rehearsal | None = None
    passages: list[Passage] = []
    reason: str = ""
    probed: dict[str, Probed] = {}
    timeline: list[Bucket] = []

    @property
    def is_open(self) -> bool:
        """Whether the environment belongs to it."""
        return self.phase in OPEN

    @property
    def began(self) -> datetime:
        """When it began."""
        return datetime.strptime(self.id, ID_FORMAT).replace(tzinfo=UTC)

    def is_done(self, state: State, to: Colour) -> bool:
        """Whether a state was passed on the present way: since the last passage towards the other colour.

        Components that wait are restarted by their probes after a while, so that they are looked after again until the
        others have ended.
        """
        if state is State.WARM and not self.is_done(State.QUIESCE, to):
            return False
        for passage in reversed(self.passages):
            if passage.to is not to:
                return False
            if passage.state is state and passage.ended:
                return True
        return False

    def cut_off(self, state: State, to: Colour) -> datetime | None:
        """When a command that was cut off has begun the state that runs now; None where none was."""
        earlier = [p.began for p in self.passages[:-1] if p.state is state and p.to is to and not p.ended]
        return min(earlier, default=None)


@dataclass
class RecordStore:
    """Keeps the record of the last upgrade of an environment."""

    cluster: Cluster
    _map: RecordedConfigMap = field(init=False)

    def __post_init__(self) -> None:
        """Name the ConfigMap."""
        self._map = RecordedConfigMap(self.cluster, NAME, "the upgrade")

    def read(self) -> Record | None:
        """The record of the last upgrade; None if there was none.

        Raises:
            ProblemError: It cannot be understood.
        """
        text = self._map.read().get(KEY)
        if not text:
            return None
        try:
            return Record.model_validate_json(text)
        except ValidationError as error:
            raise fail(
                f"ConfigMap {NAME} of {self.cluster.namespace} cannot be understood: {error.errors()[0]['msg']}.",
                "It was written by another version of airflow-ops: use that one.",
            ) from error

    def write(self, record: Record) -> None:
        """Replace the record.

        Raises:
            ProblemError: Somebody else has written it.
        """
        self._map.write({KEY: record.model_dump_json(indent=2)})


def refuse_open(cluster: Cluster) -> None:
    """Check that the environment does not belong to an upgrade.

    Raises:
        ProblemError: It does.
    """
    name, record = cluster.environment.name, RecordStore(cluster).read()
    if record is not None and record.is_open:
        raise fail(
            f"an upgrade of {name} to {record.target.colour} ({record.target.version}) is {record.phase}.",
            f"Finish it first: airflow-ops promote {name}, or airflow-ops rollback {name}.",
            2,
        )


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)
