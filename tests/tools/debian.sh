#!/usr/bin/env bash
# debian.sh PACKAGE...: installs Debian packages. Exits 3 where that is not possible: not Debian, or not root.
set -euo pipefail

[[ -e /etc/debian_version && $(id -u) == 0 ]] || exit 3
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
{
  # An installation that died half-way leaves dpkg unable to begin another.
  dpkg --configure -a
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "$@"
} >&2
