"""Every DAG of the bundle keeps every rule, and each rule is seen to be broken by a file that breaks it."""

import shutil
from pathlib import Path

import pytest

from airflow_ops.dags.inspection import Inspection, inspect_bundle
from airflow_ops.dags.rules import domain_violations
from airflow_ops.environments.pools import load_pools
from airflow_ops.paths import DAGS

pytestmark = pytest.mark.xdist_group("integrity")  # what the module makes is made once
GOOD = '''
"""A DAG that keeps every rule."""

from datetime import timedelta

from airflow.sdk import dag, task
from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources


@task(pool="warehouse", executor_config=resources("large"))
def load() -> None:
    print("loads")


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=default_args("sales"),
    on_failure_callback=notify_run_failure,
    tags=["flights"],
)
def DAG_ID() -> None:
    """Does nothing."""
    load()


DAG_ID()
'''

BEFORE = "@dag(\n    schedule"
"""Where a file does something while it is parsed."""

# What is wrong with the file: what is replaced in GOOD, by what, the rule that is broken, a word of the explanation.
BAD = {
    "syntax": ("def load() -> None:", "def load( -> None:", "parse", "SyntaxError"),
    "unknown_size": ('resources("large")', 'resources("huge")', "parse", "'huge' does not exist"),
    "exit": (BEFORE, f"import os\nos._exit(3)\n{BEFORE}", "parse", "ends the process"),
    "name": ("DAG_ID", "flights_load_other", "id", "name both alike"),
    "no_dag": ("\n\nDAG_ID()\n", "\n", "one DAG a file", "none"),
    "no_defaults": (
        'default_args("sales")',
        '{key: value for key, value in default_args("sales").items() if key != "retries"}',
        "default arguments",
        "no retries",
    ),
    "owner": ('default_args("sales")', 'default_args("airflow")', "owner", "no owner"),
    "unknown_tag": ('["flights"]', '["flights", "misc"]', "tags", "misc"),
    "no_tags": ('["flights"]', "[]", "tags", "'flights' is missing"),
    "documentation": ('    """Does nothing."""\n', "", "documentation", "doc_md"),
    "catchup": ("catchup=False", "catchup=True", "catchup", "every run of the past"),
    "run_timeout": ("dagrun_timeout=timedelta(hours=1)", "dagrun_timeout=None", "run timeout", "dagrun_timeout"),
    "active_runs": ("    max_active_runs=1,\n", "", "active runs", "16"),
    "callback": ("    on_failure_callback=notify_run_failure,\n", "", "failure callback", "notify_run_failure"),
    "timeout": ('pool="warehouse"', "execution_timeout=None", "timeout", "task load"),
    "retry_delay": ('pool="warehouse"', "max_retry_delay=None", "retry delay", "task load"),
    "template": ('resources("large")', '{"pod_template_file": "/x.yaml"}', "size", "'/x.yaml' is not that of a size"),
    "pool": ('pool="warehouse"', 'pool="wearhouse"', "pool", "'wearhouse'"),
    "override_that_is_a_map": (
        'executor_config=resources("large")',
        'executor_config={**resources("large"), "pod_override": {"spec": {}}}',
        "pod override",
        "fails with a TypeError",
    ),
    # Whoever needs one imports kubernetes at parse, which is a fault of its own: sizes are what to use.
    "override_without_base_first": (
        '@task(pool="warehouse", executor_config=resources("large"))',
        "from kubernetes.client import V1Container, V1Pod, V1PodSpec\n"
        "SIDECAR = V1Pod(spec=V1PodSpec(containers=[V1Container(name='sidecar'), V1Container(name='base')]))\n"
        '@task(executor_config={**resources("large"), "pod_override": SIDECAR})',
        "import + pod override",
        "put `base` first",
    ),
    "sensor_that_holds_its_pod": ('@task(pool="warehouse", ', "@task.sensor(", "waiting", "holds a worker pod"),
    "sensor_that_may_defer": (
        "    load()\n",
        "    load()\n    from airflow.providers.standard.sensors.filesystem import FileSensor\n"
        "    FileSensor(task_id='wait', filepath='/x')\n",
        "waiting",
        "deferrable=True",
    ),
    "heavy_import": (BEFORE, f"import pyarrow\n{BEFORE}", "import", "imports pyarrow"),
    "many_imports": (
        BEFORE,
        "import airflow.providers.amazon.aws.sensors.s3, airflow.providers.http.operators.http\n"
        f"import airflow.providers.slack.hooks.slack, airflow.providers.postgres.hooks.postgres\n{BEFORE}",
        "import",
        "modules, more than",
    ),
    "network": (BEFORE, f"import socket\nsocket.create_connection(('127.0.0.1', 9))\n{BEFORE}", "access", "a host"),
    "program": (BEFORE, f"import subprocess\nsubprocess.run(['true'])\n{BEFORE}", "access", "starts a program"),
    "file": (BEFORE, f"open('/tmp/never-written', 'w')\n{BEFORE}", "access", "writes /tmp/never-written"),
    "variable": (
        BEFORE,
        f"from airflow.sdk import Variable\nVariable.get('x', default=None)\n{BEFORE}",
        "access",
        "reads variable 'x'",
    ),
    "connection": (
        BEFORE,
        f"from airflow.sdk import BaseHook\nBaseHook.get_connection('warehouse')\n{BEFORE}",
        "access",
        "reads connection 'warehouse'",
    ),
    "hidden_network": (
        BEFORE,
        f"import socket\ntry:\n    socket.socket().connect(('127.0.0.1', 9))\nexcept Exception:\n    pass\n{BEFORE}",
        "access",
        "opens a network connection",
    ),
    "unstable": (
        BEFORE,
        f"import pendulum\n{BEFORE.replace('schedule', 'start_date=pendulum.now(), schedule')}",
        "stability",
        "pendulum.now()",
    ),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that has this repository's library, one good file, and a bad one for each way."""
    bundle = tmp_path_factory.mktemp("bundle")
    for name in ("shared", "config"):
        shutil.copytree(DAGS / name, bundle / name)
    shutil.copy(DAGS / ".airflowignore", bundle)
    (bundle / "flights").mkdir()
    (bundle / "flights_load_astray.py").write_text(GOOD.replace("DAG_ID", "flights_load_astray"))
    printing = 'print("without an end of line", end="", flush=True)\n'  # must not disturb the answer of the inspection
    (bundle / "flights/flights_load_good.py").write_text(GOOD.replace("DAG_ID", "flights_load_good") + printing)
    (bundle / "flights/flights_load_silently.py").write_text("import nothing_that_exists\n")
    for case, (old, new, _, _) in BAD.items():
        assert old in GOOD
        text = GOOD.replace(old, new).replace("DAG_ID", f"flights_break_{case}")
        (bundle / f"flights/flights_break_{case}.py").write_text(text)
    return bundle


@pytest.fixture(scope="module")
def found_in_bad(bad: Path, pools: set[str]) -> Inspection:
    return inspect_bundle(bad, pools)


@pytest.fixture(scope="module")
def pools() -> set[str]:
    return set(load_pools())


def test_the_bundle_keeps_every_rule(pools: set[str]) -> None:
    found = inspect_bundle(DAGS, pools)

    for cost in found.costs:
        print(f"{cost.file}: {cost.cpu_seconds:.3f} CPU seconds, {cost.modules} modules")
    assert {cost.file for cost in found.costs} == {
        str(file.relative_to(DAGS)) for file in DAGS.glob("*/*.py") if file.parent.name not in ("shared", "config")
    }
    assert [str(violation) for violation in found.violations] == []


def test_a_good_file_breaks_no_rule(found_in_bad: Inspection) -> None:
    assert [v for v in found_in_bad.violations if v.file == "flights/flights_load_good.py"] == []
    assert "flights/flights_load_good.py" in {cost.file for cost in found_in_bad.costs}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_its_rule_and_no_other(found_in_bad: Inspection, case: str) -> None:
    _, _, rule, word = BAD[case]
    of_file = [v for v in found_in_bad.violations if v.file == f"flights/flights_break_{case}.py"]

    assert {v.rule for v in of_file} == set(rule.split(" + ")), of_file
    assert any(word in str(v) for v in of_file)


@pytest.mark.parametrize(
    ("file", "rule"),
    [("flights_load_astray.py", "id"), ("flights/flights_load_silently.py", "safe mode")],
)
def test_a_file_that_airflow_finds_elsewhere_or_skips_is_named(found_in_bad: Inspection, file: str, rule: str) -> None:
    assert rule in {v.rule for v in found_in_bad.violations if v.file == file}


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("syntax", "def load( ->"),
        ("unknown_size", '@task(pool="warehouse", executor_config=resources("huge"))'),
        ("heavy_import", "import pyarrow"),
        ("network", "socket.create_connection"),
        ("pool", "@task("),
        ("sensor_that_may_defer", "FileSensor("),
        ("documentation", "def flights_break_documentation"),
    ],
)
def test_a_violation_leads_to_its_line(found_in_bad: Inspection, bad: Path, case: str, text: str) -> None:
    file = f"flights/flights_break_{case}.py"
    lines = (bad / file).read_text().splitlines()
    assert [text in lines[v.line - 1] for v in found_in_bad.violations if v.file == file and v.line] == [True]


@pytest.mark.parametrize(
    ("domain", "extra", "reason"),
    [
        ("statistics", None, "statistics: domain: 'statistics' is a module of Python's standard library"),
        ("git", None, "git: domain: 'git' is an installed package, which would hide git/library: choose another name"),
        ("shared", None, "shared: domain: 'shared' is the folder of what all domains share"),
        ("config", None, "config: domain: 'config' is the folder of what all domains share"),
        ("platform", "__init__.py", "platform/__init__.py: domain: makes the folder a package, which hides any other"),
        ("sales", "__init__.py", "sales/__init__.py: domain: makes the folder a package"),
        ("platform", "library/__init__.py", "library: domain: cannot be imported, because 'platform' is"),
    ],
)
def test_a_domain_that_hides_a_module_is_named(tmp_path: Path, domain: str, extra: str | None, reason: str) -> None:
    (tmp_path / domain).mkdir()
    if extra:
        (tmp_path / domain / extra).parent.mkdir(exist_ok=True)
        (tmp_path / domain / extra).touch()
    assert [reason in str(found) for found in domain_violations(tmp_path, [domain])] == [True]


@pytest.mark.parametrize("domain", ["flights", "sales", "platform"])
def test_a_domain_that_hides_nothing_is_fine(tmp_path: Path, domain: str) -> None:
    (tmp_path / domain).mkdir()
    if domain != "platform":
        (tmp_path / domain / "library").mkdir()
    assert list(domain_violations(tmp_path, [domain])) == []


def test_an_inspection_names_a_wrong_domain(tmp_path: Path, pools: set[str]) -> None:
    """With a file that makes `platform` a package, Airflow itself could no longer import Python's module."""
    for name in ("shared", "config"):
        shutil.copytree(DAGS / name, tmp_path / name)
    shutil.copy(DAGS / ".airflowignore", tmp_path)
    (tmp_path / "calendar").mkdir()
    (tmp_path / "calendar/calendar_load_days.py").write_text(GOOD.replace("DAG_ID", "calendar_load_days"))
    found = inspect_bundle(tmp_path, pools)
    assert [str(v) for v in found.violations if v.rule == "domain"] == [
        "calendar: domain: 'calendar' is a module of Python's standard library, which the folder may hide: "
        "choose another name"
    ]
