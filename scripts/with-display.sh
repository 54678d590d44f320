#!/bin/sh
# Run a command that opens windows: with-display.sh COMMAND...
# On Linux the windows go to a virtual display, so that nothing flashes over the desktop and results do not depend on it.
set -eu

if [ "$(uname -s)" != Linux ]; then
    exec "$@"
elif command -v xvfb-run >/dev/null 2>&1 && command -v xauth >/dev/null 2>&1; then
    # Qt would prefer a Wayland session of the desktop to the virtual display.
    exec env QT_QPA_PLATFORM=xcb xvfb-run --auto-servernum --server-args="-screen 0 1600x1200x24" "$@"
elif [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    exec "$@"
else
    echo "No display and no xvfb-run: install xvfb and xauth to run what opens windows." >&2
    exit 1
fi
