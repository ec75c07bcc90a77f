#!/usr/bin/env bash
# venv.sh DIR [REQUIREMENTS]: makes the Python environment of REQUIREMENTS (requirements.txt beside this) below DIR, unless it is
# there, and prints its path.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=${2:-$here/requirements.txt}
mkdir -p "$1"
tools=$(cd "$1" && pwd)
key=$({ python3 --version; cat "$requirements"; } |
  python3 -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:12])')
venv=$tools/venv-$key

if command -v flock >/dev/null; then
  exec 8>"$tools/venv.lock"
  flock 8
fi

# Scripts inside an environment name its path, so it is made in place; the mark comes last and makes it whole.
if [[ ! -e $venv/complete ]]; then
  echo "making the Python environment $venv" >&2
  rm -rf "$venv"
  python3 -m venv "$venv" >&2 || {
    "$here/debian.sh" python3-venv
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
  }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 5 --requirement "$requirements" >&2
  touch "$venv/complete"
fi
echo "$venv"
