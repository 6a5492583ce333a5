"""The policies for manifests: one function per rule; a breach names release, kind, object and container."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from airflow_ops.manifests.objects import Manifest, Object, Pod, pods

PROBELESS = re.compile(r".*-log-groomer")
"""A log groomer is a shell loop that sleeps: the official chart has no probe for it, and a crash ends the container."""

CREDENTIALS_IN_URL = re.compile(
    # A scheme of bounded length: without the bound a text of a million letters takes hours.
    r"[a-z][a-z0-9+.-]{0,40}://[^/\s:@\"']*:(?!\$)[^/\s:@\"']+@"
    # A token alone, as Git servers take it. With ssh a name stands there.
    r"|\bhttps?://(?!\$)[^/\s:@\"']+@"
)
SECRET_WORDS = {"PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "SECRET", "CREDENTIALS"}
SECRET_ENDINGS = ("API_KEY", "ACCESS_KEY", "PRIVATE_KEY", "FERNET_KEY", "SECRET_KEY", "SQL_ALCHEMY_CONN")
KEYS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{36}|\bxox[abprs]-[\w-]{10,}"
    r"|\bglpat-[\w-]{20,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]+\."
    r"|(?<![\w/+=-])[\w-]{43}=(?![\w/+=-])"
)
"""Private keys, AWS keys, tokens of GitHub, Slack and GitLab, JWTs, Fernet keys (32 bytes in URL-safe base64)."""
HARMLESS_ENDINGS = {"FILE", "PATH", "NAME", "DIR", "URL", "BACKEND"}


@dataclass(frozen=True)
class Breach:
    """One breach of a rule.

    Attributes:
        where: release/kind/name, with the ConfigMap's key and the container where there is one.
        message: What is wrong and how to correct it.
    """

    where: str
    message: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Container:
    """One container with the parts of its pod that apply to it.

    Attributes:
        pod: The pod it belongs to.
        spec: The container as rendered.
        runs_on: Whether it is meant to run until it is stopped.
    """

    pod: Pod
    spec: Object
    runs_on: bool

    @property
    def where(self) -> str:
        """The container's name in an error."""
        return f"{self.pod.identity}/{self.spec.get('name', '?')}"

    def security(self, key: str) -> object:
        """The security setting that takes effect: the container's own, else the pod's."""
        own = self.spec.get("securityContext") or {}
        return own[key] if key in own else (self.pod.spec.get("securityContext") or {}).get(key)


def containers(pod: Pod) -> Iterator[Container]:
    """Every container of a pod, init containers first."""
    for spec, runs_on in pod.containers():
        yield Container(pod, spec, runs_on)


def resources_are_set(container: Container) -> Iterator[str]:
    """Without requests a pod is the first to be evicted; without limits a quota on limits refuses it."""
    resources = container.spec.get("resources") or {}
    for part in ("requests", "limits"):
        missing = [name for name in ("cpu", "memory") if name not in (resources.get(part) or {})]
        if missing:
            yield f"resources.{part} lacks {' and '.join(missing)}"


def is_restricted(container: Container) -> Iterator[str]:
    """The container's part of Pod Security `restricted` (Kubernetes documentation, Pod Security Standards)."""
    own = container.spec.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    seccomp = container.security("seccompProfile")
    if container.security("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true, neither here nor in the pod"
    if container.security("runAsUser") == 0:
        yield "runAsUser is 0"
    if not isinstance(seccomp, dict) or seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile.type is not RuntimeDefault, neither here nor in the pod"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield "securityContext.privileged is true"
    if capabilities.get("drop") != ["ALL"]:
        yield "securityContext.capabilities.drop is not [ALL]"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"securityContext.capabilities.add has {', '.join(capabilities['add'])}"


def image_is_pinned(container: Container) -> Iterator[str]:
    """With a tag that moves, two pods of one release can run different images."""
    image = str(container.spec.get("image", ""))
    if "@sha256:" in image:
        return
    _, colon, tag = image.rpartition("/")[2].partition(":")
    if not colon or not tag:
        yield f"image {image!r} has no tag"
    elif tag == "latest":
        yield f"image {image!r} has the tag latest, which moves"


def is_probed(container: Container) -> Iterator[str]:
    """Only a probe notices a process that hangs."""
    if not container.runs_on or PROBELESS.fullmatch(str(container.spec.get("name", ""))):
        return
    if not container.spec.keys() & {"livenessProbe", "readinessProbe"}:
        yield "runs until it is stopped, and has neither livenessProbe nor readinessProbe"


def environment_has_no_secrets(container: Container) -> Iterator[str]:
    """Everybody who may read a pod can read the literals in its environment."""
    for variable in container.spec.get("env") or []:
        name, value = str(variable.get("name", "")), str(variable.get("value") or "")
        if value and (_names_a_secret(name) or CREDENTIALS_IN_URL.search(value)):
            yield f"env {name} looks like a literal secret: take it from a Secret with valueFrom.secretKeyRef"


def _names_a_secret(name: str) -> bool:
    words = name.upper().strip("_").split("_")
    if words[-1] in HARMLESS_ENDINGS:
        return False
    return bool(SECRET_WORDS & set(words)) or name.upper().endswith(SECRET_ENDINGS)


def arguments_have_no_secrets(container: Container) -> Iterator[str]:
    """Everybody who may read a pod can read its command and arguments, which `ps` shows too."""
    for part in ("command", "args"):
        if any(CREDENTIALS_IN_URL.search(str(word)) for word in container.spec.get(part) or []):
            yield f"{part} holds a URL with a password: take it from an environment variable of a Secret"


def uses_no_host_resources(pod: Pod) -> Iterator[str]:
    """The pod's part of Pod Security `restricted`."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(key):
            yield f"{key} is true"
    for volume in pod.spec.get("volumes") or []:
        if "hostPath" in volume:
            yield f"volume {volume.get('name')} is a hostPath ({volume['hostPath'].get('path')})"


def token_mount_is_set(pod: Pod, accounts: dict[str, Object]) -> Iterator[str]:
    """Kubernetes mounts an account's token by default; a worker pod runs user code and must not have it.

    Args:
        pod: The pod.
        accounts: The ServiceAccounts of the environment by name.
    """
    account = str(pod.spec.get("serviceAccountName", "default"))
    own = pod.spec.get("automountServiceAccountToken")
    if pod.where:
        if own is not False:
            yield "automountServiceAccountToken is not false: a worker pod runs user code"
    elif own is None and "automountServiceAccountToken" not in accounts.get(account, {}):
        yield f"automountServiceAccountToken is set neither in the pod nor in the ServiceAccount {account}"


def holds_no_secret(manifest: Manifest) -> Iterator[str]:
    """Secrets are made outside of Helm and named in values, because Helm stores and prints everything it renders."""
    if manifest.kind == "Secret" and any(manifest.object.get(key) for key in ("data", "stringData")):
        yield "is a Secret with data: make it outside of Helm and name it in values"
    if manifest.kind == "ConfigMap":
        for key, text in (manifest.object.get("data") or {}).items():
            if CREDENTIALS_IN_URL.search(str(text)):
                yield f"its key {key} holds a URL with a password: put it into a Secret"
    for path, text in _texts(manifest.object):
        if KEYS.search(text):
            yield f"{path} holds a key or token: put it into a Secret"


LARGEST_OBJECT = 1024 * 1024
"""Bytes that Kubernetes allows the values of a ConfigMap or Secret to have together."""


def fits_into_the_api(manifest: Manifest) -> Iterator[str]:
    """Kubernetes refuses a larger one, but only when it is installed."""
    if manifest.kind not in ("ConfigMap", "Secret"):
        return
    sizes = {
        f"{part}.{key}": len(str(text).encode(errors="replace"))
        for part in ("data", "binaryData", "stringData")
        for key, text in (manifest.object.get(part) or {}).items()
    }
    if sum(sizes.values()) > LARGEST_OBJECT:
        largest = max(sizes, key=lambda key: sizes[key])
        yield (
            f"has {sum(sizes.values()):,} bytes of {LARGEST_OBJECT:,}, most of them in {largest}: "
            "shorten what the values put there"
        )


def _texts(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string in an object, with its path."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}".removeprefix("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, f"{path}[{index}]")


CONTAINER_RULES: tuple[Callable[[Container], Iterable[str]], ...] = (
    resources_are_set,
    is_restricted,
    image_is_pinned,
    is_probed,
    environment_has_no_secrets,
    arguments_have_no_secrets,
)


def check(manifests: list[Manifest]) -> list[Breach]:
    """All breaches of all rules in the manifests of one environment.

    Args:
        manifests: The objects of both releases, since pods of one may use ServiceAccounts of the other.

    Raises:
        ProblemError: A ConfigMap has a key that names a YAML file and whose content is not YAML.
    """
    accounts = {m.name: m.object for m in manifests if m.kind == "ServiceAccount"}
    breaches: list[Breach] = []
    for manifest in manifests:
        messages = [*holds_no_secret(manifest), *fits_into_the_api(manifest)]
        breaches += [Breach(manifest.identity, message) for message in messages]
        for pod in pods(manifest):
            messages = [*uses_no_host_resources(pod), *token_mount_is_set(pod, accounts)]
            breaches += [Breach(pod.identity, message) for message in messages]
            breaches += [
                Breach(container.where, message)
                for container in containers(pod)
                for rule in CONTAINER_RULES
                for message in rule(container)
            ]
    return breaches


def mounted_files(pod: Pod, config_maps: dict[str, Object]) -> set[str]:
    """The paths at which keys of ConfigMaps are mounted in a pod's containers.

    Args:
        pod: The pod.
        config_maps: The ConfigMaps of the environment by name.
    """
    keys: dict[str, dict[str, str]] = {}
    for volume in pod.spec.get("volumes") or []:
        source = volume.get("configMap") or {}
        data = (config_maps.get(source.get("name", "")) or {}).get("data") or {}
        chosen = {item["key"]: item["path"] for item in source.get("items") or []}
        keys[volume["name"]] = {key: chosen.get(key, key) for key in data if not chosen or key in chosen}
    files: set[str] = set()
    for container in pod.spec.get("containers") or []:
        for mount in container.get("volumeMounts") or []:
            paths = keys.get(mount["name"], {}).values()
            if "subPath" in mount:
                files |= {mount["mountPath"]} if mount["subPath"] in paths else set()
            else:
                files |= {f"{mount['mountPath'].rstrip('/')}/{path}" for path in paths}
    return files


def missing_pod_templates(manifests: list[Manifest], named: dict[str, str]) -> list[Breach]:
    """Pod templates that are named but not mounted in the scheduler: Airflow would log a warning and start a bare pod.

    Args:
        manifests: The objects of an environment.
        named: Path of a template to what names it.
    """
    config_maps = {m.name: m.object for m in manifests if m.kind == "ConfigMap"}
    schedulers = [
        pod
        for manifest in manifests
        for pod in pods(manifest)
        if not pod.where and (pod.metadata.get("labels") or {}).get("component") == "scheduler" and pod.runs_on
    ]
    breaches = []
    for pod in schedulers:
        seen = mounted_files(pod, config_maps)
        named_here = dict(named)
        for name, config in config_maps.items():
            text = str((config.get("data") or {}).get("airflow.cfg", ""))
            for path in re.findall(r"^pod_template_file *= *(\S+)", text, re.MULTILINE):
                named_here.setdefault(path, f"airflow.cfg in {name}")
        breaches += [
            Breach(pod.identity, f"the pod template {path} is not mounted, but {who} names it")
            for path, who in sorted(named_here.items())
            if path not in seen
        ]
    return breaches
