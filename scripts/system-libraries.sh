#!/bin/sh
# Make sure of the libraries that napari's window needs: system-libraries.sh LIST
# Installs the missing ones as root on Debian and Ubuntu, else says in one sentence what is missing. Never fails the
# build: without a window everything but the GUI and its tests still works.
set -eu

[ "$(uname -s)" = Linux ] || exit 0
PATH="$PATH:/usr/sbin:/sbin"
libraries=$(ldconfig -p 2>/dev/null || true)
here=$(dirname "$0")

missing=""
all=""
while read -r wanted package; do
    case "$wanted" in
        "" | "#"*) continue ;;
        -) found=yes ;;
        *.so.*) case "$libraries" in *"$wanted "*) found=yes ;; *) found="" ;; esac ;;
        *) found=$(command -v "$wanted" || true) ;;
    esac
    all="$all $package"
    [ -n "$found" ] || missing="$missing $package"
done <"$1"
[ -n "$missing" ] || exit 0

status=0
# shellcheck disable=SC2086  # a list of packages
sh "$here/apt-install.sh" $all || status=$?
case "$status" in
    0) ;;
    3)
        if command -v apt-get >/dev/null 2>&1; then
            echo "Missing system libraries for napari's window: run 'sudo apt-get install$missing'." >&2
        else
            echo "Missing system libraries for napari's window: install what Debian calls$missing." >&2
        fi
        ;;
    *) echo "Could not install the system libraries for napari's window:$missing." >&2 ;;
esac
