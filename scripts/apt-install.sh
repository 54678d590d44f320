#!/bin/sh
# Install Debian or Ubuntu packages, as root: apt-install.sh PACKAGE...
# Exits with 3 where that is not possible (another system, or not root), so that the caller can say what is missing.
set -eu

command -v apt-get >/dev/null 2>&1 || exit 3
[ "$(id -u)" -eq 0 ] || exit 3

export DEBIAN_FRONTEND=noninteractive
echo "Installing system packages: $*"
apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null || echo "apt-get update failed; trying with the lists at hand." >&2
apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@" >/dev/null
