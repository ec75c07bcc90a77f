#!/usr/bin/env bash
# run.sh DIR [CHECK...]: runs the DAGs of integrations/airflow in Airflow against the simulator, by drive.py, and
# follows docs/airflow.md, by page.py, in an environment that it makes below DIR. CHATLAKE_TEST_CHATLAKE and CHATLAKE_TEST_SIMULATOR name the programs.
set -euo pipefail

tools=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${CHATLAKE_TEST_CHATLAKE:?names the program}" "${CHATLAKE_TEST_SIMULATOR:?names the simulator}"
venv=$(tests/tools/venv.sh "$tools" tests/airflow/requirements.txt)

# Built of a copy, since pip leaves its own files beside what it builds.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r integrations/airflow "$scratch/package"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
  --target "$scratch/installed" "$scratch/package"
"$venv/bin/mypy" --config-file integrations/airflow/pyproject.toml --cache-dir "$scratch/mypy" integrations/airflow/{src,dags}

export PYTHONPATH=$scratch/installed PYTHONDONTWRITEBYTECODE=1
"$venv/bin/python" tests/airflow/drive.py "$@"
if [[ $# == 0 ]]; then PATH=$venv/bin:$PATH python tests/airflow/page.py; fi
