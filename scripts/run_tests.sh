#!/usr/bin/env bash
# Make the environment, check style and imports, run the tests.
#   bash scripts/run_tests.sh -k resume     arguments go to pytest
#   bash scripts/run_tests.sh --faults      the long campaigns instead: kills, failing disks, hostile files
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup_env.sh test
if [[ ${1:-} == --faults ]]; then
    exec .venv/bin/python tests/faults/campaign.py "${@:2}"
fi
.venv/bin/ruff check
.venv/bin/ruff format --check
PYTHONPATH=. .venv/bin/lint-imports --no-cache
.venv/bin/python -m pytest -n auto --dist loadfile "$@"
