"""`airflow-ops alerts routing`: convert an AlertmanagerConfig for an Alertmanager without the operator."""

import json
import re
from typing import Any

import typer
import yaml

from airflow_ops.console import fail
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Object, parse, releases, template
from airflow_ops.options import EnvironmentName, TrialOverlays

SECRETS = "/etc/alertmanager/secrets"
"""Folder of the Secrets, each a folder with one file per key; the operator mounts them at the same path."""
FROM_FILE = {"routingKey": "routing_key_file", "apiURL": "api_url_file"}
"""Keys that refer to a Secret, to Alertmanager's keys for the same value in a file."""


def native(config: Object) -> Object:
    """Convert an AlertmanagerConfig to a complete configuration of Alertmanager, as the operator does.

    Every route and inhibition applies only to the namespace of the resource; other alerts notify nobody.

    Args:
        config: The resource, with a namespace in its metadata.
    """
    spec, namespace = config["spec"], config["metadata"]["namespace"]
    own = f'namespace="{namespace}"'
    receivers = [_receiver(item, namespace) for item in spec["receivers"]]
    return {
        "route": {"receiver": "nobody", "routes": [_route(spec["route"], namespace, [own])]},
        "receivers": [{"name": "nobody"}, *receivers],
        "inhibit_rules": [
            {
                "source_matchers": [own, *_matchers(rule["sourceMatch"])],
                "target_matchers": [own, *_matchers(rule["targetMatch"])],
                "equal": ["namespace", *rule.get("equal", [])],
            }
            for rule in spec["inhibitRules"]
        ],
    }


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z]+)", lambda match: "_" + match[1].lower(), name)


def _matchers(items: list[Object]) -> list[str]:
    return [f"{item['name']}{item['matchType']}{json.dumps(item['value'])}" for item in items]


def _route(route: Object, namespace: str, own: list[str]) -> Object:
    plain = {_snake(key): value for key, value in route.items() if key not in ("receiver", "matchers", "routes")}
    found: dict[str, Any] = {"receiver": f"{namespace}/{route['receiver']}", **plain}
    if matchers := own + _matchers(route.get("matchers", [])):
        found["matchers"] = matchers
    if route.get("routes"):
        found["routes"] = [_route(child, namespace, []) for child in route["routes"]]
    return found


def _receiver(receiver: Object, namespace: str) -> Object:
    kinds = {_snake(kind): [_settings(item) for item in items] for kind, items in receiver.items() if kind != "name"}
    return {"name": f"{namespace}/{receiver['name']}", **kinds}


def _settings(settings: Object) -> Object:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key in FROM_FILE:
            found[FROM_FILE[key]] = f"{SECRETS}/{value['name']}/{value['key']}"
        elif key == "details":
            found[key] = {item["key"]: item["value"] for item in value}
        else:
            found[_snake(key)] = value
    return found


def routing(
    name: EnvironmentName,
    overlay: TrialOverlays = None,
) -> None:
    """Print the routing of an environment's alerts as a configuration for an Alertmanager without the operator.

    That Alertmanager reads the Secret from files under /etc/alertmanager/secrets.

    Example: airflow-ops alerts routing prod --overlay alert-routing > alertmanager.yml
    """
    release, _ = releases(Environment.load(name, overlay))
    found = [each for each in parse(release, template(release)) if each.kind == "AlertmanagerConfig"]
    if not found:
        raise fail(
            f"{name} has no routing: platform.monitoring.routing.enabled is false, or monitoring is off.",
            "Turn both on in values/, or add `--overlay alert-routing` (and `--overlay monitoring` in development).",
        )
    metadata = found[0].object["metadata"] | {"namespace": found[0].namespace}
    typer.echo(yaml.safe_dump(native(found[0].object | {"metadata": metadata}), sort_keys=False, width=120), nl=False)
