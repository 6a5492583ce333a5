#!/usr/bin/env bash
# Run a command of airflow-ops in the cluster, with code, charts and values of one commit of this repository.
#   REVISION=COMMIT run_operation.sh VERB ENV [OPTION...]
set -euo pipefail
repository=git://airflow-git/dags.git checkout=/tmp/checkout
account=/var/run/secrets/kubernetes.io/serviceaccount
problem() { printf 'error %s\nfix   %s\n' "$1" "$2" >&2; exit 2; }
# Git takes something shorter for a tag of that name before it takes it for the beginning of a commit.
[[ ${REVISION:-} =~ ^[0-9a-f]{40}$ ]] || problem "REVISION is not a whole commit: '${REVISION:-}'." "Start this Job with: airflow-ops upgrade ENV --to VERSION --in-cluster."

# A commit that was pushed a moment ago comes with one of the next fetches of the mirror.
git init --quiet "$checkout"
for try in {1..24}; do
  if ! git -C "$checkout" fetch --quiet "$repository" '+refs/heads/*:refs/remotes/mirror/*' '+refs/tags/*:refs/tags/*'; then
    why="the Git mirror does not answer"
  elif git -C "$checkout" checkout --quiet --detach "$REVISION"; then
    break
  else
    why="the Git mirror has no commit $REVISION"
  fi
  [ "$try" -lt 24 ] || problem "$why." "Look at the pod airflow-git-mirror-0; push the commit to the repository that it follows."
  sleep 5
done
cmp --quiet "$checkout/image/operations/requirements.lock" /opt/operations/requirements.lock ||
  problem "the image's packages are not those of commit $REVISION." "Build image/operations/Dockerfile from that commit, and name it in platform.operations.image."

# Kubernetes replaces the token every hour, so kubectl and Helm get the name of its file and not its content.
export KUBECONFIG=/tmp/kubeconfig PYTHONPATH=$checkout/ci AIRFLOW_CHART_ARCHIVE=/opt/operations/airflow.tgz
export COLUMNS=120 PYTHONUNBUFFERED=1
cat >"$KUBECONFIG" <<EOF
apiVersion: v1
kind: Config
current-context: in-cluster
clusters:
  - name: in-cluster
    cluster:
      server: https://${KUBERNETES_SERVICE_HOST/*:*/[$KUBERNETES_SERVICE_HOST]}:$KUBERNETES_SERVICE_PORT
      certificate-authority: $account/ca.crt
users:
  - name: in-cluster
    user: {tokenFile: $account/token}
contexts:
  - name: in-cluster
    context: {cluster: in-cluster, user: in-cluster, namespace: $(cat "$account/namespace")}
EOF
chmod 600 "$KUBECONFIG"
cd "$checkout"
exec python -c 'from airflow_ops.cli import main; main()' "$@"
