#!/usr/bin/env bash
# Make .venv in the repository root and install the requirements; an existing one is reused.
#   bash scripts/setup_env.sh          requirements.txt
#   bash scripts/setup_env.sh test     also requirements-extra.txt, pytest, ruff, import-linter
# PYTHON=python3.12 chooses the interpreter (at least 3.10).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 1; }

target=${1:-core}
case $target in
    core) wanted=(-r requirements.txt) ;;
    test) wanted=(-r requirements.txt -r requirements-extra.txt pytest pytest-xdist pytest-timeout selenium ruff import-linter) ;;
    *) fail "setup_env.sh $target: the choices are core (the default) and test" ;;
esac

# An interrupted run may have left an incomplete environment, which has no working pip.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || fail "no $python here: install Python 3.10 or newer, or name it: PYTHON=/path/to/python3 bash $0"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$("$python" --version) is too old: Python 3.10 or newer is needed; name one with PYTHON=/path/to/python3"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)"
    echo "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

# The stamp holds the installed requirements: unchanged requirements need no installation.
stamp=.venv/.installed-$target
now=$(cat requirements.txt requirements-extra.txt; echo "${wanted[*]}")
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then
    exit 0
fi

# visdom's source build imports pkg_resources, which newer setuptools lack. Older pips read PIP_CONSTRAINT when they
# build, newer ones PIP_BUILD_CONSTRAINT.
constraint=$(mktemp)
trap 'rm -f "$constraint"' EXIT
echo 'setuptools<81' >"$constraint"
export PIP_CONSTRAINT="${PIP_CONSTRAINT:+$PIP_CONSTRAINT }$constraint"
export PIP_BUILD_CONSTRAINT="${PIP_BUILD_CONSTRAINT:+$PIP_BUILD_CONSTRAINT }$constraint"

echo "installing into .venv (a fresh one takes 2 to 5 minutes; PyTorch with its CUDA libraries fills 5 GB on Linux)"
[ -t 1 ] && quiet= || quiet=--quiet # pip's progress belongs on a terminal, not in a log
.venv/bin/python -m pip install --disable-pip-version-check $quiet "${wanted[@]}" ||
    fail "pip could not install the requirements (see above); run the same command again to continue"
printf '%s\n' "$now" >"$stamp"
