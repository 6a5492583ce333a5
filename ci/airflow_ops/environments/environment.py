"""An environment: its overlays and contexts from k8s/environments.yaml, and its values."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from airflow_ops.console import fail
from airflow_ops.environments.configuration import read_checked
from airflow_ops.environments.values import Values, layers, merge, read_values
from airflow_ops.paths import ROOT

FILE = Path("k8s/environments.yaml")
"""Path in a checkout of the only file with the overlays of each environment and the contexts it may be deployed to."""


class ArgoCD(BaseModel):
    """How Argo CD brings an environment; k8s/argocd/applicationset.yaml reads it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cluster: Annotated[str, Field(pattern=r"\S")]
    revision: Annotated[str, Field(pattern=r"\S")]
    activeColour: Literal["blue", "green"] | None = None  # noqa: N815 as the values call it
    frozen: bool = False


class Entry(BaseModel):
    """One environment in k8s/environments.yaml."""

    model_config = ConfigDict(extra="forbid", strict=True)

    contexts: list[Annotated[str, Field(pattern=r"\S")]]
    overlays: list[str]
    argocd: ArgoCD | None = None


ENTRIES = TypeAdapter(dict[str, Entry])


@dataclass(frozen=True)
class Environment:
    """One environment of a checkout.

    Attributes:
        name: dev, staging, prod: a key of k8s/environments.yaml and a file in values/.
        contexts: The kubectl contexts that it may be deployed to.
        overlays: Files in values/overlays/, without suffix: its own, then those that were added for a trial.
        root: The checkout that holds its values and the charts.
        active_colour: The colour that users reach; by default that of its values files.
    """

    name: str
    contexts: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    root: Path = field(default=ROOT, repr=False)
    active_colour: str | None = None

    @classmethod
    def load(
        cls,
        name: str,
        trial: Iterable[str] | None = (),
        root: Path = ROOT,
        active_colour: str | None = None,
        own: Iterable[str] | None = None,
    ) -> Self:
        """Load an environment from a checkout.

        Args:
            name: A key of k8s/environments.yaml.
            trial: Further overlays, applied after those of the environment.
            root: The checkout.
            active_colour: The colour that users reach; by default what the two files say.
            own: The environment's overlays; by default those of k8s/environments.yaml in this checkout.

        Raises:
            ProblemError: The environment or an overlay does not exist, or k8s/environments.yaml cannot be read.
        """
        entries = read_entries(root)
        if name not in entries:
            raise fail(
                f"environment {name!r} does not exist: it is not in {FILE}.",
                f"Use one of {', '.join(entries)}, or add it there and write its values file."
                if entries
                else f"Write into {FILE} what environments there are: it is empty.",
                exit_code=2,
            )
        entry = entries[name]
        overlays = tuple(dict.fromkeys([*(entry.overlays if own is None else own), *(trial or ())]))
        active_colour = active_colour or (entry.argocd.activeColour if entry.argocd else None)
        environment = cls(name, tuple(entry.contexts), overlays, root, active_colour)
        _check_files(environment)
        # Read now, so that a broken file ends every verb, also one that only passes the files on to Helm.
        _ = environment.values
        return environment

    @property
    def namespace(self) -> str:
        """The namespace of all its objects."""
        return f"airflow-{self.name}"

    @property
    def value_files(self) -> list[Path]:
        """Its values files in the order in which Helm merges them: base, the environment, each overlay."""
        folder = self.root / "values"
        overlays = [folder / "overlays" / f"{overlay}.yaml" for overlay in self.overlays]
        return [folder / "base.yaml", folder / f"{self.name}.yaml", *overlays]

    @cached_property
    def values(self) -> Values:
        """Its values as the charts see them: all layers merged over the defaults of charts/platform.

        Raises:
            ProblemError: A file is not YAML, or not a map.
        """
        values = merge(read_values(self.root / "charts/platform/values.yaml"), layers(self.value_files))
        return merge(values, {"global": {"activeColour": self.active_colour}}) if self.active_colour else values

    @property
    def image(self) -> str:
        """Repository and tag of its image."""
        image = self.values["global"]["image"]
        return f"{image['repository']}:{image['tag']}"

    @property
    def is_brought_by_argocd(self) -> bool:
        """Whether Argo CD brings it to its cluster.

        Raises:
            ProblemError: See `read_entries`.
        """
        return read_entries(self.root)[self.name].argocd is not None

    @property
    def active_colour_key(self) -> str:
        """The key that says which colour users reach, and its file, for messages.

        Raises:
            ProblemError: See `read_entries`.
        """
        if self.active_colour or self.is_brought_by_argocd:
            return f"{self.name}.argocd.activeColour in {FILE}"
        return f"global.activeColour in values/{self.name}.yaml"

    def secret(self, purpose: str) -> str:
        """Name of the Secret for a purpose, a key of `global.secrets`."""
        return str(self.values["global"]["secrets"][purpose])


def environment_names(root: Path = ROOT) -> list[str]:
    """Names of all environments, in the order of k8s/environments.yaml.

    Raises:
        ProblemError: See `read_entries`.
    """
    return list(read_entries(root))


def read_entries(root: Path) -> dict[str, Entry]:
    """Read k8s/environments.yaml of a checkout.

    Raises:
        ProblemError: It is missing or not YAML, or a key is unknown, missing or of a wrong type; the key is named.
    """
    path = root / FILE
    if not path.exists():
        raise fail(f"{FILE} does not exist in {root}.", "Name a checkout or a ref that has it.", exit_code=2)
    return read_checked(path, FILE, ENTRIES, "Each environment has two lists: contexts and overlays.")


def _check_files(environment: Environment) -> None:
    own = environment.value_files[1]
    if not own.exists():
        raise fail(
            f"environment {environment.name!r} is in {FILE}, but there is no values/{own.name}.",
            "Write that file, or name a ref that has it.",
            exit_code=2,
        )
    known = sorted(path.stem for path in (own.parent / "overlays").glob("*.yaml"))
    for overlay in environment.overlays:
        if overlay not in known:
            raise fail(
                f"overlay {overlay!r} does not exist.", f"Known overlays: {', '.join(known) or 'none'}.", exit_code=2
            )
