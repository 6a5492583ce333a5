"""Every command is given words, numbers and files that nobody means: it says what is wrong, and does nothing.

The commands and their parameters are found by walking the app, so that a new one is tested here without being named.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.forked_command import Ended, ForkedCommand
from support.hostile import (
    FEW,
    NUMBERS,
    OPTIONS,
    WORDS,
    Parameter,
    call,
    commands,
    example,
    make_files,
    parameters,
)
from support.repository_copy import copy_repository
from support.small_checkout import Checkout

pytestmark = pytest.mark.xdist_group("hostile_input")  # what the module makes is made once

PROGRAMS = ("git", "helm", "kubectl", "cz")
SHARED = ("name", "overlay", "env")
"""Parameters that many commands take from one declaration."""
COMMANDS = [words for words in commands() if parameters(words)]
LONGEST_NAME = 255
"""Bytes of a file's name, in the file systems of Linux."""
ELSEWHERE = ("kubectl has no current context", "Airflow does not run on this machine", "is not on PATH")
"""Messages about what these tests do not have: the command came so far without looking at the argument."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def repository(folder: Path) -> Checkout:
    return copy_repository(folder)


@pytest.fixture(scope="module")
def command(repository: Checkout, folder: Path) -> Iterator[ForkedCommand]:
    (folder / "temporary").mkdir()
    repository.environ["KUBECONFIG"] = str(folder / "no-kubeconfig")
    started = ForkedCommand(repository, PROGRAMS, folder / "temporary")
    yield started
    started.close()


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Path]:
    return make_files(folder / "files", with_contents=True)


@pytest.fixture(scope="module")
def paths(folder: Path) -> dict[str, Path]:
    return make_files(folder / "paths", with_contents=False)


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file of a checkout but those of Git, with what changes when it is written."""
    found = {}
    for path, names, here in os.walk(root):
        names[:] = [name for name in names if name not in (".git", ".venv")]
        for name in here:
            about = (Path(path) / name).lstat()
            found[f"{path}/{name}"] = (about.st_mtime_ns, about.st_size)
    return found


def faults(ended: Ended) -> Iterator[str]:
    """What is wrong with the end of a command that was given something hostile."""
    said = ended.out + ended.err
    if ended.code is None:
        yield "does not end"
    elif ended.code not in (1, 2):
        yield f"exit code {ended.code}"
    if "Traceback" in said:
        yield f"a traceback: {said.strip().splitlines()[-1]:.300}"
    elif not ("error " in ended.err and "fix  " in ended.err) and not ("Usage: " in said and "Error" in said):
        yield f"no error with what to do: {said[:300]!r}"
    if hidden := {sign for sign in said if not sign.isprintable() and sign not in "\n\t"}:
        yield f"prints signs that a terminal does not show: {hidden!r}"
    yield from ended.forbidden
    for words in ended.programs:
        yield from (f"{word!r} reaches {words[0]} as an option" for word in taken_for_options(words))


def taken_for_options(words: list[str]) -> list[str]:
    """The hostile options on a program's command line that it would take for its own."""
    ends = [words.index(each) for each in ("--", "--end-of-options") if each in words]
    starts = tuple(option.partition("=")[0] for option in OPTIONS)
    before = words[1 : min(ends, default=len(words))]
    return [word for word in before if word.startswith(starts) and word.partition("=")[0] in starts]


def is_named(ended: Ended, parameter: Parameter, value: str) -> bool:
    """Whether a message says which argument is wrong: by its name, its value, or that it never came to it."""
    said = "".join((ended.out + ended.err).split())
    names = [*parameter.shown, repr(value)[1:-1] or "''", *ELSEWHERE]
    return any(name and "".join(name.split())[:100] in said for name in names)


def given(parameter: Parameter, paths: dict[str, Path]) -> dict[str, str]:
    """The values that a parameter is given, by what is hostile about them."""
    if parameter.kind in (int, float):
        return {f"number {number:.10}": number for number in NUMBERS}
    if parameter.kind is Path:
        return {name: str(path) for name, path in paths.items()}
    is_own = parameter.kind is str and parameter.name not in SHARED
    return {name: word for name, word in WORDS.items() if is_own or name in FEW}


WELCOME = {
    (("render",), "folder", "folder"),
    (("render",), "folder", "missing"),
    (("validate",), "crd_schemas", "folder"),
    # What is special about an upgrade, in words.
    *((("compatibility",), "case", name) for name in WORDS),
}
"""Command, parameter and value where the value is none that is hostile."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_hostile_value(
    words: tuple[str, ...], command: ForkedCommand, repository: Checkout, folder: Path, paths: dict[str, Path]
) -> None:
    before, made = tree(repository.root), folder / "made"
    found = []
    for parameter in parameters(words):
        for name, word in given(parameter, paths).items():
            value = word.replace("{made}", str(made))
            if value == parameter.default or (words, parameter.name, name) in WELCOME:
                continue
            ended = command.run(*call(words, {**example(words), parameter.name: value}))
            own = list(faults(ended))
            if not is_named(ended, parameter, value):
                own.append(f"the argument is not named: {ended.err[:300]!r}")
            found += [f"{parameter.name}, {name}: {fault}" for fault in own]
    assert not found, "\n".join(found)
    assert not made.exists()
    assert tree(repository.root) == before


@pytest.mark.parametrize("name", ["long", "nested", "NaN"])
def test_a_hostile_conf_of_a_run(name: str, command: ForkedCommand) -> None:
    conf = {"long": '{"a": "%s' % ("a" * 10_000), "nested": "[" * 10_000 + "]" * 10_000, "NaN": "NaN"}[name]
    assert not list(faults(command.run("dags", "test", "flights_ingest_daily", f"--conf={conf}")))


def test_an_id_that_is_too_long_for_a_file(command: ForkedCommand) -> None:
    ended = command.run("dags", "new", f"flights_export_{'a' * 1_000}", "--owner", "flights")
    assert not list(faults(ended))


@pytest.mark.parametrize("suffix", ["", ".py"])
@pytest.mark.parametrize("verb", ["lint", "test"])
def test_a_file_that_is_no_dag(
    verb: str, suffix: str, command: ForkedCommand, folder: Path, files: dict[str, Path]
) -> None:
    found = []
    for name, path in files.items():
        if len(path.name) > LONGEST_NAME:
            continue
        link = folder / f"link-to-{path.name[:50]}{suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        found += [f"{name}: {fault}" for fault in faults(command.run("dags", verb, str(link)))]
        link.unlink()
    assert not found


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_number_has_bounds(words: tuple[str, ...]) -> None:
    """Without an upper one a number overflows, or makes the command work for ever."""
    unbounded = [
        each.name
        for each in parameters(words)
        if each.kind in (int, float) and (None in each.bounds or math.inf in map(abs, each.bounds))
    ]
    assert not unbounded


READERS = {
    "k8s/environments.yaml": ("alerts", "routing", "prod"),
    "values/prod.yaml": ("alerts", "routing", "prod"),
    "charts/airflow/Chart.yaml": ("deps", "--check"),
    "charts/platform/files/rules/dags.yaml": ("alerts", "list"),
    "dags/config/tags.yaml": ("dags", "new", "flights_export_carriers", "--owner=flights"),
    "dags/config/trials.yaml": ("dags", "run-all"),
    "docs/rehearsals.json": ("compatibility", "--check"),
    ".local/processes.json": ("down",),
    ".local/secrets.json": ("status",),
}
"""A command for each file of the checkout or of the user that commands read; none of them needs a cluster."""
HARMLESS: dict[str, tuple[str, ...]] = {
    # Helm says which key is missing.
    "values/prod.yaml": ("empty", "a number as a key"),
    "dags/config/trials.yaml": ("empty",),
}
"""Files that are right in the place of one."""


@pytest.mark.parametrize("name", READERS)
def test_a_hostile_file(
    name: str, command: ForkedCommand, repository: Checkout, folder: Path, files: dict[str, Path]
) -> None:
    """It is put in the place of one that the command reads."""
    state = folder / "temporary/state"
    state.mkdir(exist_ok=True)
    place = state / Path(name).name if name.startswith(".local/") else repository.root / name
    kept = place.read_bytes() if place.exists() else None
    found = []
    for what, path in files.items():
        if what in HARMLESS.get(name, ()) or len(path.name) > LONGEST_NAME:
            continue
        place.unlink(missing_ok=True)
        place.symlink_to(path)
        ended = command.run(*READERS[name])
        own = list(faults(ended))
        if place.name not in ended.err:
            own.append(f"the file is not named: {ended.err[:300]!r}")
        found += [f"{what}: {fault}" for fault in own]
    place.unlink()
    if kept is not None:
        place.write_bytes(kept)
    assert not found, "\n".join(found)


VARIABLES = {
    "KUBECONFIG": ("backup", "dev", "--list"),
    "AIRFLOW_CHART_ARCHIVE": ("deps",),
    "HELM_REPOSITORY_CACHE": ("deps",),
    "HELM_CACHE_HOME": ("deps",),
    "XDG_CACHE_HOME": ("deps",),
    "AIRFLOW_LAB": ("cluster-up", "--cluster=lab"),
    "AIRFLOW_OPS_CRD_SCHEMAS": ("validate", "dev"),
}
"""A command for each environment variable that names a file or a folder."""


@pytest.mark.parametrize("name", VARIABLES)
def test_a_hostile_path_in_an_environment_variable(
    name: str, command: ForkedCommand, files: dict[str, Path], paths: dict[str, Path]
) -> None:
    given = {**files, "not UTF-8": Path("dev\udc80")} if name == "KUBECONFIG" else paths
    found = []
    for what, path in given.items():
        ended = command.run(*VARIABLES[name], **{name: str(path)})
        found += [f"{what}: {fault}" for fault in faults(ended)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("word", ["a\nb", "a\udc80", "a b", "é"])
def test_a_hostile_token_is_not_shown(word: str, command: ForkedCommand) -> None:
    ended = command.run("alerts", "test", "dev", "--url=http://127.0.0.1:9", PROMETHEUS_TOKEN=f"geheim{word}")
    assert not list(faults(ended))
    assert "PROMETHEUS_TOKEN" in ended.err
    assert "geheim" not in ended.err
