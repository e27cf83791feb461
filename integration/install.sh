#!/usr/bin/env bash
# Installs what `make test` and `make demo` need beyond Go: Debian packages by name, a guest kernel in .cache/, and by
# userland.sh a userland of a newer Debian in the user's cache folder.
# Says nothing and needs no rights when all of it is there. Safe to run again and again, and from several checkouts.
set -euo pipefail
cd "$(dirname "$0")/.."

# program or file that must be there -> Debian package that brings it
needs=(
	gcc:gcc                                       # go test -race links with it
	/usr/include/stdlib.h:libc6-dev
	qemu-system-x86_64:qemu-system-x86
	qemu-aarch64:qemu-user                        # runs tests of the rings as arm64 programs
	/usr/lib/ipxe/qemu/efi-virtio.rom:ipxe-qemu
	linux.uml:user-mode-linux
	dpdk-testpmd:dpdk-dev
	ip:iproute2
	ss:iproute2
	ethtool:ethtool
	ovs-vswitchd:openvswitch-switch               # a switch at the other end of VXLAN
	iperf3:iperf3                                 # runs in guests too
	tcpdump:tcpdump
	tshark:tshark                                 # reads captures; 22 MB to fetch
	microsocks:microsocks                         # proxies that vring leads connections through
	tinyproxy:tinyproxy
	danted:dante-server
	traceroute:traceroute                         # these two run in guests
	mtr:mtr-tiny
	dhclient:isc-dhcp-client                      # runs in guests; newer Debians have it no more
	dropbear:dropbear-bin                         # an SSH server that runs in guests
	mke2fs:e2fsprogs
	chromium:chromium                             # shows the web page, and is a client in a guest
	curl:curl                                     # these are clients in guests, too
	wget:wget
	git:git
	openssl:openssl
	/usr/bin/python3:python3
	/usr/bin/pip3:python3-pip
	javac:openjdk-17-jdk-headless                 # 230 MB installed
	ssh-keygen:openssh-client
	systemd-analyze:systemd                       # checks the unit file
	mmdebstrap:mmdebstrap                         # these four are for userland.sh
	/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	xz:xz-utils
	flock:util-linux
	dpkg-deb:dpkg
	systemd-nspawn:systemd-container              # these three start what is released
	umoci:umoci
	runc:runc
	apparmor_parser:apparmor                      # checks the profile
)

# Asked of the package database: DPDK's drivers are plugins with versioned names, and a busybox may also be one that is
# linked dynamically.
packages_needed=(librte-net-virtio23 librte-net-vhost23 librte-net-tap23 busybox-static)

kernel_meta=linux-image-cloud-amd64
kernel_dir=.cache/guest-kernel
promtool=.cache/promtool # Prometheus' own checks of pages and rules; 19 MB to fetch, and the package itself would start a server

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

# Tools in sbin are often not on the PATH of ordinary users.
PATH=$PATH:/usr/sbin:/sbin

present() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null 2>&1 ;;
	esac
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_packages() {
	local need package
	for need in "${needs[@]}"; do
		present "${need%%:*}" || echo "${need##*:}"
	done
	for package in "${packages_needed[@]}"; do
		installed "$package" || echo "$package"
	done
}

# refresh_lists asks the mirrors for their package lists, once per run.
refreshed=
refresh_lists() {
	[ -z "$refreshed" ] || return 1
	refreshed=yes
	echo "install.sh: refreshing the package lists"
	apt-get -qq update
}

install_packages() {
	local packages=("$@")
	[ "$(id -u)" = 0 ] || fail "missing: ${packages[*]}. Run it as root, or: sudo apt-get install ${packages[*]}"
	apt-cache show "${packages[@]}" >/dev/null 2>&1 || refresh_lists
	echo "install.sh: installing ${packages[*]}"
	try_install "${packages[@]}" || { refresh_lists && try_install "${packages[@]}"; } ||
		fail "apt-get could not install: ${packages[*]}"
}

try_install() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

# kernel_package prints the package that the meta package stands for, such as linux-image-6.1.0-56-cloud-amd64, or nothing if
# there are no package lists.
kernel_package() {
	{ apt-cache depends "$kernel_meta" 2>/dev/null || true; } | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}

# fetch_kernel unpacks the guest kernel without installing it: vmlinuz and the module tree.
fetch_kernel() {
	local package
	package=$(kernel_package)
	if [ -z "$package" ]; then
		refresh_lists || true
		package=$(kernel_package)
	fi
	[ -n "$package" ] || fail "no package $kernel_meta in the package lists; is this Debian?"

	echo "install.sh: fetching the guest kernel $package"
	mkdir -p .cache
	work=$(mktemp -d .cache/kernel.XXXXXX)
	trap 'rm -rf "$work"' EXIT # work is global: the trap runs when this function is over
	download "$package" "$work" || { refresh_lists && download "$(kernel_package)" "$work"; } ||
		fail "apt-get could not download $package"
	dpkg -x "$work"/*.deb "$work/root"
	mkdir "$work/kernel"
	mv "$work"/root/boot/vmlinuz-* "$work/kernel/vmlinuz"
	mv "$work"/root/lib/modules/*/kernel "$work/kernel/modules"
	echo "$package" >"$work/kernel/package"
	# Another run may have been quicker: then the rename fails and its result serves.
	mv -T "$work/kernel" "$kernel_dir" 2>/dev/null || [ -e "$kernel_dir/vmlinuz" ]
}

download() {
	# apt warns that its own user cannot write here; it then downloads as the caller, which is what is wanted.
	(cd "$2" && apt-get -qq download "$1" 2>apt.log) || {
		cat "$2/apt.log" >&2
		return 1
	}
}

# fetch_promtool unpacks promtool alone.
fetch_promtool() {
	local work
	echo "install.sh: fetching promtool"
	mkdir -p .cache
	work=$(mktemp -d .cache/promtool.XXXXXX)
	download prometheus "$work" || { refresh_lists && download prometheus "$work"; } ||
		{ rm -rf "$work" && fail "apt-get could not download prometheus"; }
	dpkg --fsys-tarfile "$work"/*.deb | tar -x -C "$work" ./usr/bin/promtool
	mv "$work/usr/bin/promtool" "$promtool"
	rm -rf "$work"
}

command -v go >/dev/null 2>&1 || fail "Go is missing: install Go 1.26 or newer from https://go.dev/dl/"

mapfile -t packages < <(missing_packages | sort -u)
need_kernel=
[ -e "$kernel_dir/vmlinuz" ] || need_kernel=yes
need_promtool=
[ -e "$promtool" ] || need_promtool=yes
[ ${#packages[@]} -gt 0 ] || [ -n "$need_kernel$need_promtool" ] || exec integration/userland.sh

for tool in apt-get apt-cache dpkg dpkg-query; do
	command -v "$tool" >/dev/null 2>&1 ||
		fail "$tool is missing: this script knows Debian only. Install by hand: ${packages[*]:-}${need_kernel:+ and a kernel in $kernel_dir}${need_promtool:+ and $promtool}"
done
[ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"
[ -z "$need_kernel" ] || fetch_kernel
[ -z "$need_promtool" ] || fetch_promtool
integration/userland.sh
