package qemurun

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vringnet/vring/internal/qemuopt"
)

// network is a user network of the command line, whose place vring takes, and the guest's card in it.
type network struct {
	at   int    // of its option
	by   string // name of its option: netdev, nic or net
	user properties
	card properties // those of the network with -nic
	from int        // option of the card; that of the network with -nic
}

// putNetwork lets vring be the guest's network: in the place of a user network, or as one more.
func (r *rewriter) putNetwork() error {
	n, err := r.findUserNetwork()
	if err != nil {
		return err
	}
	if n == nil {
		return r.addNetwork()
	}
	if err := r.takePlace(n); err != nil {
		return err
	}
	options, notes, err := translate(n.user, n.card.get("mac"))
	r.plan.NAT, r.plan.Notes = options, append(r.plan.Notes, notes...)
	return err
}

// addNetwork adds a network with its card.
func (r *rewriter) addNetwork() error {
	if r.has("net") {
		return errors.New("-net: vring cannot be part of QEMU's hubs; write -nic or -netdev, or leave the network out")
	}
	r.options = append(r.options, r.connection(networkID)...)
	r.options = append(r.options, r.device(networkID, properties{{"driver", qemuopt.Card}}))
	return nil
}

// connection is the socket and the network.
func (r *rewriter) connection(id string) []option {
	g := qemuopt.Guest{Version: r.host.Version, Socket: r.host.Socket, Queues: r.host.Queues}
	return []option{written("chardev", g.Chardev()), written("netdev", g.NetdevOf(id))}
}

// device is a card, made from what -nic or -net says of it.
func (r *rewriter) device(id string, card properties) option {
	value := card.get("driver") + ",netdev=" + id
	for _, key := range []string{"mac", "addr", "vectors"} {
		if v := card.get(key); v != "" {
			value += "," + key + "=" + v
		}
	}
	value, _ = with(value, r.needed()...) // no JSON: it can be read
	return written("device", value)
}

// needed is what a card must have.
func (r *rewriter) needed() (list []property) {
	if r.host.Queues > 1 {
		list = append(list, property{"mq", "on"})
	}
	if r.host.MAC != "" {
		list = append(list, property{"mac", r.host.MAC})
	}
	if !r.plan.KVM && r.host.Version.NeedsNoVectors() {
		key, value, _ := strings.Cut(qemuopt.NoVectors, "=")
		list = append(list, property{key, value})
	}
	return list
}

// findUserNetwork looks for the user network, nil if there is none.
func (r *rewriter) findUserNetwork() (found *network, err error) {
	for i, o := range r.options {
		if o.name != "netdev" && o.name != "nic" && o.name != "net" {
			continue
		}
		list, err := readProperties(o.value, "type")
		if err != nil {
			return nil, wrap(o, err)
		}
		switch kind := list.get("type"); {
		case kind == "vhost-user" && !r.host.More:
			return nil, fmt.Errorf("-%s %s: the guest has a vhost-user network; vring run adds one, so leave it out", o.name, o.value)
		case kind == "user" && found != nil:
			return nil, errors.New("there are two user networks; vring run takes the place of one")
		case kind == "user":
			found = &network{at: i, by: o.name, user: list}
		}
	}
	if found == nil {
		return nil, nil
	}
	return found, r.findCard(found)
}

// findCard looks for the card in a user network, and gives it the names of -device.
func (r *rewriter) findCard(n *network) (err error) {
	n.from = n.at
	if n.by == "nic" {
		n.card = n.user.renamed("model", "driver")
		return nil
	}
	for i, o := range r.options {
		list, err := readProperties(o.value, "driver")
		switch {
		case o.name != n.cardOption():
			continue
		case err != nil:
			return wrap(o, err)
		case n.by == "netdev" && list.get("netdev") == n.user.get("id"):
			n.card, n.from = list, i
			return nil
		case n.by == "net" && list[0].value == "nic":
			n.card, n.from = list[1:].renamed("model", "driver").renamed("macaddr", "mac"), i
			return nil
		}
	}
	return fmt.Errorf("-%s user: no card is connected to it; write -device %s,netdev=%s", n.by, qemuopt.Card, n.user.get("id"))
}

// cardOption is the name of the option that says a card.
func (n *network) cardOption() string {
	if n.by == "netdev" {
		return "device"
	}
	return "net"
}

// takePlace puts vring into the place of a user network.
func (r *rewriter) takePlace(n *network) error {
	if err := r.setModel(n); err != nil {
		return err
	}
	id := n.user.get("id")
	if id == "" {
		id = networkID
	}
	if n.by == "netdev" {
		value, err := with(r.options[n.from].value, r.needed()...)
		if err != nil {
			return wrap(r.options[n.from], err)
		}
		r.options[n.from] = written("device", value)
		r.options[n.at].words = join(r.connection(id))
		return nil
	}
	r.options[n.from].words = nil // which is at with -nic
	r.options[n.at].words = join(append(r.connection(id), r.device(id, n.card)))
	return nil
}

// setModel sees to it that the card is one that vring serves.
func (r *rewriter) setModel(n *network) error {
	model := n.card.get("driver")
	switch {
	case model == "" && n.by != "netdev" || model == "virtio":
		n.card = append(n.card, property{"driver", qemuopt.Card})
		if model == "" {
			r.note("The guest's card is %s, the kind that vring serves, whatever the machine's own would be.", qemuopt.Card)
		}
	case !strings.HasPrefix(model, "virtio-net"):
		return fmt.Errorf("the guest's card is %s: vring serves those of virtio-net only; write %s", model, qemuopt.Card)
	}
	return nil
}
