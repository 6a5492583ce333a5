"""A second domain needs no edit of the library: folder, settings, tenants, DAGs, and a tag in the configuration."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.dags import one_run
from airflow_ops.dags.inspection import inspect_bundle
from airflow_ops.environments.pools import load_pools
from airflow_ops.paths import DAGS

FILES = {
    "sales/library/__init__.py": "",
    "sales/library/settings.py": """
from functools import cache
from pathlib import Path

from shared.authoring.settings import load_settings
from shared.configuration import Closed, Positive

ENVIRONMENTS = Path(__file__).resolve().parents[1] / "config/environments"


class SalesSettings(Closed):
    discount: Positive


@cache
def settings() -> SalesSettings:
    return load_settings(SalesSettings, ENVIRONMENTS)
""",
    "sales/library/tables.py": """
from shared.loading.tables import Column, Table

ORDERS = Table(
    name="orders",
    file="",
    columns=(Column("shop", "text", required=True), Column("amount", "number", required=True)),
    key=("shop",),
    daily=True,
)
""",
    "sales/library/tenants.py": """
from datetime import UTC, datetime

from airflow.sdk import DAG, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources
from shared.configuration import Text
from shared.generating.tenants import Tenant, read_tenant, tenant_dag


class Shop(Tenant):
    shop: Text
    amount: float


def shop_dag(dag_file: str) -> DAG:
    shop = read_tenant(dag_file, Shop)
    with tenant_dag(
        dag_file,
        shop,
        timezone="Europe/Berlin",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args=default_args(shop.owner, executor_config=resources("small")),
        tags=["sales", "daily", "tenant"],
        doc_md="Loads the orders of a shop.",
    ) as dag:

        @task(pool=shop.pool)
        def load() -> int:
            from sales.library.settings import settings
            from sales.library.tables import ORDERS
            from shared.authoring.partitions import day_of
            from shared.loading import warehouse

            context = get_current_context()
            hook, day = warehouse.warehouse_hook(), day_of(context).isoformat()
            warehouse.create_tables(hook, [ORDERS])
            rows = [(shop.shop, shop.amount * settings().discount)]
            return warehouse.load(hook, [warehouse.Load(ORDERS, day, rows)], context["run_id"])["orders"]

        load()
    return dag
""",
    "sales/library/exports.py": """
from typing import ClassVar, Literal

from airflow.sdk import DAG, task

from shared.generating.snapshot_dags import Snapshot, read_snapshot, snapshot_dag
from shared.generating.snapshots import Entries, Source


class Catalogue(Snapshot):
    kind: Literal["catalogue"]


def catalogue_dag(dag_file: str) -> DAG:
    @task
    def publish() -> str:
        return "published"

    with snapshot_dag(dag_file, read_snapshot(dag_file, Catalogue)) as dag:
        publish()
    return dag


class Catalogues(Source):
    model: ClassVar[type[Snapshot]] = Catalogue
    builder: ClassVar[str] = "sales.library.exports:catalogue_dag"

    def read(self) -> Entries:
        return {f"{self.prefix}spring": {**self.defaults("catalogue"), "schedule": None}}
""",
    "sales/sales_load_berlin.py": '''
"""A tenant's DAG for Airflow."""

from sales.library.tenants import shop_dag

dag = shop_dag(__file__)
''',
    "sales/config/tenants/sales_load_berlin.yaml": yaml.safe_dump(
        {
            "owner": "sales",
            "schedule": "0 5 * * *",
            "timeout_minutes": 30,
            "max_active_runs": 1,
            "pool": "warehouse",
            "shop": "Berlin",
            "amount": 8,
        }
    ),
    "sales/config/environments/dev.yaml": "discount: 0.5\n",
    "sales/config/environments/prod.yaml": "discount: 0.9\n",
}


def tree(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository's library and configuration, and in place of its domains another one."""
    folder = tmp_path_factory.mktemp("checkout") / "dags"
    for name in ("shared", "config"):
        shutil.copytree(DAGS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(DAGS / ".airflowignore", folder)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip())
    with (folder / "config/tags.yaml").open("a") as tags:
        tags.write("sales: What the shops sell\n")
    (folder / "config/snapshot_sources.yaml").write_text(
        'sales_publish_: {source: "sales.library.exports:Catalogues", owner: sales}\n'
    )
    refresh(folder)
    return folder


def refresh(bundle: Path) -> None:
    """Write the generated DAGs, as `platform_refresh_snapshots` does, in a process that knows this bundle alone."""
    code = (
        "import sys; from pathlib import Path; from shared.generating import snapshots\n"
        "for source in snapshots.sources():\n"
        "    assert not snapshots.write(Path(sys.argv[1]), source, source.read()).refused\n"
    )
    variables = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
    subprocess.run([sys.executable, "-c", code, str(bundle)], check=True, env={**variables, "PYTHONPATH": str(bundle)})


def test_the_library_is_that_of_this_repository(bundle: Path) -> None:
    assert tree(bundle / "shared") == tree(DAGS / "shared")


def test_its_dags_keep_every_rule(bundle: Path) -> None:
    found = inspect_bundle(bundle, set(load_pools()))

    assert [str(violation) for violation in found.violations] == []
    assert sorted(dag.dag_id for dag in found.dags) == ["sales_load_berlin", "sales_publish_spring"]


def test_its_settings_are_missed_where_there_is_no_file(bundle: Path) -> None:
    code = "from sales.library.settings import settings; settings()"
    variables = {**os.environ, "AIRFLOW_ENV": "staging", "PYTHONPATH": str(bundle)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)
    assert "AIRFLOW_ENV is 'staging': use one of dev, prod" in done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Airflow of all runs: the first one makes its database."""
    return tmp_path_factory.mktemp("home")


def run(bundle: Path, dag_id: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a DAG in a process of its own, as `airflow-ops dags test` does."""
    monkeypatch.setattr(one_run, "DAGS", bundle)
    (home / "object-storage").mkdir(exist_ok=True)
    wanted = {"dag_id": dag_id, "file": str(bundle / f"sales/{dag_id}.py"), "logical_date": "2026-02-03T00:00:00+00:00"}
    code = (
        "import json, sys; from pathlib import Path; from airflow_ops.dags import one_run\n"
        "wanted = json.loads(sys.argv[1]); one_run.DAGS = Path(sys.argv[2])\n"
        "print(); print(json.dumps(one_run._run({**wanted, 'conf': None})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(wanted), str(bundle)],
        env=one_run._environment(home, home),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_its_tenant_runs_with_its_own_settings(bundle: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    assert run(bundle, "sales_load_berlin", home, monkeypatch) == {
        "state": "success",
        "tasks": {"load": "success"},
    }
    with sqlite3.connect(home / "warehouse.db") as database:
        assert database.execute("SELECT local_date, shop, amount FROM orders").fetchall() == [
            ("2026-02-03", "Berlin", 4.0)
        ]


def test_its_generated_dag_runs(bundle: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(bundle, "sales_publish_spring", home, monkeypatch)["state"] == "success"
