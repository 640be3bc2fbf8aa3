#!/usr/bin/env bash
# Install requirements.txt into the active environment; further options go to pip.
set -ex
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# visdom's older sources do not build with a newer setuptools; pip knows the constraint by either name.
constraint=$(mktemp)
trap 'rm -f -- "$constraint"' EXIT
echo 'setuptools<81' >"$constraint"
PIP_CONSTRAINT=$constraint PIP_BUILD_CONSTRAINT=$constraint "${PYTHON:-python}" -m pip install -r requirements.txt "$@"
