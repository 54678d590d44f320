#!/bin/sh
# Install the wheel into a fresh environment and use it there: check-wheel.sh QT NAPARI [FOLDER [REQUIREMENT...]]
#
# QT           pyqt6 or pyside6
# NAPARI       a version, or "newest"
# FOLDER       for the wheel and the environments, which are made anew; default: build/wheels
# REQUIREMENT  more to install beside it, such as torch==2.13.0
# $PYTHON, where set, is the interpreter; it needs venv. What has been downloaded is kept in pip's cache.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
qt=$1
napari=$2
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${3:-$root/build/wheels}
[ $# -lt 3 ] && shift 2 || shift 3

case "$napari" in
    newest) wanted="napari[$qt]" ;;
    *) wanted="napari[$qt]==$napari" ;;
esac
environment=$folder/$qt-$napari
mkdir -p "$folder"

echo "== napari $napari, $qt: building the wheel"
rm -rf "$environment" "$environment.wheel"
"${PYTHON:-python3}" -m venv "$environment"
bin=$environment/bin
[ -d "$bin" ] || bin=$environment/Scripts
"$bin/python" -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir "$environment.wheel" "$root"

echo "== installing it"
"$bin/python" -m pip install -qq --disable-pip-version-check "$environment.wheel"/*.whl "$wanted" "$@"
"$bin/python" -m pip check --disable-pip-version-check

echo "== checking the manifest"
QT_QPA_PLATFORM=offscreen "$bin/npe2" validate napari-harmony --imports

echo "== using it"
cp "$root/scripts/use_installed.py" "$environment/"
cd "$environment" # where the checkout cannot be imported from
QT_API=$qt sh "$root/scripts/with-display.sh" "$bin/python" use_installed.py
