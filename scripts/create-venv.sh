#!/bin/sh
# Create a virtual environment with a Python that the package supports: create-venv.sh FOLDER
# $PYTHON, where set, is the only interpreter tried.
set -eu

here=$(dirname "$0")

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3}; do
        if "$candidate" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ] && [ -z "${PYTHON:-}" ] && sh "$here/apt-install.sh" python3 python3-venv; then
    python=$(find_python)
fi
if [ -z "$python" ]; then
    echo "No Python 3.11, 3.12, 3.13 or 3.14 found${PYTHON:+ at $PYTHON}: install one, or name it: make PYTHON=/path/to/python3." >&2
    exit 1
fi

# Debian ships venv without ensurepip, which is in a package of its own.
if ! "$python" -c "import ensurepip, venv" 2>/dev/null; then
    version=$("$python" -c "import sys; print(f'{sys.version_info[0]}.{sys.version_info[1]}')")
    if ! sh "$here/apt-install.sh" "python$version-venv"; then
        echo "$python cannot create virtual environments: install its venv module (python$version-venv on Debian and Ubuntu)." >&2
        exit 1
    fi
fi

echo "Creating $1 with $python"
"$python" -m venv "$1"
