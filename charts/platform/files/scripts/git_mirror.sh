#!/usr/bin/env bash
# Keep a copy of a Git repository that never loses a commit: a run uses the commit with which it started, and that must still be there
# after a force-push or when a branch is deleted. While the origin does not answer the copy stays as it is.
#   git_mirror.sh REPOSITORY ORIGIN SECONDS REPLICAS
# What the environment's DAGs follow is in the file `tracking-ref` beside this script, and is read in each round.
# With the variable METRICS_PORT it serves its metrics there (git_mirror_exporter.py).
set -euo pipefail
repository=$1 origin=$2 interval=$3 replicas=$4
tracking=${0%/*}/tracking-ref credentials=/etc/git-origin

export LC_ALL=C GIT_TERMINAL_PROMPT=0
export GIT_SSH_COMMAND="ssh -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
GIT_SSH_COMMAND+=" -i $credentials/ssh-privatekey -o UserKnownHostsFile=$credentials/known_hosts"

mirror() { git -C "$repository" "$@"; }

# Git calls it with the action as its argument. The password is neither in an argument nor in a variable of this process.
# shellcheck disable=SC2016  # git expands it, not this shell
helper='!f() { if [ "$1" = get ] && [ -e C/password ]; then echo "username=$(cat C/username)"; echo "password=$(cat C/password)"; fi; }; f'
remote() { timeout 120 git -C "$repository" -c credential.helper="${helper//C\//$credentials/}" "$@"; }

# Branches and tags that are served, with their commits. Whoever pushes to the origin chooses the names, and bash would run what is in
# them: neither `unset` nor `-v` on an element.
declare -A published=()
read_published() {
  local listing ref commit
  listing=$(mirror for-each-ref --format='%(refname) %(objectname)' refs/heads refs/tags) || return 1
  published=()
  while read -r ref commit; do
    if [ -n "$ref" ]; then published[$ref]=$commit; fi
  done <<<"$listing"
}

# Refs of the origin that are not served, each with the reason. A new one is written to the log, and the file `refused` lists all of
# them, so that an operator can look them up later.
refused=()
refuse() { refused+=("$1 is not taken: $2"); } # ref why
tell_refused() {
  : >"$repository/refused.new"
  if [ "${#refused[@]}" -gt 0 ]; then printf '%s\n' "${refused[@]}" >"$repository/refused.new"; fi
  grep -Fxv -f "$repository/refused" "$repository/refused.new" >&2 || true
  mv "$repository/refused.new" "$repository/refused"
}

# Whether a name may not be served, because Git or Airflow would take it for another one; `why` says so.
unfit() { # ref
  local name=${1#refs/*/}
  why=""
  case $1 in
    refs/tags/kept | refs/tags/kept/*) why="tags of that name are the mirror's own" ;;
    refs/tags/incoming | refs/tags/incoming/*) why="former versions of the mirror keep their notes there" ;;
    refs/tags/origin/*) why="a clone takes it for a branch of its origin" ;;
    refs/heads/HEAD | refs/tags/HEAD) why="the name is Git's own" ;;
  esac
  # Airflow looks for a branch first, whatever global.dagBundle.trackingRef is meant to be.
  if [[ $1 = refs/heads/* && $name =~ ^(v[0-9]+\.[0-9]+\.[0-9]+|[0-9a-fA-F]{40})$ ]]; then
    why="a branch may not have the name of a version or of a commit"
  fi
  [ -n "$why" ]
}

# A clone gets branches and tags only, so a commit that a branch or tag no longer reaches is kept as a tag.
keep() { # commit
  if [ "${published[refs/tags/kept/$1]:-}" = "$1" ]; then return; fi
  mirror update-ref --no-deref "refs/tags/kept/$1" "$1" || return 1
  published[refs/tags/kept/$1]=$1
}

withdraw() { # ref why
  local commit=${published[$1]}
  # It may have the place of the tag that is to keep its commit. What nothing reaches is not deleted meanwhile.
  if [[ $1 = refs/tags/kept || $1 = refs/tags/kept/* ]]; then mirror update-ref --no-deref -d "$1" || return 1; fi
  keep "$commit" || return 1
  mirror update-ref --no-deref -d "$1" || return 1
  published[$1]=""
  echo "$1 is served no longer: $2; its commit stays as tag kept/$commit"
}

# A volume may have names from before they were refused. What only `incoming` reaches has perhaps been served by another replica.
withdraw_unfit() {
  local ref commit why failed=""
  local -A elsewhere=()
  read_published || return 1
  for ref in "${!published[@]}"; do
    if ! unfit "$ref"; then elsewhere[${published[$ref]}]=yes; fi
  done
  for ref in "${!published[@]}"; do
    commit=${published[$ref]}
    if [ "$ref" = "refs/tags/kept/$commit" ] || ! unfit "$ref"; then continue; fi
    if [[ $ref = refs/tags/incoming/* && -n ${elsewhere[$commit]:-} ]]; then
      mirror update-ref --no-deref -d "$ref" || failed=yes
    else
      withdraw "$ref" "$why" || failed=yes
    fi
  done
  [ -z "$failed" ]
}

# Names that are served and cannot be beside a new one: Git keeps `x` in a file and `x/y` in a folder.
in_the_way() { # ref
  local parent=${1%/*}
  while [[ $parent = refs/*/* ]]; do
    if [ -n "${published[$parent]:-}" ]; then echo "$parent"; fi
    parent=${parent%/*}
  done
  mirror for-each-ref --format='%(refname)' "$1/"
}

# A name that was served stays, although the origin has deleted it: who has cloned both could never fetch again. What the DAGs follow
# comes first.
begin() { # ref commit
  local name=${1#refs/*/} others other
  if [ "$1" = "refs/heads/$tracked" ] && [ -n "${published[refs/tags/$tracked]:-}" ]; then
    refuse "$1" "the DAGs follow the tag of that name, and Airflow would prefer the branch"
    return 2
  fi
  others=$(in_the_way "$1") || return 1
  if [ -z "$others" ]; then return; fi
  if [ "$name" != "$tracked" ]; then
    keep "$2" || return 1
    refuse "$1" "${others//$'\n'/, } is in its way; its commit is the tag kept/$2"
    return 2
  fi
  while read -r other; do withdraw "$other" "$1 is what the DAGs follow" || return 1; done <<<"$others"
}

# Returns 1 if it could not be done, 2 if it may not be done.
move() { # ref old new
  if [[ $1 = refs/tags/v* ]]; then
    refuse "$1" "somebody has moved it to $3; a version stays what it was, $2"
    return 2
  fi
  if ! mirror merge-base --is-ancestor "$2" "$3" 2>/dev/null; then
    keep "$2" || return 1
    echo "$1 was rewritten: $2 stays as tag kept/$2"
  fi
}

publish() { # ref commit
  local old=${published[$1]:-} why result=0
  if [ "$old" = "$2" ]; then return; fi
  if unfit "$1"; then
    refuse "$1" "$why"
    return
  fi
  if [ -n "$old" ]; then move "$1" "$old" "$2" || result=$?; else begin "$1" "$2" || result=$?; fi
  if [ "$result" -eq 2 ]; then return; fi
  if [ "$result" -ne 0 ] || ! mirror update-ref --no-deref "$1" "$2"; then return 1; fi
  published[$1]=$2
  echo "$1 is now $2"
}

# No ref keeps another one from its commit.
publish_all() {
  local listing ref commit
  refused=()
  if ! read_published || ! listing=$(mirror for-each-ref --format='%(refname) %(objectname)' refs/incoming); then
    stuck=yes
    return
  fi
  while read -r ref commit; do
    if [ -z "$ref" ] || publish "refs/${ref#refs/incoming/}" "$commit"; then continue; fi
    echo "refs/${ref#refs/incoming/} could not be set to $commit" >&2
    if [ "${ref#refs/incoming/*/}" = "$tracked" ]; then stuck=yes; fi
  done <<<"$listing"
  tell_refused || stuck=yes
}

# Neither in refs/heads nor in refs/tags, where a name of the origin's could be the same. Without --prune a branch `x` that is deleted
# there would be in the way of `x/y`.
fetch() {
  remote fetch --quiet --no-tags --no-write-fetch-head --prune "$origin" \
    '+refs/heads/*:refs/incoming/heads/*' '+refs/tags/*:refs/incoming/tags/*'
}

# Whether the ref that the DAGs follow was fetched although `git fetch` failed: one bad ref at the origin makes the whole command fail,
# and then the log and the time of the last fetch must not say that the origin is away.
tracked_has_come() {
  local answer ref commit found=""
  if [ -z "$tracked" ]; then return 1; fi
  answer=$(remote ls-remote "$origin" "refs/heads/$tracked" "refs/tags/$tracked") || return 1
  while read -r commit ref; do
    # The answer has longer names that end like these, too.
    if [[ $ref != "refs/heads/$tracked" && $ref != "refs/tags/$tracked" ]]; then continue; fi
    if [ "$(mirror rev-parse --quiet --verify "refs/incoming/${ref#refs/}")" != "$commit" ]; then return 1; fi
    found=yes
  done <<<"$answer"
  if [ -n "$found" ]; then return; fi
  # DAGs may follow a commit.
  [[ $tracked =~ ^[0-9a-f]{40}$ ]] && mirror cat-file -e "$tracked^{commit}"
}

# It has no container of its own: while a container of a pod is down the pod is not ready, and no task could start for want of a metric.
exporter=""
keep_exporting() {
  if [ -z "${METRICS_PORT:-}" ] || kill -0 "$exporter" 2>/dev/null; then return; fi
  python "${0%/*}/git_mirror_exporter.py" "$repository" "$METRICS_PORT" &
  exporter=$!
}

[ -e "$repository/HEAD" ] || git init --quiet --bare --initial-branch=main "$repository"
touch "$repository/round"
# Nobody else writes here, so a lock is what a process that was killed has left.
find "$repository" -type f -name '*.lock' -delete
mirror config gc.pruneExpire never
mirror config uploadpack.hideRefs refs/incoming
: >"$repository/refused"
withdraw_unfit || echo "names that may not be served could not be removed" >&2
# With several replicas no branch moves before all of them have its commits: a task may learn of a commit from one replica and ask another
# for it. So a branch moves one round after its commits have arrived.
while true; do
  touch "$repository/round"
  keep_exporting
  tracked=$(cat "$tracking" 2>/dev/null || true) stuck="" answered=yes
  if [ "$replicas" -gt 1 ]; then publish_all; fi
  if ! fetch; then
    if tracked_has_come; then
      echo "the origin has refs that cannot be fetched; $tracked is not among them" >&2
    else
      echo "the origin does not answer${tracked:+, or its $tracked cannot be fetched}; serving the copy" >&2
      answered=""
    fi
  fi
  if [ "$replicas" -eq 1 ] || [ ! -e "$repository/fetched" ]; then publish_all; fi
  if [ -n "$answered" ] && [ -z "$stuck" ]; then touch "$repository/fetched"; fi
  sleep "$interval" &
  wait $!
done
