"""`airflow-ops alerts test` before a real Prometheus, which scrapes the real StatsD exporter and has the rules."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.alert_cases import RULES
from support.command_line import airflow_ops
from support.statsd_exporter import Exporter, free_ports, known_metrics, line, running_exporter

pytestmark = pytest.mark.xdist_group("live")  # what the module makes is made once
NAMESPACE = "airflow-dev"


def wait_for(what: str, look: Callable[[], bool]) -> None:
    for _ in range(300):
        if look():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come true in 30 s")


@contextmanager
def running_prometheus(folder: Path, exporter: Exporter) -> Iterator[str]:
    """A Prometheus with the rules of the namespace, without a `for`; gives its address."""
    program = shutil.which("prometheus")
    assert program is not None
    files = []
    for path in RULES.glob("*.yaml"):
        content = yaml.safe_load(path.read_text().replace("airflow-prod", NAMESPACE))
        for rule in (rule for group in content["groups"] for rule in group["rules"]):
            rule.pop("for", None)
        files.append(folder / path.name)
        files[-1].write_text(yaml.safe_dump(content))
    labels = {"namespace": NAMESPACE, "job": "airflow-blue-statsd", "colour": "blue"}
    scrape = {"job_name": "statsd", "static_configs": [{"targets": [f"127.0.0.1:{exporter.web}"], "labels": labels}]}
    config = folder / "prometheus.yml"
    intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config.write_text(
        yaml.safe_dump({"global": intervals, "rule_files": list(map(str, files)), "scrape_configs": [scrape]})
    )
    (port,) = free_ports(1)
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that has scraped every metric which needs no event, an import error among them."""
    for program in ("prometheus", "statsd_exporter"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")
    folder = tmp_path_factory.mktemp("prometheus")
    with running_exporter(folder) as exporter, running_prometheus(folder, exporter) as url:
        exporter.send(line(row) for row in known_metrics().values() if row["sent_as"] != "-" and row["event"] == "-")
        wait_for("the recorded objectives", lambda: has(url, f'airflow:slo_burn:ratio3d{{namespace="{NAMESPACE}"}}'))
        wait_for("the alert", lambda: has(url, 'ALERTS{alertname="AirflowDagImportErrors"}'))
        yield url


def has(url: str, expr: str) -> bool:
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": expr}, timeout=5)
    except httpx.TransportError:
        return False
    return answer.is_success and bool(answer.json()["data"]["result"])


def alerts_test(*arguments: str) -> subprocess.CompletedProcess[str]:
    return airflow_ops("alerts", "test", *arguments)


def test_what_is_there_what_waits_and_what_is_missing_are_distinguished(prometheus: str) -> None:
    answer = alerts_test("dev", "--url", prometheus, "--json")
    assert answer.returncode == 1, answer.stderr
    found = json.loads(answer.stdout)
    assert not [(rule["name"], rule["error"]) for rule in found if rule["error"] or not rule["loaded"]]
    blind = {one["selector"] for rule in found for one in rule["unseen"] if not one["event"]}
    assert blind
    missing = re.compile(r'kube_|airflow_database_|airflow_git_mirror_|up\{.*job="airflow-database-exporter"')
    assert not {one for one in blind if not missing.match(one)}, "only these exporters are not here"
    rules = {rule["name"]: rule for rule in found}
    failures = rules["AirflowTaskFailures"]["unseen"]
    assert {one["event"] for one in failures} == {"a failed try"}
    assert (rules["AirflowDagImportErrors"]["state"], rules["AirflowQueueDeep"]["state"]) == ("firing", "inactive")


def test_a_person_reads_what_is_wrong(prometheus: str) -> None:
    answer = alerts_test("dev", "--url", prometheus)
    assert "missing AirflowQuotaAlmostFull: no series of kube_resourcequota" in answer.stdout
    assert "it needs a failed try" in answer.stdout
    assert "firing AirflowDagImportErrors" in answer.stdout
    assert "0 do not evaluate" in answer.stdout


def test_rules_of_another_environment_are_not_loaded(prometheus: str) -> None:
    answer = alerts_test("staging", "--url", prometheus, "--json")
    assert answer.returncode == 1
    assert not [rule for rule in json.loads(answer.stdout) if rule["loaded"]]


def test_what_is_no_prometheus_is_an_error(prometheus: str) -> None:
    (port,) = free_ports(1)
    for url, said in ((f"http://127.0.0.1:{port}", "no Prometheus answers"), (f"{prometheus}/graph", "is not the API")):
        answer = alerts_test("dev", "--url", url)
        assert answer.returncode == 2
        assert said in answer.stderr
        assert "Traceback" not in answer.stderr


def changed(rules: list[dict[str, Any]], old: str, new: str) -> list[dict[str, Any]]:
    return [rule | {"expr": rule["expr"].replace(old, new)} for rule in rules if old in rule["expr"]]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("airflow_dagbag_size", "airflow_dag_bag_size", "no series of airflow_dag_bag_size"),
        ('pool_name!=""', 'pool!=""', "no series of airflow_pool_starving_tasks has the label pool"),
        ("airflow-(blue|green)-statsd", "airflow-(red|green)-statsd", "no series has these values"),
        ("by (namespace, pool_name)", "by (namespace, pool)", "grouped by pool, which nothing that it reads has"),
    ],
)
def test_a_rule_that_reads_what_is_not_there_is_blind(prometheus: str, old: str, new: str, why: str) -> None:
    from airflow_ops.monitoring.live_rules import check_rules, rules_of
    from airflow_ops.monitoring.prometheus import Prometheus

    rules = rules_of(NAMESPACE, [path.read_text() for path in RULES.glob("*.yaml")])
    broken = [rule for rule in changed(rules, old, new) if "airflow:slo" not in str(rule)]
    assert broken
    for rule in check_rules(Prometheus(prometheus), NAMESPACE, broken):
        assert why in [one.why for one in rule.missing], rule


def test_a_rule_that_does_not_evaluate_says_why(prometheus: str) -> None:
    from airflow_ops.monitoring.live_rules import check_rules
    from airflow_ops.monitoring.prometheus import Prometheus

    (rule,) = check_rules(Prometheus(prometheus), NAMESPACE, [{"alert": "Broken", "expr": "sum by (up"}])
    assert "parse error" in rule.error
