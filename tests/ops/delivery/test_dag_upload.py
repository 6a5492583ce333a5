"""DAGs in object storage: copied there by the command, read there by Airflow's S3DagBundle as the chart sets it.

The S3 is moto's, because there is no other one here.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_ops.paths import PLUGINS, ROOT
from support import object_storage
from support.chart_rendering import Charts
from support.repository_copy import copy_repository
from support.small_checkout import Checkout

TAG = "v7.7.7"
BUNDLE = {"kind": "s3", "uri": "s3://lake/dags", "trackingRef": TAG}
DAG = """
from airflow.sdk import dag, task


@dag(schedule=None)
def e2e_from_s3():
    @task
    def say():
        print("it ran from object storage")

    say()


e2e_from_s3()
"""


@pytest.fixture
def s3() -> Iterator[Any]:
    """A bucket, as a client of S3."""
    with object_storage.bucket("lake") as client:
        yield client


def variables(client: Any) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": client.meta.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_storage.KEY,
        "AWS_SECRET_ACCESS_KEY": object_storage.KEY,
        "AWS_DEFAULT_REGION": object_storage.REGION,
    }


@pytest.fixture
def repository(tmp_path: Path, s3: Any) -> Checkout:
    """A copy of this repository whose dev takes its DAGs from object storage, with a tag."""
    made = copy_repository(tmp_path)
    made.environ |= variables(s3)
    made.set("dev.yaml", {"global": {"dagBundle": BUNDLE}})
    (made.root / "dags/platform/e2e_from_s3.py").write_text(DAG)
    made.commit("feat(dags): from object storage")
    made.git("tag", TAG)
    return made


def keys(client: Any) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket="lake").get("Contents", [])]


def airflow(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Airflow of this checkout's environment, which is that of the image."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    own = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
    }
    command = [str(ROOT / ".venv/bin/airflow"), *arguments]
    return subprocess.run(command, env=base | own | environment, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_airflow_runs_a_dag_from_there(repository: Checkout, s3: Any, charts: Charts, tmp_path: Path) -> None:
    done = repository.run("dags", "upload", "dev")
    assert done.returncode == 0, done.stderr
    assert f"dags/{TAG}/platform/e2e_from_s3.py" in keys(s3)

    config = charts.render("airflow-blue", {"global": {"dagBundle": BUNDLE}}).config()
    listed = config["dag_processor"]["dag_bundle_config_list"]
    environment = variables(s3) | {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": listed}
    assert airflow(tmp_path, environment, "db", "migrate").returncode == 0
    errors = airflow(tmp_path, environment, "dags", "list-import-errors", "--local")
    assert errors.returncode == 0, errors.stdout + errors.stderr
    ran = airflow(tmp_path, environment, "dags", "test", "e2e_from_s3")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "it ran from object storage" in ran.stdout + ran.stderr


def test_what_was_cut_off_goes_on_and_what_is_there_stays(repository: Checkout, s3: Any) -> None:
    assert repository.run("dags", "upload", "dev").returncode == 0
    everything = keys(s3)
    s3.delete_object(Bucket="lake", Key=everything[-1])
    again = repository.run("dags", "upload", "dev")
    assert again.stdout == f"ok 1 file copied to s3://lake/dags/{TAG}, {len(everything) - 1} were there\n"
    assert keys(s3) == everything


@pytest.mark.parametrize("other", [f"dags/{TAG}/platform/e2e_from_s3.py", f"dags/{TAG}/platform/another.py"])
def test_a_folder_never_changes(repository: Checkout, s3: Any, other: str) -> None:
    s3.put_object(Bucket="lake", Key=other, Body=b"# an airflow dag of somebody else")
    refused = repository.run("dags", "upload", "dev")
    assert refused.returncode == 2
    assert f"the first of them {other.removeprefix(f'dags/{TAG}/')}" in " ".join(refused.stderr.split())
    assert keys(s3) == [other]


@pytest.mark.parametrize(
    ("bundle", "complaint"),
    [
        ({"kind": "git"}, "the DAGs of dev come from git, not from object storage"),
        ({"trackingRef": "main"}, "trackingRef of dev is 'main', which is no tag of this checkout"),
        ({"subdir": "nothing"}, f"at {TAG} there is no file in 'nothing'"),
        ({"uri": "gs://lake/dags"}, "global.dagBundle.uri is 'gs://lake/dags'"),
    ],
)
def test_what_cannot_be_copied_is_refused(repository: Checkout, bundle: dict[str, str], complaint: str) -> None:
    repository.set("dev.yaml", {"global": {"dagBundle": bundle}})
    refused = repository.run("dags", "upload", "dev")
    assert refused.returncode == 2
    assert complaint in refused.stderr


def test_a_storage_that_does_not_answer_is_named(repository: Checkout) -> None:
    failed = repository.run("dags", "upload", "dev", AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")
    assert failed.returncode == 1
    assert "s3://lake/dags/v7.7.7 cannot be" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "connection"),
    [
        ("s3://lake/dags", "lake", f"dags/{TAG}/", None),
        ("s3://minio@lake.example/a/b", "lake.example", f"a/b/{TAG}/", "minio"),
    ],
)
def test_the_chart_reads_the_address(
    charts: Charts, uri: str, bucket: str, prefix: str, connection: str | None
) -> None:
    rendered = charts.render("airflow-blue", {"global": {"dagBundle": {**BUNDLE, "uri": uri}}})
    (bundle,) = json.loads(rendered.config()["dag_processor"]["dag_bundle_config_list"])
    assert bundle["classpath"] == "airflow.providers.amazon.aws.bundles.s3.S3DagBundle"
    kwargs = bundle["kwargs"]
    assert (kwargs["bucket_name"], kwargs["prefix"], kwargs.get("aws_conn_id")) == (bucket, prefix, connection)
