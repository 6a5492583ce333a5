"""Jobs that a backup by hand and a restore make of the backup's CronJob."""

from typing import Any

from airflow_ops.recovery.backup import backup_job, container


def cron_job() -> dict[str, Any]:
    pod = {"initContainers": [{"name": "dump", "image": "p", "env": []}], "containers": [{"name": "store", "env": []}]}
    template = {
        "metadata": {"labels": {"l": "1"}},
        "spec": {"activeDeadlineSeconds": 9, "template": {"metadata": {}, "spec": pod}},
    }
    return {"metadata": {"uid": "u"}, "spec": {"jobTemplate": template}}


def test_a_backup_by_hand_counts_as_the_cron_jobs() -> None:
    job = backup_job(cron_job())
    assert (
        job["metadata"]["ownerReferences"][0] | {"uid": "u", "controller": True}
        == job["metadata"]["ownerReferences"][0]
    )
    assert [c["name"] for c in job["spec"]["template"]["spec"]["initContainers"]] == ["dump"]
    assert job["spec"]["activeDeadlineSeconds"] == 9


def test_only_the_containers_that_need_a_secret_get_it() -> None:
    template = cron_job()["spec"]["jobTemplate"]
    plain = container(template, "dump", ["bash", "load.sh", "load"], {})
    assert (plain["name"], plain["image"], plain["env"]) == ("load", "p", [])
    other = container(template, "store", ["python", "x.py", "verify"], {"FERNET_KEY": ("airflow-fernet", "fernet-key")})
    assert other["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "airflow-fernet"
