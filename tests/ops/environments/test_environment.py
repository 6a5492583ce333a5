"""What an environment is made of stands in k8s/environments.yaml, and every mistake in it is named."""

from pathlib import Path

import pytest

from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import FILE, Environment, environment_names
from airflow_ops.manifests.objects import active_colour, releases
from airflow_ops.paths import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the environment prod, to which the overlay `cloud` belongs, and an overlay `trial`."""
    files = {
        "k8s/environments.yaml": "prod: {contexts: [production], overlays: [cloud]}\n",
        "charts/platform/values.yaml": "platform: {fromChart: 1, replaced: chart}\n",
        "values/base.yaml": "global: {secrets: {users: users}, image: {repository: r, tag: t}}\n",
        "values/prod.yaml": "platform: {replaced: prod}\n",
        "values/overlays/cloud.yaml": "platform: {cloud: true, last: cloud}\n",
        "values/overlays/trial.yaml": "platform: {last: trial}\nglobal: {secrets: {users: renamed}}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_its_own_overlays_are_never_forgotten(root: Path) -> None:
    prod = Environment.load("prod", root=root)
    assert prod.overlays == ("cloud",)
    assert prod.values["platform"] == {"fromChart": 1, "replaced": "prod", "cloud": True, "last": "cloud"}
    assert prod.secret("users") == "users"


def test_an_overlay_for_a_trial_goes_over_them(root: Path) -> None:
    prod = Environment.load("prod", ["trial"], root)
    assert [file.name for file in prod.value_files] == ["base.yaml", "prod.yaml", "cloud.yaml", "trial.yaml"]
    assert prod.values["platform"]["last"] == "trial"
    assert prod.secret("users") == "renamed"


def test_other_overlays_may_take_the_place_of_its_own(root: Path) -> None:
    assert Environment.load("prod", root=root, own=["trial"]).overlays == ("trial",)
    assert Environment.load("prod", root=root, own=[]).overlays == ()


def test_an_overlay_that_belongs_to_it_already_is_taken_once(root: Path) -> None:
    assert Environment.load("prod", ["cloud", "trial", "trial"], root).overlays == ("cloud", "trial")


def test_the_colour_that_users_reach_is_that_of_the_values_unless_argo_cd_brings_it(root: Path) -> None:
    (root / "values/base.yaml").write_text("global: {activeColour: blue}\n")
    prod = Environment.load("prod", root=root)
    assert (active_colour(prod), prod.active_colour_key) == ("blue", "global.activeColour in values/prod.yaml")
    argocd = "{cluster: prod, revision: v1, activeColour: green}"
    (root / FILE).write_text(f"prod: {{contexts: [], overlays: [cloud], argocd: {argocd}}}\n")
    prod = Environment.load("prod", root=root)
    assert (active_colour(prod), prod.active_colour_key) == ("green", f"prod.argocd.activeColour in {FILE}")
    assert releases(prod)[0].value_arguments()[-2:] == ["--set", "global.activeColour=green"]
    assert active_colour(Environment.load("prod", root=root, active_colour="blue")) == "blue"


def test_names_follow_from_the_environment(root: Path) -> None:
    prod = Environment.load("prod", root=root)
    assert (prod.namespace, prod.image, prod.contexts) == ("airflow-prod", "r:t", ("production",))


def test_this_repositorys_environments_lie_over_base() -> None:
    dev = Environment.load("dev")
    assert dev.values["global"]["environment"] == "dev"
    assert dev.values["airflow"]["config"]["core"]["auth_manager"], "a key that only base.yaml sets"
    assert "kind-airflow" in dev.contexts


def test_every_file_of_an_environment_is_listed_and_the_other_way_round() -> None:
    assert set(environment_names()) == {path.stem for path in (ROOT / "values").glob("*.yaml")} - {"base"}
    for name in environment_names():
        assert all(file.exists() for file in Environment.load(name).value_files)


def test_an_environment_that_does_not_exist_is_named() -> None:
    with pytest.raises(ProblemError, match=r"environment 'nowhere' does not exist.*Use one of dev, staging, prod") as e:
        Environment.load("nowhere")
    assert e.value.exit_code == 2


def test_an_overlay_that_does_not_exist_is_named(root: Path) -> None:
    with pytest.raises(ProblemError, match="overlay 'moon' does not exist. Known overlays: cloud, trial"):
        Environment.load("prod", ["moon"], root)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prod: [1\n", "k8s/environments.yaml is not YAML"),
        ("- prod\n", "k8s/environments.yaml: the file: should be a map"),
        ("prod: {contexts: []}\n", "prod.overlays: missing"),
        ("prod: {contexts: [], overlays: [], overlay: []}\n", "prod.overlay: unknown key"),
        ("prod: {contexts: a, overlays: []}\n", "prod.contexts: should be a valid list, found 'a'"),
        ("prod: {contexts: [], overlays: []}\nprod: {contexts: [a], overlays: []}\n", "key 'prod' stands there twice"),
        ("prod: {contexts: [' '], overlays: []}\n", "prod.contexts.0: .*pattern"),
        ("prod: {contexts: [2013-13-45], overlays: []}\n", "k8s/environments.yaml is not YAML: month must be in"),
        ("", "it is empty"),
        ("[]\n", "the file: should be a map"),
        (
            "prod: {contexts: [], overlays: [], argocd: {cluster: p, revision: v1, activeColour: red}}\n",
            "prod.argocd.activeColour: should be 'blue' or 'green', found 'red'",
        ),
        ("prod: {contexts: [], overlays: [../prod]}\n", "overlay '../prod' does not exist"),
        ("prod: {contexts: [], overlays: [moon]}\n", "overlay 'moon' does not exist"),
        ("prod: {contexts: [], overlays: []}\nqa: {contexts: [], overlays: []}\n", "there is no values/qa.yaml"),
    ],
)
def test_a_mistake_in_the_file_is_named(root: Path, text: str, complaint: str) -> None:
    (root / FILE).write_text(text)
    with pytest.raises(ProblemError, match=complaint):
        Environment.load("qa" if "qa" in text else "prod", root=root)


def test_a_checkout_without_the_file_says_so(root: Path) -> None:
    (root / FILE).unlink()
    with pytest.raises(ProblemError, match="k8s/environments.yaml does not exist in .*a ref that has it"):
        Environment.load("prod", root=root)
