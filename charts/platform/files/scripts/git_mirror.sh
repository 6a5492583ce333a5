#!/usr/bin/env bash
# Keep a copy of a Git repository that never forgets a commit: runs are pinned to the commit they started with, and a
# force-push or a deleted branch must not take it away. While the origin is away the copy stays as it is.
#   git-mirror.sh REPOSITORY ORIGIN SECONDS REPLICAS
set -euo pipefail
repository=$1 origin=$2 interval=$3 replicas=$4
credentials=/etc/git-origin

export GIT_TERMINAL_PROMPT=0
export GIT_SSH_COMMAND="ssh -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
GIT_SSH_COMMAND+=" -i $credentials/ssh-privatekey -o UserKnownHostsFile=$credentials/known_hosts"

# Whoever clones gets branches and tags and nothing else, so what a branch or tag leaves behind is kept as a tag.
publish() { # ref commit
  local old
  old=$(git -C "$repository" rev-parse --quiet --verify "$1" || true)
  if [ "$old" = "$2" ]; then return; fi
  if [ -n "$old" ] && ! git -C "$repository" merge-base --is-ancestor "$old" "$2"; then
    git -C "$repository" update-ref "refs/tags/kept/$old" "$old"
    echo "$1 was rewritten: $old stays as tag kept/$old"
  fi
  git -C "$repository" update-ref "$1" "$2"
  echo "$1 is now $2"
}

publish_all() {
  git -C "$repository" for-each-ref --format='%(refname) %(objectname)' refs/tags/incoming |
    while read -r ref commit; do publish "refs/${ref#refs/tags/incoming/}" "$commit"; done
}

# Used by git, with the action as its argument; the password is in no argument and no variable of this process.
# shellcheck disable=SC2016  # git expands it, not this shell
helper='!f() { if [ "$1" = get ] && [ -e C/password ]; then echo "username=$(cat C/username)"; echo "password=$(cat C/password)"; fi; }; f'

fetch() {
  timeout 120 git -C "$repository" -c credential.helper="${helper//C\//$credentials/}" \
    fetch --quiet --no-tags --no-write-fetch-head "$origin" \
    '+refs/heads/*:refs/tags/incoming/heads/*' '+refs/tags/*:refs/tags/incoming/tags/*'
}

[ -e "$repository/HEAD" ] || git init --quiet --bare --initial-branch=main "$repository"
git -C "$repository" config gc.pruneExpire never
# Of several replicas none moves a branch before the others have its commits: a task may be told of them by one replica
# and ask the next. So a branch moves one round after its commits came.
while true; do
  touch "$repository/round"
  if [ "$replicas" -gt 1 ]; then publish_all; fi
  if fetch; then
    if [ "$replicas" -eq 1 ] || [ ! -e "$repository/fetched" ]; then publish_all; fi
    touch "$repository/fetched"
  else
    echo "the origin does not answer; serving what is here" >&2
  fi
  sleep "$interval" &
  wait $!
done
