#!/usr/bin/env bash
# Makes a Debian forky userland in the user's cache folder, for every checkout: the newer of the two generations of QEMU,
# User-mode Linux and DPDK that the tests run, and a guest kernel. The packages come from the mirror that this machine's
# apt uses, and apt checks their signatures. Says nothing when the userland is there. Needs root, 1.5 GB and two minutes.
#
# The result is ${XDG_CACHE_HOME:-~/.cache}/vring/forky. Beside the userland's own folders it has:
#   guest-kernel/vmlinuz, modules, package   kernel for virtual machines, its modules, and the name of its package
#   packages                                 the version of each package (forky moves)
#   recipe                                   what the userland was made by; another recipe makes a new one
set -euo pipefail

suite=forky
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vring
userland=$cache/$suite
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
room_needed=1500 # MiB
kernel_meta=linux-image-cloud-amd64

packages=(
	qemu-system-x86 qemu-system-common ipxe-qemu ovmf
	user-mode-linux
	dpdk dpdk-dev
	passt gvproxy
	iproute2 ethtool iperf3 socat tcpdump busybox-static ca-certificates
	# What runs in guests beside the above, and what it talks to: see field_clients_test.go and field_leases_test.go.
	curl openssh-client openssh-server bind9-dnsutils tftp-hpa dnsmasq-base rsync tnftp vsftpd openvpn
	udhcpc dhcpcd-base systemd network-manager dbus avahi-daemon avahi-utils
	# For libvirt_test.go.
	libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
)

options=(
	--variant=essential --mode=root --architectures=amd64 --components=main
	--aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"'
	# A mirror may be a snapshot that is past its date. This is about the userland alone, not about this machine.
	--aptopt='Acquire::Check-Valid-Until "false"'
)

recipe="1 ${options[*]} ${packages[*]} $kernel_meta"

fail() {
	echo "userland.sh: no userland of Debian $suite: $*" >&2
	exit 1
}

complete() {
	[ "$(cat "$userland/recipe" 2>/dev/null)" = "$recipe" ]
}

# mirror prints the first address from which this machine's apt takes Debian, whatever the format of its sources. Only lists
# that were fetched tell their origin.
mirror() {
	apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk '$1 == "Debian/Debian" { print $2; exit }'
}

# find_mirror is mirror, and asks the mirrors for their lists if none is there.
find_mirror() {
	[ -n "$(mirror)" ] || apt-get -qq update >&2
	mirror
}

# host_options prints the options by which this machine's apt reaches its mirrors, such as a proxy.
host_options() {
	apt-config dump --format '%F "%v";%n' Acquire::http Acquire::https | awk '$2 != "\"\";"'
}

# depends prints the packages that a package depends on whose names match a pattern.
depends() {
	apt-cache depends "$1" | awk -v pattern="$2" '$1 == "Depends:" && $2 ~ pattern { print $2 }'
}

# get_kernel is what mmdebstrap runs when the packages are there and apt still knows of all others: $1 is the new userland.
# The kernel is unpacked, not installed: that would bring tools for booting it.
get_kernel() {
	local root=$1 work=$1/guest-kernel/work package parts
	export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
	package=$(depends "$kernel_meta" ^linux-image-)
	[ -n "$package" ] || fail "no package $kernel_meta"
	# The package has the kernel and its modules, or depends on two that have them.
	mapfile -t parts < <(depends "$package" '^linux-(binary|modules)-')
	echo "userland.sh: fetching the guest kernel $package"
	mkdir -p "$work"
	(cd "$work" && apt-get -qq download "$package" "${parts[@]}")
	for package in "$work"/*.deb; do
		dpkg -x "$package" "$work/root"
	done
	mv "$(find "$work/root" -type f -name 'vmlinuz*' | head -1)" "$root/guest-kernel/vmlinuz"
	mv "$(find "$work/root" -type d -path '*/lib/modules/*/kernel' | head -1)" "$root/guest-kernel/modules"
	(cd "$work" && ls ./*.deb | sed 's|^\./||; s/_[^_]*$//; s/_/\t/') >"$root/guest-kernel/package"
	rm -rf "$work"
	# The guest's program loads modules as they are.
	find "$root/guest-kernel/modules" -name '*.ko.xz' -exec xz -d {} +
	chroot "$root" dpkg-query -W >"$root/packages"
}

if [ "${1:-}" = get-kernel ]; then
	get_kernel "$2"
	exit
fi

! complete || exit 0
[ "$(id -u)" = 0 ] || fail "run it as root: sudo $0"
for tool in mmdebstrap apt-get dpkg xz flock unshare; do
	command -v "$tool" >/dev/null || fail "$tool is missing; run integration/install.sh"
done
[ -e "$keyring" ] || fail "$keyring is missing; run integration/install.sh"

mkdir -p "$cache"
exec 9>"$cache/$suite.lock"
flock -n 9 || {
	echo "userland.sh: waiting for another run that makes the userland"
	flock 9
}
! complete || exit 0

# What an interrupted run has left behind. Nothing is mounted there: mmdebstrap runs in a mount namespace of its own.
rm -rf --one-file-system "$userland".new "$userland".old
room=$(($(df --output=avail -k "$cache" | tail -1) / 1024))
[ "$room" -ge "$room_needed" ] || fail "$cache has room for $room MiB, needed are $room_needed MiB"
source=$(find_mirror)
[ -n "$source" ] || fail "apt's sources name no mirror of Debian"
/usr/lib/apt/apt-helper -qq download-file "${source%/}/dists/$suite/InRelease" "$cache/$suite.release" ||
	fail "the mirror $source has none, or does not answer"
rm -f "$cache/$suite.release"*

mapfile -t host_options < <(host_options)
for option in "${host_options[@]}"; do
	options+=(--aptopt="$option")
done
echo "userland.sh: making a userland of Debian $suite in $userland from $source; this takes two minutes"
begin=$SECONDS
unshare --mount mmdebstrap "${options[@]}" --keyring="$keyring" --include="$(IFS=,; echo "${packages[*]}")" \
	--customize-hook="'$(realpath "$0")' get-kernel \"\$1\"" "$suite" "$userland.new" "$source" ||
	fail "mmdebstrap could not make it from $source; the lines above say why"
echo "$recipe" >"$userland.new/recipe"

# Whoever runs a program of the old userland keeps its files; only what is started now finds the new one.
[ ! -e "$userland" ] || mv -T "$userland" "$userland.old"
mv -T "$userland.new" "$userland"
rm -rf --one-file-system "$userland.old"
echo "userland.sh: made in $((SECONDS - begin)) s; all versions are in $userland/packages:"
chroot "$userland" dpkg-query -W "${packages[@]}"
cat "$userland/guest-kernel/package"
