"""Backups of the metadata database in object storage, and restoring them. Runs in pods of the environment's image.

    backup.py connection             write what pg_dump and pg_restore connect by
    backup.py store                  after pg_dump: check the dump, store it, delete what is too old
    backup.py look                   print the backups there are, and what the database holds
    backup.py fetch NAME             download a backup, check it, and make an empty database for it
    backup.py verify NAME            after pg_restore: revision and Fernet key fit; the roles get their rights
    backup.py swap NAME [--discard-newer-runs]    put the restored database in the place of the present one

Environment: CONNECTION (metadata database; of its owner, but `connection` and `store` may have that of a reader),
CONNECTION_ADMIN (a role that may create databases; by default that of CONNECTION), FERNET_KEY (verify),
AIRFLOW_VERSION, BACKUP (JSON: uri, storageOptions, keepDays, keepAtLeast, environment, namespace), BACKUP_KEY (keys
separated by commas: the first one authenticates a new backup, all of them check), and ACCEPT_UNAUTHENTICATED
(NAME:SHA256, the name and the dump's checksum of the one backup that is restored although no key authenticates it).
A backup is NAME.dump, in pg_dump's custom format, and NAME.json, which is written last: without it there is no backup.
NAME.json holds the checksum of the dump and an HMAC of everything else in it. Without the key nobody can make it, so
who may only write to the folder cannot give us a dump of their own: restoring one runs whatever SQL is in it.
Any other *.json in the folder is skipped, and named in the result (`skipped`).
What a command found is its last line, `result: JSON`; what is wrong is a line `problem: ...` and exit code 1.
"""

import hashlib
import hmac
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

WORK = Path(os.environ.get("WORK", "/var/backup"))
"""What the containers of one pod share: `dump`, `facts` and the connections of libpq."""
RESTORED = os.environ.get("RESTORED", "airflow_restored")
"""The database that a backup is restored into, beside the present one; the rehearsal of an upgrade has its own."""
UNFINISHED = timedelta(days=1)
"""A dump that is older and has no description belongs to a backup that failed: no Job runs as long."""
LARGEST_DESCRIPTION = 100_000
"""Bytes; ours have a few hundred. What is larger is not read, since it might not fit into the pod's memory."""
DESCRIPTION = {"started": str, "airflow": str, "revision": dict, "bytes": int, "sha256": str}
"""What NAME.json has to hold."""
CODE = "hmac"
"""Key of NAME.json with the code that authenticates all its other keys."""
SHORTEST_KEY = 32
"""Characters: 16 bytes as `openssl rand -hex` writes them, which nobody can guess."""
REVISIONS = {"alembic_version": "airflow.migrations", "alembic_version_fab": "airflow.providers.fab.migrations"}
"""Tables with a schema's revision, and the package whose newest migration it has to be."""
ENCRYPTED = {
    "variable": ("variable", "SELECT key, val FROM variable WHERE is_encrypted AND val <> ''"),
    "password of connection": (
        "connection",
        "SELECT conn_id, password FROM connection WHERE is_encrypted AND password <> ''",
    ),
    "extra of connection": (
        "connection",
        "SELECT conn_id, extra FROM connection WHERE is_extra_encrypted AND extra <> ''",
    ),
    "password of connection test": (
        "connection_test_request",
        "SELECT connection_id, password FROM connection_test_request WHERE is_encrypted AND password <> ''",
    ),
    "extra of connection test": (
        "connection_test_request",
        "SELECT connection_id, extra FROM connection_test_request WHERE is_extra_encrypted AND extra <> ''",
    ),
    # Those of a deferred task's trigger are plain JSON; Airflow tells the two apart in this way too.
    "arguments of trigger": ("trigger", "SELECT id, kwargs FROM trigger WHERE substr(kwargs, 1, 1) <> '{'"),
}
"""What the Fernet key encrypts: the table, and the query for the name and the text of each value.

Where the table is missing, the backup is of an Airflow that does not know it.
"""
DIALECT: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
"""How PostgreSQL quotes names and texts."""


class ProblemError(Exception):
    """Why a command cannot be done, in words for the user."""


class SkippedError(Exception):
    """Why an object of the store is not taken for the description of a backup; its name comes before."""


@dataclass(frozen=True)
class Backup:
    """One backup.

    Attributes:
        name: Of its two objects, without the suffix.
        started: When pg_dump began, ISO 8601 in UTC, so that it sorts by time; whatever was committed before is in it.
        airflow: Version of Airflow whose image made it.
        revision: Revision of the schema by table of `REVISIONS`.
        bytes: Size of the dump.
        sha256: Its checksum.
        unauthenticated: Why it is not known to be a backup of this environment; empty if it is.
        elsewhere: Whether it says that it is of another environment or namespace, be that true or not.
    """

    name: str
    started: str
    airflow: str
    revision: dict[str, str]
    bytes: int
    sha256: str
    unauthenticated: str = ""
    elsewhere: bool = False


@dataclass(frozen=True)
class Seal:
    """Makes and checks the code that shows that a backup was made by this environment, under this name.

    Attributes:
        environment: The environment.
        namespace: Where its Airflow is.
        keys: The first one makes codes, all of them check, so that a key can be replaced.
    """

    environment: str
    namespace: str
    keys: tuple[str, ...]

    def sealed(self, backup: Backup) -> dict[str, Any]:
        """The description of a new backup, with its code.

        Raises:
            ProblemError: There is no key.
        """
        if not self.keys:
            raise ProblemError(
                "there is no key to authenticate the backup with: give the Secret global.secrets.backup the key "
                "backup-key, made with `openssl rand -hex 32`"
            )
        found = asdict(backup)
        del found["unauthenticated"], found["elsewhere"]
        found |= {"environment": self.environment, "namespace": self.namespace}
        return found | {CODE: code(self.keys[0], found)}

    def doubt(self, name: str, found: dict[str, Any]) -> str:
        """Why a description is not known to be one of this environment's; empty if it is.

        Args:
            name: Of the object.
            found: The description.
        """
        said = found.get(CODE)
        if not isinstance(said, str):
            return "its description has no HMAC: it is from before there was a key, or somebody else wrote it"
        covered = {key: value for key, value in found.items() if key != CODE}
        if not self._made(said, covered):
            return "no key of the Secret global.secrets.backup fits its description"
        if covered.get("name") != name:
            return f"it is a copy: the backup was made as {covered.get('name')}"
        if (covered.get("environment"), covered.get("namespace")) != (self.environment, self.namespace):
            return (
                f"it was made by environment {covered.get('environment')} in namespace {covered.get('namespace')}, "
                f"not by {self.environment} in {self.namespace}"
            )
        return ""

    def is_elsewhere(self, found: dict[str, Any]) -> bool:
        """Whether a description names another environment or namespace; one from before there was a key names none."""
        own = {"environment": self.environment, "namespace": self.namespace}
        return any(found.get(key, value) != value for key, value in own.items())

    def _made(self, said: str, covered: dict[str, Any]) -> bool:
        """Whether a code was made of a description with one of the keys."""
        # As bytes: compare_digest refuses text that is not ASCII.
        given = said.encode(errors="backslashreplace")
        return any(hmac.compare_digest(code(key, covered).encode(), given) for key in self.keys)


def code(key: str, covered: dict[str, Any]) -> str:
    """The HMAC-SHA256 of a description, the same in whatever order and layout its JSON is written."""
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


class Store:
    """The folder in object storage that holds the backups."""

    def __init__(self, uri: str, options: dict[str, Any], seal: Seal) -> None:
        """Open a folder.

        Args:
            uri: As fsspec takes it: s3://bucket/folder, gs://..., abfs://..., file:///folder.
            options: Of fsspec's file system, nothing secret.
            seal: What authenticates its backups.
        """
        self.files, self.folder = fsspec.core.url_to_fs(uri, **options)
        self.files.invalidate_cache()
        self.seal = seal

    def path(self, name: str) -> str:
        """Path of an object of this folder."""
        return f"{self.folder}/{name}"

    def contents(self) -> tuple[list[Backup], dict[str, str]]:
        """The backups whose dump is there in its full size, oldest first; and why each other object *.json is skipped.

        Others write into buckets too (inventories, notes, uploads that are cut off), and nothing of that may keep
        anybody from a backup or a restore.
        """
        objects, others = self._listed()
        found, skipped = [], {_shown(name): "is not a file" for name in others if name.endswith(".json")}
        for name in objects:
            if name.endswith(".json"):
                try:
                    found.append(self._backup(name.removesuffix(".json"), objects))
                except SkippedError as error:
                    skipped[_shown(name)] = str(error)
        return sorted(found, key=lambda backup: (backup.started, backup.name)), skipped

    def backups(self) -> list[Backup]:
        """The backups whose dump is there in its full size, oldest first."""
        return self.contents()[0]

    def _backup(self, name: str, objects: dict[str, Any]) -> Backup:
        """The backup of a name.

        Raises:
            SkippedError: Its description is none or cannot be read, its dump is not there in full, or its name would
                do something to a terminal that shows it.
            OSError: The store does not answer: that is no reason to go on without what it holds.
        """
        if not name.isprintable():
            raise SkippedError("has a name that cannot be shown as it is")
        if (objects[f"{name}.json"].get("size") or 0) > LARGEST_DESCRIPTION:
            raise SkippedError("is too large to describe a backup")
        try:
            text = self.files.cat_file(self.path(f"{name}.json"))
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise SkippedError(f"cannot be read ({error})") from error
        backup = described(name, text, self.seal)
        if f"{name}.dump" not in objects:
            raise SkippedError(f"describes a dump that is not there: there is no {name}.dump")
        if (size := objects[f"{name}.dump"].get("size")) != backup.bytes:
            raise SkippedError(f"does not fit its dump: {name}.dump has {size} bytes instead of {backup.bytes}")
        return backup

    def put(self, dump: Path, backup: Backup) -> None:
        """Store a dump, then its description.

        Raises:
            ProblemError: There is no key for the description, or the dump did not arrive whole.
        """
        description = json.dumps(self.seal.sealed(backup)).encode()
        self.files.makedirs(self.folder, exist_ok=True)
        self.files.put_file(str(dump), self.path(f"{backup.name}.dump"))
        self.files.invalidate_cache()
        stored = self.files.info(self.path(f"{backup.name}.dump"))["size"]
        if stored != backup.bytes:
            raise ProblemError(f"{backup.name}.dump has {stored} bytes in the store instead of {backup.bytes}")
        self.files.pipe_file(self.path(f"{backup.name}.json"), description)
        self.files.invalidate_cache()

    def prune(self, days: int, at_least: int, now: datetime) -> list[str]:
        """Delete backups older than `days`, except the newest `at_least`, and what unfinished ones left.

        Only authenticated ones count as the newest, because anybody with access to the store can add others. Those
        go too when they are old, but not as long as there are fewer than `at_least` authenticated ones: they may be
        the only ones from before there was a key. What says that it is of another environment or namespace stays: if
        two of them have the same folder, each one's backups are kept by its own settings.

        Returns:
            Names of the backups that were deleted.
        """
        backups = self.backups()
        newest = [b.name for b in backups if not b.unauthenticated][-at_least:]
        spare = [b for b in backups if b.name not in newest and not b.elsewhere] if len(newest) == at_least else []
        old = [b for b in spare if datetime.fromisoformat(b.started) < now - timedelta(days=days)]
        for backup in old:
            # The description first: a dump alone is not taken for a backup, but a description alone would be.
            self.files.rm_file(self.path(f"{backup.name}.json"))
            self.files.rm_file(self.path(f"{backup.name}.dump"))
        self.files.invalidate_cache()
        objects, others = self._listed()
        known = {*objects, *others}
        for name in objects:
            stem = name.removesuffix(".dump")
            if stem != name and f"{stem}.json" not in known and _time_of(stem) < now - UNFINISHED:
                self.files.rm_file(self.path(name))
        return [backup.name for backup in old]

    def _listed(self) -> tuple[dict[str, Any], set[str]]:
        """The files by name, and the names of all else: folders cannot be read or deleted, and a pipe never ends."""
        try:
            listed = self.files.ls(self.folder, detail=True)
        except FileNotFoundError:
            return {}, set()
        files = {Path(entry["name"]).name: entry for entry in listed if entry["type"] == "file"}
        return files, {Path(entry["name"]).name for entry in listed if entry["type"] != "file"}


def _shown(name: str) -> str:
    """The name of an object for output; with signs that do something to a terminal, as Python writes it."""
    return name if name.isprintable() else ascii(name)


def _time_of(name: str) -> datetime:
    """When a backup began, from its name; the far future for anything that is not a backup of ours."""
    try:
        return datetime.strptime(name.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def described(name: str, text: bytes, seal: Seal) -> Backup:
    """Read a description.

    Args:
        name: Of the object. A name within the description is not believed: it may be a copy under another name.
        text: Its content.
        seal: What authenticates it.

    Raises:
        SkippedError: It does not describe a backup.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise SkippedError("describes no backup: it is not an object")
        doubt = seal.doubt(name, found)
    except (ValueError, RecursionError) as error:
        raise SkippedError(f"is not whole JSON ({error})") from None
    wrong = [key for key, kind in DESCRIPTION.items() if not isinstance(found.get(key), kind)]
    if not wrong and not all(isinstance(revision, str) for revision in found["revision"].values()):
        wrong = ["revision"]
    if wrong:
        raise SkippedError(f"describes no backup: {', '.join(wrong)} is missing or not of its kind")
    # A newer version of this script may write more.
    values = {key: found[key] for key in DESCRIPTION} | {"started": _in_utc(found["started"])}
    return Backup(name=name, unauthenticated=doubt, elsewhere=seal.is_elsewhere(found), **values)


def _in_utc(moment: str) -> str:
    """A time that sorts by its text, and that PostgreSQL understands.

    Raises:
        SkippedError: It is no time, or has no zone.
    """
    try:
        parsed = datetime.fromisoformat(moment)
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        pass
    raise SkippedError(f"describes no backup: started is {moment!r}, not a time with its zone")


def open_store() -> tuple[Store, dict[str, Any]]:
    """The store that BACKUP names, and BACKUP itself."""
    settings = json.loads(os.environ["BACKUP"])
    seal = Seal(settings["environment"], settings["namespace"], keys(os.environ.get("BACKUP_KEY", "")))
    return Store(settings["uri"], settings["storageOptions"], seal), settings


def keys(text: str) -> tuple[str, ...]:
    """The keys that a text holds, separated by commas.

    Raises:
        ProblemError: One is so short that it can be guessed, or two of them have no comma between them.
    """
    found = tuple(key.strip() for key in text.split(",") if key.strip())
    if any(len(key.split()) > 1 for key in found):
        raise ProblemError(
            "backup-key of the Secret global.secrets.backup has a space or a line break inside of a key: put a comma "
            "between two keys, as in new,old"
        )
    if any(len(key) < SHORTEST_KEY for key in found):
        raise ProblemError(
            f"backup-key of the Secret global.secrets.backup has a key of fewer than {SHORTEST_KEY} characters: make "
            "one with `openssl rand -hex 32`"
        )
    return found


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def url() -> sa.URL:
    """Address of the metadata database."""
    return sa.make_url(os.environ["CONNECTION"])


def admin_url() -> sa.URL:
    """Address of the server for a role that may create databases, in a database that is always there."""
    own = os.environ.get("CONNECTION_ADMIN")
    return (sa.make_url(own) if own else url()).set(database="postgres")


def quoted(name: str) -> str:
    """The name of a database or role as SQL takes it."""
    return str(DIALECT.identifier_preparer.quote(name))


def acting_role(server: sa.Connection, login: str) -> str:
    """The role that a login acts as: two logins take turns in rotations, and a third role owns everything."""
    entries = "SELECT split_part(entry, '=', 2) FROM pg_roles, unnest(rolconfig) AS entry"
    query = sa.text(f"{entries} WHERE rolname = :login AND entry LIKE 'role=%'")
    return str(server.execute(query, {"login": login}).scalar() or login)


@contextmanager
def connected(address: sa.URL, *, autocommit: bool = False) -> Iterator[sa.Connection]:
    """A connection for a `with` block; with `autocommit` for what may not run in a transaction."""
    engine = sa.create_engine(
        address,
        poolclass=sa.NullPool,
        connect_args={"connect_timeout": 20},
        isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
    )
    with engine.connect() as connection:
        yield connection


def service(name: str, address: sa.URL) -> str:
    """A section of libpq's service file: the password stays out of arguments and environment."""
    fields = {
        "host": address.host,
        "port": address.port or 5432,
        "user": address.username,
        "password": address.password,
        "dbname": address.database,
        **address.query,
    }
    return "".join([f"[{name}]\n", *(f"{key}={value}\n" for key, value in fields.items() if value is not None)])


def write_connections() -> None:
    """Write the service file with the metadata database and the one to restore into."""
    path = WORK / "pg_service.conf"
    path.touch(mode=0o600)
    path.write_text(service("metadata", url()) + service("restored", url().set(database=RESTORED)))


def store_dump() -> dict[str, Any]:
    """Store the dump of this pod and delete what is too old."""
    store, settings = open_store()
    facts = dict(line.split("=", 1) for line in (WORK / "facts").read_text().splitlines())
    started = datetime.fromisoformat(facts.pop("started"))
    version = os.environ["AIRFLOW_VERSION"]
    backup = Backup(
        name=f"{started:%Y%m%dT%H%M%SZ}-airflow-{version}-{facts['alembic_version']}",
        started=started.isoformat(),
        airflow=version,
        revision=facts,
        bytes=(WORK / "dump").stat().st_size,
        sha256=sha256(WORK / "dump"),
    )
    store.put(WORK / "dump", backup)
    deleted = store.prune(settings["keepDays"], settings["keepAtLeast"], datetime.now(UTC))
    backups, skipped = store.contents()
    return {
        **asdict(backup),
        "uri": settings["uri"],
        "deleted": deleted,
        "kept": len(backups),
        "skipped": skipped,
    }


def look() -> dict[str, Any]:
    """The backups there are, the revisions of this image, and what is where the database should be."""
    backups, skipped = open_store()[0].contents()
    found: dict[str, Any] = {
        "backups": [{**asdict(b), "fits": fits(b)} for b in backups],
        "skipped": skipped,
        "database": None,
    }
    found["heads"] = heads()
    with connected(admin_url()) as server:
        may_create = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        found["may_create"] = bool(server.scalar(sa.text(may_create)))
        if comment_of(server, url().database) is None:
            return found
        found["database"] = {"comment": comment_of(server, url().database)}
    with connected(url()) as database:
        has_runs = sa.inspect(database).has_table("dag_run")
        found["database"]["newer_runs"] = {b.name: newer_runs(database, b) if has_runs else 0 for b in backups}
    return found


def migrations() -> dict[str, Any]:
    """The migrations that this image knows, by table."""
    from importlib.resources import files

    from alembic.script import ScriptDirectory

    return {table: ScriptDirectory(str(files(package))) for table, package in REVISIONS.items()}


def heads() -> dict[str, str]:
    """Revision that this image's Airflow needs, by table."""
    return {table: scripts.get_current_head() or "" for table, scripts in migrations().items()}


def fits(backup: Backup) -> bool:
    """Whether this image's Airflow works on the schema of a backup.

    After the rollback of an upgrade the schema is newer than the image; what this version has backed up it works on.
    """
    for table, scripts in migrations().items():
        revision = backup.revision.get(table)
        if revision == scripts.get_current_head():
            continue
        is_known = revision in {script.revision for script in scripts.walk_revisions()}
        if is_known or backup.airflow != os.environ["AIRFLOW_VERSION"]:
            return False
    return True


def comment_of(server: sa.Connection, database: str | None) -> str | None:
    """A database's comment, empty if it has none; None if there is no such database."""
    query = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = :name"
    found: str | None = server.scalar(sa.text(query), {"name": database})
    return found


def newer_runs(database: sa.Connection, backup: Backup) -> int:
    """How many DAG runs were made after a backup began."""
    query = sa.text("SELECT count(*) FROM dag_run WHERE queued_at > CAST(:started AS timestamptz)")
    return int(database.scalar(query, {"started": backup.started}) or 0)


def chosen(name: str) -> Backup:
    """The backup of a name.

    Raises:
        ProblemError: There is none, it is skipped, or it is not authenticated and either not accepted without that,
            or another one than was accepted.
    """
    backups, skipped = open_store()[0].contents()
    for backup in backups:
        if backup.name == name:
            if backup.unauthenticated:
                check_accepted(backup)
            return backup
    if reason := skipped.get(f"{name}.json"):
        raise ProblemError(f"there is no whole backup {name}: {name}.json {reason}. Restore another one")
    raise ProblemError(f"there is no backup {name}")


def check_accepted(backup: Backup) -> None:
    """Check that a backup which is not authenticated is the very one that somebody has accepted.

    Its name alone is not enough: who can write to the folder can exchange what has that name between two steps.

    Raises:
        ProblemError: It is not.
    """
    name, _, digest = os.environ.get("ACCEPT_UNAUTHENTICATED", "").rpartition(":")
    if name != backup.name:
        raise ProblemError(f"{backup.name} is not authenticated: {backup.unauthenticated}")
    if digest != backup.sha256:
        raise ProblemError(
            f"{name} is not the one that was accepted: its checksum is now {_shown(backup.sha256)}. Find out who "
            "writes to the folder of the backups before you restore anything from it"
        )


def fetch(name: str) -> dict[str, Any]:
    """Download a backup, check it, and make an empty database for it.

    Raises:
        ProblemError: There is no such backup, it is damaged, or Airflow works on the database of that name.
    """
    if url().database == RESTORED:
        raise ProblemError(
            f"the metadata Secret names {RESTORED}, the database that every restore makes anew. Rename it, and write "
            "its new name into the Secret"
        )
    backup = chosen(name)
    store, _ = open_store()
    store.files.get_file(store.path(f"{name}.dump"), str(WORK / "dump"))
    if (found := sha256(WORK / "dump")) != backup.sha256:
        raise ProblemError(f"{name}.dump is damaged: its checksum is {found} instead of {backup.sha256}")
    write_connections()
    with connected(admin_url(), autocommit=True) as server:
        # What an earlier attempt left: nothing else uses this name.
        server.execute(sa.text(f"DROP DATABASE IF EXISTS {quoted(RESTORED)} WITH (FORCE)"))
        owner = quoted(acting_role(server, str(url().username)))
        server.execute(sa.text(f"CREATE DATABASE {quoted(RESTORED)} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'"))
        server.execute(sa.text(f"REVOKE CONNECT ON DATABASE {quoted(RESTORED)} FROM PUBLIC"))
        (WORK / "made").write_text(str(number_of(server, RESTORED)))
    return {"fetched": name}


def give_rights(database: sa.Connection) -> None:
    """Give the roles beside the owner their rights in a restored database.

    Raises:
        ProblemError: A role is missing, or may do too much.
    """
    import database_rights  # type: ignore[import-not-found]  # beside this file

    try:
        database_rights.grant_in(database)
    except database_rights.ProblemError as error:
        raise ProblemError(str(error)) from None


def number_of(server: sa.Connection, database: str) -> int | None:
    """The server's number of a database: another one gets another number, though it gets the same name."""
    found: int | None = server.scalar(
        sa.text("SELECT CAST(oid AS bigint) FROM pg_database WHERE datname = :name"), {"name": database}
    )
    return found


def verify(name: str) -> dict[str, Any]:
    """Check that the restored database fits this image and this Fernet key, give roles their rights, mark it as whole.

    Raises:
        ProblemError: It does not, or it is not the one that this pod has made and loaded, or a role is missing.
    """
    backup = chosen(name)
    with connected(url().set(database=RESTORED)) as database:
        # Another restore may have replaced the database of this name by one that is still being loaded. The checks
        # below could pass there although rows are missing.
        if str(number_of(database, RESTORED)) != (WORK / "made").read_text():
            raise ProblemError(
                f"another restore has made {RESTORED} anew meanwhile: run this one again when it has ended"
            )
        check_revisions(database, backup)
        decrypted = decrypt_all(database)
        runs = database.scalar(sa.text("SELECT count(*) FROM dag_run"))
        # A dump holds no rights, because the server may lack their roles.
        give_rights(database)
        # Through this connection: as long as it is there, no other database can have the name.
        mark(database, RESTORED, whole(name))
        database.commit()
    return {"runs": runs, "decrypted": decrypted}


def check_revisions(database: sa.Connection, backup: Backup) -> None:
    """Check that this image's Airflow works on a restored database.

    Raises:
        ProblemError: It needs another schema.
    """
    for table, wanted in (backup.revision if fits(backup) else heads()).items():
        found = database.scalar(sa.text(f"SELECT version_num FROM {table}"))  # noqa: S608 names of our own
        if found != wanted:
            raise ProblemError(
                f"the backup's {table} is {found}, but this image (Airflow {os.environ['AIRFLOW_VERSION']}) needs "
                f"{wanted}: restore with the image of Airflow {backup.airflow}, then upgrade"
            )


def decrypt_all(database: sa.Connection) -> int:
    """How many values the present Fernet key decrypts, of all that are encrypted.

    Raises:
        ProblemError: One that it does not.
    """
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    fernet = MultiFernet([Fernet(key.strip()) for key in os.environ["FERNET_KEY"].split(",")])
    tables = set(sa.inspect(database).get_table_names())
    values = (
        (what, name, text)
        for what, (table, query) in ENCRYPTED.items()
        if table in tables
        for name, text in database.execute(sa.text(query))
    )
    count = 0
    for what, name, text in values:
        try:
            fernet.decrypt(text.encode())
        except InvalidToken:
            raise ProblemError(
                f"the present Fernet key does not decrypt the {what} {name}: put the key of that time into the "
                "Secret too (new,old). It is in no backup"
            ) from None
        count += 1
    return count


def whole(name: str) -> str:
    """The comment of a database into which a backup was loaded as a whole."""
    return f"restored from {name}"


def check_whole(server: sa.Connection, database: str, name: str) -> None:
    """Check that a database holds the whole of a backup.

    Raises:
        ProblemError: It may be empty, half loaded, or another backup's.
    """
    if comment_of(server, database) != whole(name):
        raise ProblemError(f"database {RESTORED} does not hold {name} whole: run the restore again")


def mark(server: sa.Connection, database: str, text: str) -> None:
    """Set the comment of a database."""
    literal = sa.literal(text).compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
    server.execute(sa.text(f"COMMENT ON DATABASE {quoted(database)} IS {literal}"))


def swap(name: str, *, discard: bool) -> dict[str, Any]:
    """Put the restored database in the place of the present one, which is kept under another name.

    Both renames are one transaction: at every moment one of the two is there.

    Raises:
        ProblemError: The restored database is not whole, or runs would be lost.
    """
    backup = chosen(name)
    present = str(url().database)
    former = f"{present}_before_{datetime.now(UTC):%Y%m%dT%H%M%SZ}".lower()
    with connected(admin_url(), autocommit=True) as server:
        check_whole(server, RESTORED, name)  # before anybody's connection is ended
        there = comment_of(server, present) is not None
        if there and not discard:
            with connected(url()) as database:
                count = newer_runs(database, backup) if sa.inspect(database).has_table("dag_run") else 0
            if count:
                raise ProblemError(f"{count} runs are newer than {name}")
        end = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        for database_name in (present, RESTORED):
            server.execute(end, {"name": database_name})
    with connected(admin_url()) as server:
        if there:
            server.execute(sa.text(f"ALTER DATABASE {quoted(present)} RENAME TO {quoted(former)}"))
        server.execute(sa.text(f"ALTER DATABASE {quoted(RESTORED)} RENAME TO {quoted(present)}"))
        # Checked after the rename, because the rename locks the database: before it, another restore could still put an
        # empty database in its place between check and rename. If the check fails, both renames are undone.
        check_whole(server, present, name)
        server.commit()
    return {"former": former if there else None}


def main(arguments: list[str]) -> None:
    """Run one command; see the top of this file."""
    result: Any = None
    match arguments:
        case ["connection"]:
            write_connections()
        case ["store"]:
            result = store_dump()
        case ["look"]:
            result = look()
        case ["fetch", name]:
            result = fetch(name)
        case ["verify", name]:
            result = verify(name)
        case ["swap", name, *rest]:
            result = swap(name, discard=rest == ["--discard-newer-runs"])
        case _:
            raise ProblemError(f"unknown command {arguments}")
    print(f"result: {json.dumps(result)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ProblemError, OSError, sa.exc.SQLAlchemyError) as error:
        print(f"problem: {' '.join(str(error.__cause__ or error).split())}")
        sys.exit(1)
