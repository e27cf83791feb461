package integration

import (
	"testing"

	"github.com/vringnet/vring/integration/lab/userland"
)

// kind is a front end that has a Linux guest.
type kind struct {
	userland userland.Userland // its generation, and that of the guest's kernel
	uml      bool              // User-mode Linux; otherwise QEMU
	listens  bool              // QEMU listens, for vring --client
	slots    int               // memory devices that may be plugged into QEMU
	queues   int               // queue pairs of QEMU, if not one, with a processor for each; the guest has the tools of labs
	device   string            // more properties of QEMU's network card, if any
	frontEnd string            // as vring calls it, if it is not vhost-user
	card     string            // the model of QEMU's network card, if it is not virtio's
}

// link returns what the guest's network card is called there.
func (k kind) link() string {
	if k.uml && k.frontEnd != "" {
		return "vec0"
	}
	return card
}

// vring returns what vring must be told to serve such a front end.
func (k kind) vring() []string {
	if k.frontEnd == "" {
		return nil
	}
	return []string{"--front-end", k.frontEnd}
}

// onQEMU is the QEMU of a generation.
func onQEMU(u userland.Userland) kind { return kind{userland: u} }

// onUML is the User-mode Linux of a generation.
func onUML(u userland.Userland) kind { return kind{userland: u, uml: true} }

// onListeningQEMU is QEMU that vring connects to.
func onListeningQEMU(u userland.Userland) kind { return kind{userland: u, listens: true} }

// onQEMUWithTwo is QEMU with two queue pairs.
func onQEMUWithTwo(u userland.Userland) kind { return kind{userland: u, queues: 2} }

// kernelArgs returns what the guest's kernel must know.
func (k kind) kernelArgs() string {
	if k.slots > 0 {
		return "memhp_default_state=offline" // it does not use new memory, and so can give it back at any time
	}
	return ""
}

// String returns the name of a subtest on such a front end: it tells the generation.
func (k kind) String() string {
	name := map[bool]map[userland.Userland]string{
		false: {userland.Bookworm: "QEMU 7.2", userland.Forky: "QEMU 11"},
		true:  {userland.Bookworm: "UML 6.1", userland.Forky: "UML 7"},
	}[k.uml][k.userland]
	switch {
	case k.listens:
		name += " listens"
	case k.queues > 1:
		name += " with two queue pairs"
	case k.frontEnd != "":
		name += " by " + k.frontEnd + " " + k.card
	}
	return name
}

// both are the generations.
func both() []userland.Userland { return []userland.Userland{userland.Bookworm, userland.Forky} }

// onAll runs a test on each of several kinds of guests.
func onAll(t *testing.T, test func(t *testing.T, kind kind), kinds ...kind) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) { test(t, kind) })
	}
}

// atOnceOnAll is onAll with as many guests at a time as there are processors: an emulated one keeps no more than one busy,
// and waits now and then. It is for tests that measure neither processor time nor how long something takes.
func atOnceOnAll(t *testing.T, test func(t *testing.T, kind kind), kinds ...kind) {
	t.Helper()
	onAll(t, func(t *testing.T, kind kind) {
		t.Parallel()
		test(t, kind)
	}, kinds...)
}

// atOnceOnEach is onEach with several guests at a time.
func atOnceOnEach(t *testing.T, test func(t *testing.T, kind kind)) {
	t.Helper()
	both := both()
	atOnceOnAll(t, test, onQEMU(both[0]), onQEMU(both[1]), onUML(both[0]), onUML(both[1]))
}

// atOnceOnEachQEMU is onEachQEMU with both guests at a time.
func atOnceOnEachQEMU(t *testing.T, test func(t *testing.T, kind kind)) {
	t.Helper()
	atOnceOnAll(t, test, onQEMU(userland.Bookworm), onQEMU(userland.Forky))
}

// onEach runs a test on each front end of both generations: it is for what depends on the front end or on the guest's driver.
func onEach(t *testing.T, test func(t *testing.T, kind kind)) {
	t.Helper()
	for _, u := range both() {
		onAll(t, test, onQEMU(u), onUML(u))
	}
}

// onEachDPDK runs a test with the DPDK of each generation.
func onEachDPDK(t *testing.T, test func(t *testing.T, u userland.Userland)) {
	t.Helper()
	names := map[userland.Userland]string{userland.Bookworm: "DPDK 22", userland.Forky: "DPDK 25"}
	for _, u := range both() {
		t.Run(names[u], func(t *testing.T) { test(t, u) })
	}
}

// onEachQEMU runs a test on QEMU of both generations.
func onEachQEMU(t *testing.T, test func(t *testing.T, kind kind)) {
	t.Helper()
	onAll(t, test, onQEMU(userland.Bookworm), onQEMU(userland.Forky))
}

// onOneOfEach runs a test on QEMU of one generation and on User-mode Linux of the other: it is for what goes on behind the
// rings, where a slow and a fast guest may make a difference.
func onOneOfEach(t *testing.T, qemu userland.Userland, test func(t *testing.T, kind kind)) {
	t.Helper()
	other := map[userland.Userland]userland.Userland{userland.Bookworm: userland.Forky, userland.Forky: userland.Bookworm}
	onAll(t, test, onQEMU(qemu), onUML(other[qemu]))
}
