"""Rotation of the Git mirror's credential: the new one is tried before the old one is removed."""

import time
from collections.abc import Iterator
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from airflow_ops.console import ProblemError, fail, out
from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step

PURPOSE = "gitOrigin"
KEYS = ("ssh-privatekey", "known_hosts", "username", "password")
NEXT = "next-"
"""Prefix of the keys of a credential that is being tried; the mirror itself does not read them."""
ARRIVAL_SECONDS = 300
"""From a changed Secret to the fetch after it: the kubelet updates the files in a pod every minute or two."""
TRY = """\
c=/etc/git-origin
export GIT_TERMINAL_PROMPT=0
pick() { if [ -e "$c/next-$1" ]; then echo "$c/next-$1"; else echo "$c/$1"; fi; }
export GIT_SSH_COMMAND="ssh -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
GIT_SSH_COMMAND+=" -i $(pick ssh-privatekey) -o UserKnownHostsFile=$(pick known_hosts)"
h="!f() { if [ \\"\\$1\\" = get ]; then"
h+=" echo username=\\$(cat $(pick username)); echo password=\\$(cat $(pick password)); fi; }; f"
[ -e "$c/next-$1" ] && timeout 60 git -c credential.helper="$h" ls-remote --heads "$0" >/dev/null
"""
"""List the branches of the origin $0 with the new credential, once the file of key $1 has arrived in the pod."""
FETCHED = '! compgen -G "/etc/git-origin/next-*" >/dev/null && find /git/dags.git/fetched -newermt "@$0" | grep -q .'
"""Whether the new files are in place and a fetch has succeeded since the time $0, in seconds of the epoch."""


def read_folder(folder: Path) -> Content:
    """Read the new credential from files named like the keys of the Secret.

    Raises:
        ProblemError: There is no such file, or one of another name.
    """
    found = {path.name: path.read_text() for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    unknown = found.keys() - set(KEYS)
    if unknown or not found:
        what = f"holds {', '.join(sorted(unknown))}" if unknown else "is not a folder with a credential"
        raise fail(f"--from {folder} {what}.", f"Put the files that change there, named {', '.join(KEYS)}.", 2)
    return found


def add(present: Content, new: Content) -> Content:
    """Add the new credential beside the one in use."""
    return present | {f"{NEXT}{key}": text for key, text in new.items()}


def swap(present: Content) -> Content:
    """Replace the credential in use by the new one; keys that the new one does not have stay."""
    new = {key.removeprefix(NEXT): text for key, text in present.items() if key.startswith(NEXT)}
    return {key: text for key, text in present.items() if not key.startswith(NEXT)} | new


def _mirror_pods(context: RotationContext) -> Iterator[str]:
    selector = "app.kubernetes.io/component=git-mirror"
    pods = context.cluster.core.list_namespaced_pod(context.cluster.namespace, label_selector=selector).items
    yield from (pod.metadata.name for pod in pods)


def _until(context: RotationContext, what: str, script: str, *arguments: str) -> None:
    """Run a script in each mirror pod until it succeeds."""
    for pod in _mirror_pods(context):
        command = ("exec", pod, "--container", "fetch", "--", "bash", "-c", script, *arguments)
        attempt = retry(
            retry=retry_if_exception_type(ProblemError),
            stop=stop_after_delay(ARRIVAL_SECONDS),
            wait=wait_fixed(5),
            reraise=True,
        )(context.cluster.kubectl)
        try:
            attempt(*command)
        except ProblemError as error:
            raise fail(
                f"{what} in pod {pod}: {error.message}",
                "The mirror serves its present commits meanwhile. Correct the cause, and run the same command again.",
            ) from error


def steps(context: RotationContext, folder: Path | None) -> list[Step]:
    """The steps. The mirror keeps serving its commits all the time.

    Args:
        context: The environment.
        folder: Folder of the new credential; not needed to continue a rotation that has read it.
    """
    platform = context.values["platform"]
    if not platform["gitMirror"]["enabled"] or platform["gitOrigin"]["enabled"]:
        raise fail(
            "the mirror of this environment needs no credential: it has no origin outside the cluster.",
            "Set platform.gitMirror.origin; without a mirror change Secret `git` and global.secretsRevision.",
        )

    def read() -> None:
        if folder is None:
            raise fail("rotate git needs --from FOLDER with the new credential.", f"Its files: {', '.join(KEYS)}.", 2)
        new = read_folder(folder)
        context.change(PURPOSE, lambda present: add(present, new))

    def new_key() -> str:
        return next(key.removeprefix(NEXT) for key in context.secret(PURPOSE) if key.startswith(NEXT))

    def try_new() -> None:
        _until(context, "the origin refuses the new credential", TRY, platform["gitMirror"]["origin"], new_key())

    def fetched() -> None:
        _until(context, "no fetch succeeds with the new credential", FETCHED, str(int(time.time())))
        out.print("  the old credential may be revoked where it was made")

    return [
        Step("add", "add the new credential beside the old one", read),
        Step("try", "list the origin's branches with it", try_new),
        Step("swap", "replace the old credential by it", lambda: context.change(PURPOSE, swap)),
        Step("fetched", "wait until every mirror has fetched with it", fetched),
    ]
