package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/vringnet/vring"

// Third parties, by import path; what lies below is included.
const (
	sys      = "golang.org/x/sys"
	multierr = "github.com/hashicorp/go-multierror"
	checksum = "gvisor.dev/gvisor/pkg/tcpip/checksum"
	tcpip    = "gvisor.dev/gvisor/pkg/tcpip"
	dhcp     = "github.com/insomniacslk/dhcp"
	dns      = "github.com/miekg/dns"
	netlink  = "github.com/vishvananda/netlink"
	testify  = "github.com/stretchr/testify"
	rapid    = "pgregory.net/rapid"
	landlock = "github.com/landlock-lsm/go-landlock"
	seccomp  = "github.com/elastic/go-seccomp-bpf"
	libcap   = "kernel.org/pub/linux/libs/security/libcap"
	xnet     = "golang.org/x/net"
	bpf      = xnet + "/bpf"
	xtime    = "golang.org/x/time"
	cpio     = "github.com/cavaliergopher/cpio"
	yaml     = "github.com/goccy/go-yaml"
	prom     = "github.com/prometheus"
	oci      = "github.com/opencontainers"
)

// allowedImports is the import table: for each package, what it may import beside the standard library. A path without a dot in the
// first element is a package of this module, and that one only; a third party's includes what lies below it. cmd has no
// rows: a command may import everything but what is for tests. multierror is for packages that check a configuration: they
// report all of its faults.
var allowedImports = map[string][]string{
	"virtqueue":               {"virtqueue/guestmem", "virtqueue/internal/ring"},
	"virtqueue/guestmem":      {sys, multierr},
	"virtqueue/driver":        {"virtqueue", "virtqueue/guestmem", "virtqueue/internal/ring"},
	"virtqueue/internal/ring": {sys + "/cpu"},
	"virtqueue/vnet":          {checksum},
	"virtqueue/vqtest":        {"virtqueue", "virtqueue/guestmem", "virtqueue/internal/ring", sys, testify, rapid},

	"internal/archtest": {},
	"internal/bootroot": {sys},
	"internal/broker": {"internal/bootroot", "internal/logplace", "tap", "internal/regularfile", "internal/replacefile", "internal/sandbox", "internal/socketfile", "internal/undo", "internal/vfkit", "netbackend/nat/forward",
		"netbackend/nat/routesocket", "netbackend/nat/spec", "netbackend/services/dns", xtime, sys},
	"internal/logplace":   {sys},
	"internal/auditlog":   {"internal/logplace", "netbackend/nat/audit", "netbackend/nat/spec", sys},
	"internal/bootcheck":  {"internal/dhcpclient", sys, dhcp, netlink, cpio},
	"internal/dhcpclient": {sys, dhcp},
	"internal/dist":       {sys, oci + "/go-digest", oci + "/image-spec"},
	"internal/configfile": {"internal/daemon", "internal/sandbox", "internal/spelling", "netbackend/nat", "netbackend/nat/forward", "netbackend/nat/spec", "netbackend/netem",
		"netbackend/services/dns", "netbackend/services/dnszone", "netbackend/services/hostconf", "tap", yaml, multierr},
	"internal/control": {"netbackend/drops", "internal/broker", "internal/configfile", "internal/control/api", "internal/daemon", "internal/metrics", "netbackend/capture", "netbackend/capture/filter", "netbackend/nat",
		"netbackend/nat/spec", "netbackend/services/dns", "netbackend/services/dnszone", xtime, sys, multierr},
	"internal/control/api": {},
	"internal/counting":    {},
	"internal/daemon": {"vhostuser", "internal/auditlog", "internal/bootroot", "internal/learned", "internal/logplace", "internal/replacefile", "netbackend/nat/audit", xtime, "internal/framesocket", "virtqueue/guestmem", "netbackend", "netbackend/drops", "netbackend/netem", "netbackend/worker", "netbackend/nat", "netbackend/nat/forward", "netbackend/nat/spec", "netbackend/nat/stats",
		"netbackend/capture", "netbackend/capture/filter", "netbackend/capture/pcap", "netbackend/capture/pcapng", "netbackend/fdb", "netbackend/l2switch", "netbackend/uplink", "netbackend/vxlan", "internal/ownrings", "netbackend/stub", "netbackend/testframe", "tap", "netbackend/services/dns", "netbackend/services/dnszone", "netbackend/services/hostconf", "internal/broker", "internal/sandbox", "internal/hostcaps",
		"internal/counting", "internal/servicemanager", "internal/socketfile", "internal/undo", sys, multierr},
	"internal/framesocket": {"internal/mmsg", "internal/ownrings", "internal/pace", "internal/socketfile", "internal/vfkit", "netbackend", "virtqueue/guestmem", "virtqueue/vnet", sys},
	"internal/gvproxy":     {"internal/control", "internal/control/api", "netbackend/services/dnszone", xnet + "/netutil", "golang.org/x/crypto/ssh"},
	"internal/hostcaps":    {sys},
	"internal/keeper":      {"internal/configfile", "internal/daemon", xtime},
	"internal/labfile":     {"internal/configfile", "internal/daemon", "internal/qemuopt", "internal/qemurun", multierr},
	"internal/labgraph":    {},
	"internal/labrun":      {"internal/control", "internal/control/api", sys},
	"internal/learned":     {"netbackend/nat", "netbackend/nat/audit", "netbackend/nat/spec", sys},
	"internal/metrics": {"internal/counting", "internal/daemon", "netbackend/l2switch", "netbackend/nat", "netbackend/stub", "netbackend/vxlan", "netbackend/worker", "tap",
		prom + "/client_golang", prom + "/client_model", prom + "/common/expfmt"},
	"internal/netlinkdump":    {netlink},
	"internal/pace":           {},
	"internal/mmsg":           {"virtqueue/guestmem", sys},
	"internal/ownrings":       {"netbackend", "virtqueue", "virtqueue/driver", "virtqueue/guestmem", "virtqueue/vnet"},
	"internal/passtopt":       {"internal/daemon", "internal/sandbox", "netbackend/nat", "netbackend/nat/spec", "netbackend/services/dns", "netbackend/services/hostconf", sys},
	"internal/qemuopt":        {},
	"internal/qemurun":        {"internal/qemuopt", "netbackend/nat/spec", multierr},
	"internal/regularfile":    {},
	"internal/replacefile":    {"internal/regularfile", sys},
	"internal/sandbox":        {sys, landlock, seccomp, libcap, bpf},
	"internal/servicemanager": {sys},
	"internal/sidecar":        {"internal/servicemanager", sys},
	"internal/slirpapi":       {"internal/control/api", xnet + "/netutil"},
	"internal/socketfile":     {sys},
	"internal/socks":          {"internal/socks/wire", xtime},
	"internal/socks/wire":     {},
	"internal/undo":           {"internal/socketfile", "tap", sys},
	"internal/spelling":       {},
	"internal/vfkit":          {sys},
	"internal/supervisor":     {"internal/broker", "internal/sandbox", "internal/servicemanager", sys, libcap},

	"vhostuser": {"vhostuser/wire", "vhostuser/internal/fdconn", "internal/pace", "internal/socketfile", "virtqueue", "virtqueue/guestmem",
		"virtqueue/vnet", sys},
	"vhostuser/wire":            {},
	"vhostuser/internal/fdconn": {"vhostuser/wire", sys},
	"vhostuser/frontend":        {"vhostuser/wire", "vhostuser/internal/fdconn", "virtqueue/guestmem", sys},

	"netbackend":                {"netbackend/capture", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", sys},
	"netbackend/capture":        {"netbackend/capture/filter", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet"},
	"netbackend/capture/filter": {},
	"netbackend/drops":          {sys},
	"netbackend/capture/pcap":   {},
	"netbackend/capture/pcapng": {},
	"netbackend/porttest":       {"netbackend", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", "virtqueue/vqtest", sys, tcpip},
	"netbackend/uplink":         {"netbackend", "netbackend/l2switch", "netbackend/nat", "netbackend/nat/stats", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet"},
	"netbackend/fdb":            {},
	"netbackend/vxlan":          {"internal/mmsg", "internal/ownrings", "netbackend", "netbackend/fdb", "virtqueue/guestmem", "virtqueue/vnet", sys},
	"netbackend/l2switch":       {"netbackend", "netbackend/capture", "netbackend/fdb", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", sys},
	"netbackend/stub":           {"internal/counting", "netbackend", "netbackend/testframe", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet"},
	"netbackend/netem":          {"netbackend", "netbackend/capture", "virtqueue", "virtqueue/driver", "virtqueue/guestmem", "virtqueue/vnet", multierr},
	"netbackend/testframe":      {},
	"netbackend/worker":         {"netbackend", "netbackend/capture", "netbackend/drops", "netbackend/netem", "internal/counting", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", sys},
	"tap":                       {"internal/netlinkdump", "netbackend", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", sys, netlink},

	"netbackend/nat": {
		"internal/counting", "internal/hostcaps", "netbackend", "netbackend/drops", "netbackend/nat/audit", "netbackend/nat/forward",
		"netbackend/nat/internal/bootserver", "netbackend/nat/internal/dhcp", "netbackend/nat/internal/egress", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/forwardset",
		"netbackend/nat/internal/fragments", "netbackend/nat/internal/gate", "netbackend/nat/internal/groups",
		"netbackend/nat/internal/guestnet", "netbackend/nat/internal/hosts", "netbackend/nat/internal/hostsock",
		"netbackend/nat/internal/icmperr", "netbackend/nat/internal/inbound", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/ipfrag", "netbackend/nat/internal/ledger", "netbackend/nat/internal/limits", "netbackend/nat/internal/link",
		"netbackend/nat/internal/listeners", "netbackend/nat/internal/measure", "netbackend/nat/internal/multicast", "netbackend/nat/internal/namejudge", "netbackend/nat/internal/namerelay",
		"netbackend/nat/internal/nameserver", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/ping",
		"netbackend/nat/internal/policy", "netbackend/nat/internal/presence", "netbackend/nat/internal/proof", "netbackend/nat/internal/quicproof", "netbackend/nat/internal/ratelimit",
		"netbackend/nat/internal/reports", "netbackend/nat/internal/review", "netbackend/nat/internal/route",
		"netbackend/nat/internal/seqnum", "netbackend/nat/internal/shard", "netbackend/nat/internal/source",
		"netbackend/nat/internal/stray", "netbackend/nat/internal/tcp", "netbackend/nat/internal/udp", "netbackend/nat/internal/witness", "netbackend/nat/presets", "netbackend/nat/routesocket",
		"netbackend/nat/spec", "netbackend/nat/stats", "netbackend/services/arp", "netbackend/services/dhcp4",
		"netbackend/services/dhcp6", "netbackend/services/dns", "netbackend/services/dnscache", "netbackend/services/dnsconn", "netbackend/services/dnszone", "netbackend/services/hostconf",
		"netbackend/services/lease", "netbackend/services/ndp", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", multierr, sys,
	},
	"netbackend/nat/forward": {"netbackend/nat/spec", "netbackend/nat/internal/hostsock", "netbackend/nat/internal/ipaddr",
		"internal/socketfile", sys},
	"netbackend/nat/presets":     {"netbackend/nat/spec"},
	"netbackend/nat/proxyproto":  {},
	"netbackend/nat/routesocket": {sys},
	"netbackend/nat/spec":        {"internal/socketfile", xnet + "/idna", sys},
	"netbackend/nat/stats":       {},
	"netbackend/nat/audit":       {},
	"netbackend/nat/internal/ledger": {"netbackend/nat/audit", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy", "netbackend/nat/internal/shard", "netbackend/nat/internal/witness", "netbackend/nat/spec", "netbackend/nat/stats"},
	"netbackend/nat/internal/flowtable": {"netbackend/nat/internal/ipaddr"},
	"netbackend/nat/internal/hostsock":  {"netbackend/nat/internal/ipaddr", "virtqueue/guestmem", sys},
	"netbackend/nat/internal/ipaddr":    {sys},
	"netbackend/nat/internal/guestnet":  {"netbackend/nat/internal/ipaddr", "netbackend/nat/spec"},
	"netbackend/nat/internal/hosts":     {"netbackend/nat/internal/ipaddr"},
	"netbackend/nat/internal/namejudge": {"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/policy", "netbackend/nat/internal/witness",
		"netbackend/nat/spec", "netbackend/nat/stats", "netbackend/services/dnsmsg", dns},
	"netbackend/nat/internal/namerelay": {"netbackend", "netbackend/nat/internal/namejudge", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/hosts",
		"netbackend/nat/internal/quota", "netbackend/services/dns", "netbackend/services/dnscache", "netbackend/services/dnsconn", "netbackend/services/dnszone", sys},
	"netbackend/nat/internal/netpkt":     {"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/seqnum", "virtqueue/vnet", sys},
	"netbackend/nat/internal/pathmtu":    {"netbackend/nat/internal/ipaddr"},
	"netbackend/nat/internal/seqnum":     {},
	"netbackend/nat/internal/servername": {},
	"netbackend/nat/internal/tlshello":   {"netbackend/nat/internal/servername"},
	"netbackend/nat/internal/httphead":   {"netbackend/nat/internal/servername"},
	"netbackend/nat/internal/quicproof": {
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/hostsock", "netbackend/nat/internal/limits",
		"netbackend/nat/internal/policy", "netbackend/nat/internal/quichello", "netbackend/nat/internal/servername",
		"netbackend/nat/internal/shard", "netbackend/nat/internal/tlshello", "netbackend/nat/internal/udp",
	},
	"netbackend/nat/internal/quichello": {"netbackend/nat/internal/tlshello"},
	"netbackend/nat/internal/policy": {"netbackend/nat/internal/flowtable", "netbackend/nat/internal/guestnet", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/route", "netbackend/nat/internal/witness", "netbackend/nat/spec", sys},
	"netbackend/nat/internal/egress":      {"netbackend/nat/spec", sys},
	"netbackend/nat/internal/proxyclient": {"internal/socks/wire", "netbackend/nat/proxyproto", "netbackend/nat/spec", sys},
	"netbackend/nat/internal/witness":     {"netbackend/nat/internal/ipaddr"},
	"netbackend/nat/internal/measure": {"netbackend/nat/internal/flowtable", "netbackend/nat/internal/guestnet",
		"netbackend/nat/internal/policy", "virtqueue/guestmem"},
	"netbackend/nat/internal/quota":     {},
	"netbackend/nat/internal/ratelimit": {},
	"netbackend/nat/internal/ipfrag":    {"netbackend/nat/internal/ipaddr"},
	"netbackend/nat/internal/limits":    {"netbackend/nat/internal/ratelimit", "netbackend/nat/stats"},
	"netbackend/nat/internal/multicast": {sys, multierr},
	"netbackend/nat/internal/route":     {"netbackend/nat/internal/ipaddr", sys},
	"netbackend/nat/internal/shardtest": {
		"netbackend", "netbackend/porttest", "netbackend/nat/internal/guestnet", "netbackend/nat/internal/hosts", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/shard", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", "virtqueue/vqtest"},
	"netbackend/nat/internal/shard": {
		"internal/counting", "netbackend/drops", "netbackend", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet", "internal/hostcaps",
		"netbackend/nat/internal/flowtable", "netbackend/nat/internal/guestnet", "netbackend/nat/internal/hosts", "netbackend/nat/internal/hostsock",
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/ipfrag", "netbackend/nat/internal/limits", "netbackend/nat/internal/netpkt",
		"netbackend/nat/internal/pathmtu", "netbackend/nat/internal/ratelimit", "netbackend/nat/internal/timerwheel", "netbackend/nat/stats", sys},
	"netbackend/nat/internal/bootserver": {
		"netbackend/nat/internal/flowtable", "netbackend/nat/internal/guestnet", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy",
		"netbackend/services/tftp", sys,
	},
	"netbackend/nat/internal/dhcp": {
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/fragments", "netbackend/nat/internal/hosts",
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/limits", "netbackend/nat/internal/link",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/shard", "netbackend/services/dhcp4", "netbackend/services/dhcp6",
		"netbackend/services/lease",
	},
	"netbackend/nat/internal/forwardset": {
		"netbackend/nat/forward", "netbackend/nat/internal/hostsock", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/listeners", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/shard",
		"netbackend/nat/spec",
	},
	"netbackend/nat/internal/fragments": {
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/hosts", "netbackend/nat/internal/hostsock",
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/ipfrag", "netbackend/nat/internal/netpkt",
		"netbackend/nat/internal/shard", "virtqueue", "virtqueue/guestmem", "virtqueue/vnet",
	},
	"netbackend/nat/internal/gate": {
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/hosts", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/link", "netbackend/nat/internal/listeners", "netbackend/nat/internal/netpkt",
		"netbackend/nat/internal/seqnum", "netbackend/nat/internal/shard", "netbackend/nat/internal/tcp",
	},
	"netbackend/nat/internal/groups": {
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/hosts", "netbackend/nat/internal/hostsock",
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/limits", "netbackend/nat/internal/multicast",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy", "netbackend/nat/internal/shard", "virtqueue/vnet",
	},
	"netbackend/nat/internal/icmperr": {
		"netbackend/nat/internal/flowtable", "netbackend/nat/internal/hosts", "netbackend/nat/internal/hostsock",
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/ipfrag", "netbackend/nat/internal/ledger", "netbackend/nat/internal/limits",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy", "netbackend/nat/internal/route",
		"netbackend/nat/internal/seqnum", "netbackend/nat/internal/shard", "netbackend/nat/spec", "virtqueue/vnet", sys,
	},
	"netbackend/nat/internal/inbound": {
		"netbackend/nat/internal/forwardset", "netbackend/nat/internal/hostsock", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/limits", "netbackend/nat/internal/listeners", "netbackend/nat/internal/netpkt",
		"netbackend/nat/internal/shard", "netbackend/nat/internal/tcp", "netbackend/nat/internal/udp", "netbackend/nat/stats", sys,
	},
	"netbackend/nat/internal/link": {
		"netbackend/nat/internal/hosts", "netbackend/nat/internal/ipaddr", "netbackend/nat/internal/limits",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/shard", "netbackend/services/arp", "netbackend/services/ndp",
		"virtqueue",
	},
	"netbackend/nat/internal/listeners": {
		"netbackend/nat/forward", "netbackend/nat/internal/hostsock", "netbackend/nat/internal/ipaddr",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/shard",
	},
	"netbackend/nat/internal/proof": {
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/httphead", "netbackend/nat/internal/policy",
		"netbackend/nat/internal/servername", "netbackend/nat/internal/shard", "netbackend/nat/internal/tcp", "netbackend/nat/internal/tlshello",
		"netbackend/nat/stats", "virtqueue/guestmem",
	},
	"netbackend/nat/internal/nameserver": {
		"netbackend/nat/audit", "netbackend/nat/internal/egress", "netbackend/nat/internal/ledger", "netbackend/nat/internal/policy", "netbackend/nat/spec",
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/fragments", "netbackend/nat/internal/hosts",
		"netbackend/nat/internal/hostsock", "netbackend/nat/internal/ipaddr", "netbackend/nat/internal/limits",
		"netbackend/nat/internal/namejudge", "netbackend/nat/internal/namerelay", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/shard",
		"netbackend/nat/internal/tcp", "netbackend/nat/stats", "netbackend/services/dns", "netbackend/services/dnsmsg", "virtqueue/guestmem", sys,
	},
	"netbackend/nat/internal/ping": {
		"netbackend/nat/internal/egress",
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/fragments", "netbackend/nat/internal/hostsock",
		"netbackend/nat/internal/icmperr", "netbackend/nat/internal/ipaddr", "netbackend/nat/internal/ledger", "netbackend/nat/internal/limits",
		"netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy", "netbackend/nat/internal/shard",
		"netbackend/nat/internal/source", "virtqueue/guestmem", "virtqueue/vnet", sys,
	},
	"netbackend/nat/internal/source": {
		"netbackend/nat/internal/egress",
		"netbackend/nat/internal/hostsock", "netbackend/nat/internal/ipaddr", "netbackend/nat/internal/netpkt",
		"netbackend/nat/internal/ratelimit", "netbackend/nat/internal/route", "netbackend/nat/internal/shard", sys,
	},
	"netbackend/nat/internal/tcp": {
		"netbackend/nat/internal/egress", "netbackend/nat/internal/proxyclient", "netbackend/nat/spec",
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/hosts", "netbackend/nat/internal/hostsock",
		"netbackend/nat/internal/icmperr", "netbackend/nat/internal/ipaddr", "netbackend/nat/internal/ledger", "netbackend/nat/internal/limits",
		"netbackend/nat/internal/link", "netbackend/nat/internal/measure", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy",
		"netbackend/nat/internal/seqnum", "netbackend/nat/internal/shard", "netbackend/nat/proxyproto", "netbackend/nat/stats",
		"virtqueue", "virtqueue/guestmem", "virtqueue/vnet", sys,
	},
	"netbackend/nat/internal/udp": {
		"netbackend/nat/internal/bootserver", "netbackend/nat/internal/egress", "netbackend/nat/spec",
		"netbackend", "netbackend/nat/forward", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/fragments",
		"netbackend/nat/internal/hosts", "netbackend/nat/internal/hostsock", "netbackend/nat/internal/icmperr",
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/ledger", "netbackend/nat/internal/limits", "netbackend/nat/internal/link",
		"netbackend/nat/internal/listeners", "netbackend/nat/internal/measure", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy",
		"netbackend/nat/internal/ratelimit", "netbackend/nat/internal/route", "netbackend/nat/internal/shard",
		"netbackend/nat/internal/source", "netbackend/services/dhcp6", "virtqueue/guestmem", "virtqueue/vnet", sys,
	},
	"netbackend/nat/internal/presence": {"netbackend/nat/internal/hosts", "netbackend/nat/internal/shard", "netbackend/nat/stats"},
	"netbackend/nat/internal/reports": {
		"netbackend/nat/internal/flowtable", "netbackend/nat/internal/gate", "netbackend/nat/internal/ipfrag",
		"netbackend/nat/internal/limits", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/pathmtu",
		"netbackend/nat/internal/seqnum", "netbackend/nat/internal/shard", "netbackend/nat/internal/tcp",
		"netbackend/nat/internal/udp", "netbackend/nat/stats",
	},
	"netbackend/nat/internal/review": {
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/policy",
		"netbackend/nat/internal/route", "netbackend/nat/internal/shard", "netbackend/nat/internal/tcp",
		"netbackend/nat/internal/udp", "netbackend/nat/stats",
	},
	"netbackend/nat/internal/stray": {
		"netbackend", "netbackend/nat/internal/flowtable", "netbackend/nat/internal/groups", "netbackend/nat/internal/icmperr",
		"netbackend/nat/internal/ipaddr", "netbackend/nat/internal/netpkt", "netbackend/nat/internal/shard", sys,
	},
	"netbackend/nat/internal/timerwheel": {"netbackend/nat/internal/flowtable"},

	"netbackend/services/arp":      {tcpip},
	"netbackend/services/dhcp4":    {"netbackend/services/hostconf", "netbackend/services/lease", multierr, dhcp},
	"netbackend/services/dhcp6":    {"netbackend/services/hostconf", "netbackend/services/lease", dhcp},
	"netbackend/services/dns":      {"internal/regularfile", "netbackend/services/dnsmsg", dns},
	"netbackend/services/dnscache": {dns},
	"netbackend/services/dnsconn":  {"netbackend/services/dns"},
	"netbackend/services/dnsmsg":   {dns},
	"netbackend/services/dnszone":  {"netbackend/services/dnsmsg", dns},
	"netbackend/services/hostconf": {multierr, dns},
	"netbackend/services/lease":    {},
	"netbackend/services/tftp":     {},
	"netbackend/services/ndp":      {"netbackend/services/hostconf", tcpip},

	"integration/lab/guest":       {"integration/lab/guest/proto", "integration/lab/userland", cpio},
	"integration/lab/guest/agent": {"integration/lab/guest/proto", sys, netlink},
	"integration/lab/guest/init": {"integration/lab/guest/agent", "integration/lab/guest/proto", "integration/lab/segments", "internal/netlinkdump",
		"integration/lab/talk", "internal/dhcpclient", sys, xnet, netlink, dhcp},
	"integration/lab/guest/proto": {},
	"integration/lab/hostile":     {"vhostuser/frontend", "virtqueue/vnet", "virtqueue/vqtest", sys, checksum},
	"integration/lab/netns":       {sys},
	"integration/lab/overheard":   {"integration/lab/netns", sys},
	"integration/lab/process":     {},
	"integration/lab/qemu":        {"integration/lab/guest", "integration/lab/process", "integration/lab/userland"},
	"integration/lab/segments":    {sys},
	"integration/lab/talk":        {"integration/lab/guest/proto", sys},
	"integration/lab/tapguest":    {"integration/lab/netns", sys},
	"integration/lab/tcpdump":     {"integration/lab/guest", "integration/lab/netns", "integration/lab/process"},
	"integration/lab/testpmd":     {"integration/lab/process", "integration/lab/userland"},
	"integration/lab/terminal":    {"github.com/charmbracelet/x", "github.com/creack/pty"},
	"integration/lab/uml":         {"integration/lab/guest", "integration/lab/process", "integration/lab/userland", sys},
	"integration/lab/userland":    {sys},
}

// testOnly are packages that only tests, bench and integration may import.
var testOnly = []string{"virtqueue/vqtest", "vhostuser/frontend", "netbackend/porttest", "netbackend/nat/internal/shardtest", "bench", "integration"}

// goPackage is what `go list -json` tells of a package.
type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string

	TestImports, XTestImports []string
}

// modules returns the directories of the project's modules: those with a go.mod. The product's comes first.
func modules(t *testing.T) []string {
	root := projectRoot(t)
	nested, err := filepath.Glob(filepath.Join(root, "*", "go.mod"))
	require.NoError(t, err)
	require.NotEmpty(t, nested, "the benchmarks are a module of their own")
	dirs := []string{root}
	for _, file := range nested {
		dirs = append(dirs, filepath.Dir(file))
	}
	return dirs
}

// listPackages lists the packages of all modules.
func listPackages(t *testing.T) (packages []goPackage) {
	for _, dir := range modules(t) {
		list := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")
		list.Dir, list.Stderr = dir, os.Stderr
		out, err := list.Output()
		require.NoError(t, err)
		packages = append(packages, decodePackages(t, out)...)
	}
	return packages
}

// decodePackages reads what `go list -json` prints.
func decodePackages(t *testing.T, text []byte) (packages []goPackage) {
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// short returns a path without the module's.
func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

// within tells whether path is prefix or lies below it.
func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func withinAny(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return within(path, p) })
}

// isStandard reports whether an import is of the standard library: those have no dot in their first element.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// importFault returns what is wrong with an import, by the table; empty if nothing is. What a package links follows from
// what each one imports itself.
func importFault(pkg, path string) string {
	row, found := allowedImports[pkg]
	switch {
	case isStandard(path):
	case withinAny(short(path), testOnly) && !withinAny(pkg, testOnly):
		return "it is for tests, bench and integration only"
	case found && !mayImport(row, short(path)):
		return "its row in the table of imports does not have it"
	}
	return ""
}

// mayImport reports whether a row of the table has an import.
func mayImport(row []string, path string) bool {
	return slices.ContainsFunc(row, func(may string) bool { return path == may || !isStandard(may) && within(path, may) })
}

// needsRow reports whether a package must have a row in the table.
func needsRow(pkg string) bool {
	return within(pkg, lab) || !withinAny(pkg, []string{"cmd", "bench", "integration"})
}

func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	rows := maps.Clone(allowedImports)
	for _, p := range listPackages(t) {
		pkg := short(p.ImportPath)
		if _, found := allowedImports[pkg]; !found && needsRow(pkg) {
			t.Errorf("package %s is not in the table of imports: which packages may it import?", pkg)
		}
		delete(rows, pkg)
		for _, path := range p.Imports {
			if fault := importFault(pkg, path); fault != "" {
				t.Errorf("%s must not import %s: %s", pkg, short(path), fault)
			}
		}
	}
	require.Empty(t, rows, "rows of packages that there are not")
}

func TestTheTableHoldsForThatPackageOnly(t *testing.T) {
	for _, c := range []struct {
		pkg, path string
		allowed   bool
	}{
		{"netbackend/worker", module + "/netbackend", true},
		{"netbackend/worker", module + "/netbackend/nat", false},
		{"netbackend/worker", module + "/virtqueue/vqtest", false},
		{"netbackend/worker", sys + "/unix", true},
		{"netbackend/worker", netlink, false},
		{"netbackend/worker", "net/netip", true},
		{"netbackend/porttest", module + "/netbackend/nat", false},
		{"netbackend/porttest", module + "/virtqueue/vqtest", true},
		{"netbackend/nat/internal/ipaddr", module + "/netbackend/nat", false},
		{"integration/lab/netns", module + "/virtqueue", false},
		{"cmd/vring", module + "/virtqueue/vqtest", false},
		{"cmd/vring", netlink, true},
		{"bench/nat", module + "/virtqueue/vqtest", true},
	} {
		require.Equal(t, c.allowed, importFault(c.pkg, c.path) == "", "%s imports %s", c.pkg, c.path)
	}
}

// Whoever uses a package of the product builds with what its module requires.
func TestTheProductRequiresNothingThatOnlyBenchmarksNeed(t *testing.T) {
	root := modules(t)[0]
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	for _, name := range []string{"gonum.org", "go-fonts", "golang.org/x/image", "replace "} {
		require.NotContains(t, string(text), name)
	}
	for _, p := range listPackages(t) {
		if withinAny(short(p.ImportPath), []string{"bench"}) {
			continue
		}
		for _, path := range p.Imports {
			require.False(t, within(short(path), "bench"), "%s imports %s, which is of another module", p.ImportPath, path)
		}
	}
}

func TestWhatModulesRequireIsTidy(t *testing.T) {
	for _, dir := range modules(t) {
		tidy := exec.Command("go", "mod", "tidy", "-diff")
		tidy.Dir = dir
		out, err := tidy.CombinedOutput()
		require.NoError(t, err, "run go mod tidy in %s:\n%s", dir, out)
	}
}

func TestEveryPackageIsExplained(t *testing.T) {
	for _, p := range listPackages(t) {
		if !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("package %s has no doc.go", short(p.ImportPath))
		}
	}
}

func projectRoot(t *testing.T) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}
