#!/usr/bin/env bash
# Keep a copy of a Git repository that never loses a commit: a run uses the commit with which it started, and that must still be there
# after a force-push or when a branch is deleted. While the origin does not answer the copy stays as it is.
#   git_mirror.sh REPOSITORY ORIGIN SECONDS REPLICAS
set -euo pipefail
repository=$1 origin=$2 interval=$3 replicas=$4
credentials=/etc/git-origin

export GIT_TERMINAL_PROMPT=0
export GIT_SSH_COMMAND="ssh -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
GIT_SSH_COMMAND+=" -i $credentials/ssh-privatekey -o UserKnownHostsFile=$credentials/known_hosts"

# A clone gets branches and tags only, so a commit that a branch or tag no longer reaches is kept as a tag.
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

# Git calls it with the action as its argument. The password is neither in an argument nor in a variable of this process.
# shellcheck disable=SC2016  # git expands it, not this shell
helper='!f() { if [ "$1" = get ] && [ -e C/password ]; then echo "username=$(cat C/username)"; echo "password=$(cat C/password)"; fi; }; f'

fetch() {
  timeout 120 git -C "$repository" -c credential.helper="${helper//C\//$credentials/}" \
    fetch --quiet --no-tags --no-write-fetch-head "$origin" \
    '+refs/heads/*:refs/tags/incoming/heads/*' '+refs/tags/*:refs/tags/incoming/tags/*'
}

[ -e "$repository/HEAD" ] || git init --quiet --bare --initial-branch=main "$repository"
git -C "$repository" config gc.pruneExpire never
# With several replicas no branch moves before all of them have its commits: a task may learn of a commit from one replica and ask another
# for it. So a branch moves one round after its commits have arrived.
while true; do
  touch "$repository/round"
  if [ "$replicas" -gt 1 ]; then publish_all; fi
  if fetch; then
    if [ "$replicas" -eq 1 ] || [ ! -e "$repository/fetched" ]; then publish_all; fi
    touch "$repository/fetched"
  else
    echo "the origin does not answer; serving the copy" >&2
  fi
  sleep "$interval" &
  wait $!
done
