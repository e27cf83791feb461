#!/usr/bin/env bash
# Installs the peers that bench/nat compares vring with and that `make test` does not need. One that cannot be installed is
# a row of the report that says so, and no error.
set -euo pipefail

command -v passt >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "bench/install.sh: no passt; to compare with it: sudo apt-get install passt" >&2
	exit 0
fi
echo "bench/install.sh: installing passt"
install() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install passt >/dev/null; }
install || { apt-get -qq update && install; } || echo "bench/install.sh: passt could not be installed" >&2
