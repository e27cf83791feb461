#!/usr/bin/env bash
# Installs what the benchmarks compare vring with and `make test` does not need: passt for bench/nat, where one that cannot be
# installed is a row of the report that says so, and adb for bench/adb, which fails without. No error here either way.
set -euo pipefail

missing=()
for program in passt adb; do # each is in the Debian package of its name
	command -v "$program" >/dev/null 2>&1 || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "bench/install.sh: no ${missing[*]}; to compare with it: sudo apt-get install ${missing[*]}" >&2
	exit 0
fi
install() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$1" >/dev/null; }
for package in "${missing[@]}"; do
	echo "bench/install.sh: installing $package"
	install "$package" || { apt-get -qq update && install "$package"; } ||
		echo "bench/install.sh: $package could not be installed" >&2
done
