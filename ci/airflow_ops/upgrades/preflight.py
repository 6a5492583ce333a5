"""What is checked before an upgrade changes anything."""

from airflow_ops.cluster.airflow_api import health, import_errors_of
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import ID_FORMAT, Record, Side, now
from airflow_ops.console import fail, out, styled
from airflow_ops.deployment.preflight import Schema
from airflow_ops.manifests import live_objects
from airflow_ops.manifests.objects import Colour, Manifest, parse, releases, template
from airflow_ops.recovery import backup as backups
from airflow_ops.upgrades import migration
from airflow_ops.upgrades.steps import platform_release

ROOM = 2
"""The copy, and as much for what its restore and its migration write into the log of transactions."""
DATABASE_POD, DATA = "airflow-database-0", "/var/lib/postgresql/data"


def active(cluster: Cluster) -> Colour:
    """The colour that works.

    Raises:
        ProblemError: The environment is not deployed.
    """
    found = live.live_colour(cluster)
    if found is None or not live.installed_version(cluster, found):
        name = cluster.environment.name
        raise fail(f"{name} is not deployed on {cluster.context}.", f"Deploy it first: airflow-ops deploy {name}.", 2)
    return found


def wanted(cluster: Cluster, colour: Colour) -> list[Manifest]:
    """The manifests of a colour by the values of this checkout."""
    _, release = releases(cluster.environment, colour)
    return parse(release, template(release))


def digest(cluster: Cluster, target: Colour, manifests: list[Manifest]) -> str:
    """Digest of all that an upgrade installs: what it begins with it also has to end with.

    Args:
        cluster: The environment.
        target: The colour that is to work.
        manifests: Its manifests, from `wanted`.
    """
    platform = platform_release(cluster, target)
    return live.digest([*manifests, *parse(platform, template(platform))])


def changes_nothing(cluster: Cluster, colour: Colour) -> bool:
    """Whether a colour is installed already as the values of this checkout say."""
    _, release = releases(cluster.environment, colour)
    return live.digest(live_objects.deployed(cluster, release)) == live.digest(wanted(cluster, colour))


def check_asked(cluster: Cluster, to: str, image: str) -> None:
    """Check that the values of this checkout are those of the version, and of the image, that were asked for.

    Args:
        cluster: The environment.
        to: The version.
        image: The image; empty for any.

    Raises:
        ProblemError: They are of another version or image.
    """
    environment = cluster.environment
    version = environment.values["global"]["airflowVersion"]
    if to != version:
        raise fail(
            f"--to is {to}, but global.airflowVersion of {environment.name} is {version}.",
            "Set global.airflowVersion and global.image.tag in values/ to that version, then run this again.",
            2,
        )
    if image and image != environment.image:
        raise fail(
            f"--image is {image}, but global.image of {environment.name} is {environment.image}.",
            "Set global.image in values/, from which the next deploy takes it too, then run this again.",
            2,
        )


def check_schema(cluster: Cluster, schema: Schema, installed: str | None) -> bool:
    """Check what a migration needs, if the image needs one.

    Args:
        cluster: The environment.
        schema: The schemas of the image and of the metadata database.
        installed: The version of Airflow that works.

    Returns:
        Whether the image needs a migration.

    Raises:
        ProblemError: The image is older than the schema, or there can be no backup or no copy to rehearse on.
    """
    if schema.is_migrated:
        return False
    version = cluster.environment.values["global"]["airflowVersion"]
    if schema.is_ahead:
        if version == installed and schema.was_tried_with(version):
            return False
        raise fail(
            f"the metadata database has a newer schema than Airflow {version}: {schema}.",
            "There is no way back to an older version after a promotion but a restore. Give a newer version.",
            2,
        )
    if not backups.inspect(cluster)["may_create"]:
        raise fail(
            f"Airflow {version} needs a migration, and the role of the metadata Secret may not create databases: "
            "there can be no copy to rehearse it on.",
            "Give that Secret the key connection-admin, with a role that may (charts/platform/README.md).",
            2,
        )
    check_room(cluster)
    return True


def check_room(cluster: Cluster) -> None:
    """Check that there is room for a copy of the metadata database, where its server is a pod of the environment.

    Raises:
        ProblemError: There is not; a full volume would stop the database that works.
    """
    (((size,),),) = migration.execute(cluster, ["SELECT pg_database_size(current_database())"])
    needed = ROOM * size
    said = f"a backup can be made, and a copy to rehearse the migration on, which needs {backups.megabytes(needed)}"
    if not cluster.environment.values["platform"]["database"]["enabled"]:
        out.print(styled("ok", "green"), f"{said} in the database's server")
        return
    df = ("df", "--block-size=1", "--output=avail", DATA)
    free = int(cluster.kubectl("exec", DATABASE_POD, "--container", "postgres", "--", *df).split()[-1])
    if free < needed:
        raise fail(
            f"a copy of the metadata database needs {backups.megabytes(needed)}, "
            f"and {DATABASE_POD} has {backups.megabytes(free)} free.",
            "Enlarge its volume, or delete databases that earlier restores have kept.",
            2,
        )
    out.print(styled("ok", "green"), said)


def check_source(cluster: Cluster, source: Colour) -> None:
    """Check what the colour that works must have for an upgrade.

    Raises:
        ProblemError: Its components would not wait for the other colour's on the way back, or its platform has no login
            for the other colour's DAG processor and triggerer: the platform is upgraded last.
    """
    if not live.has_gate(cluster, source):
        raise fail(
            f"airflow-{source} is of an older charts/airflow, and would work beside the other colour.",
            "Deploy it once with this checkout and its present version of Airflow, then begin the upgrade again.",
            2,
        )
    login = cluster.environment.secret("metadataDagCode")
    if cluster.stored_secret(login) is None:
        raise fail(
            f"{cluster.namespace} has no Secret {login}, the database login of DAG processor and triggerer.",
            "Its platform is of an older version. Deploy once with this checkout and the present version of Airflow, "
            "then begin the upgrade again.",
            2,
        )


def check_health(cluster: Cluster) -> None:
    """Check that the colour that works is healthy.

    Raises:
        ProblemError: A component is not; an upgrade would hide it, and could not be told from its cause.
    """
    with cluster.forward(live.USERS, 8080) as url:
        found = health(url, 30)
    ill = [
        name
        for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        if found.get(name, {}).get("status") != "healthy"
    ]
    if ill:
        raise fail(f"{', '.join(ill)} of {cluster.environment.name} is not healthy.", "Correct that first.")
    out.print(styled("ok", "green"), "metadata database, scheduler, triggerer and DAG processor are healthy")


def new_record(cluster: Cluster, source: Colour, manifests: list[Manifest], migrates: bool) -> Record:
    """The record of an upgrade that begins: both sides with their replicas.

    Args:
        cluster: The environment.
        source: The colour that works.
        manifests: Those of the other colour, from `wanted`.
        migrates: Whether the other colour needs another schema.

    Raises:
        ProblemError: The platform cannot be rendered.
    """
    environment, target = cluster.environment, live.other(source)
    running = live.deployments(cluster, source)
    replicas = {component: int(found.spec.replicas) for component, found in running.items()}
    planned = live.rendered_replicas(manifests)
    # An autoscaler may have started more API servers than the values say, because they are needed.
    has_autoscaler = any(manifest.kind == "HorizontalPodAutoscaler" for manifest in manifests)
    planned[live.API_SERVER] = max(planned[live.API_SERVER], replicas[live.API_SERVER])
    image = running[live.API_SERVER].spec.template.spec.containers[0].image
    version = live.installed_version(cluster, source) or ""
    return Record(
        id=f"{now():{ID_FORMAT}}",
        source=Side(
            colour=source, version=version, image=image, replicas=replicas, least=live.autoscaled(cluster, source)
        ),
        target=Side(
            colour=target,
            version=environment.values["global"]["airflowVersion"],
            image=environment.image,
            replicas=planned,
            least=planned[live.API_SERVER] if has_autoscaler else None,
        ),
        digest=digest(cluster, target, manifests),
        colour_digest=live.digest(manifests),
        import_errors=import_errors_of(cluster),
        migrates=migrates,
    )
