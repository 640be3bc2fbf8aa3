#!/usr/bin/env bash
# Make the environment, check the style, run the tests; arguments go to pytest: bash scripts/run_tests.sh -k resume
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup_env.sh test
.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/python -m pytest -n auto "$@"
