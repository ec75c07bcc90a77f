#!/usr/bin/env bash
# run.sh DIR [CHECK...]: what the Dockerfile, docker-compose.yml and integrations/kubernetes say, run as plain processes by drive.py, in
# an environment that it makes below DIR. Exits 3 where that is not possible: it needs docker-compose, tini, kubectl, curl and radosgw, which it
# installs on Debian as root. CHATLAKE_TEST_CHATLAKE and CHATLAKE_TEST_SIMULATOR name the programs, CHATLAKE_TEST_PYTHON one with boto3.
set -euo pipefail

tools=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${CHATLAKE_TEST_CHATLAKE:?names the program}" "${CHATLAKE_TEST_SIMULATOR:?names the simulator}" "${CHATLAKE_TEST_PYTHON:?names an interpreter}"
present() { command -v docker-compose && command -v tini && command -v kubectl && command -v curl && command -v radosgw; } >/dev/null
present || tests/tools/debian.sh docker-compose tini kubernetes-client curl radosgw ceph-mon ceph-osd ceph-mgr

docker-compose --file docker-compose.yml config -q
venv=$(tests/tools/venv.sh "$tools" tests/containers/requirements.txt)
PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" tests/containers/drive.py "$tools" "$@"
