package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/spelling"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// instead is what options of other programs are here. Keys are long options without dashes, or single letters.
func instead() map[string]string {
	const (
		boot     = "what the guest boots is given with --boot-file, and files by TFTP with --tftp DIRECTORY, or with --boot-server"
		forward  = "a forward of ports is -p HOST-PORT:GUEST-PORT"
		udp      = "a forward of UDP is -p udp:HOST-PORT:GUEST-PORT"
		socket   = "the socket is --socket-path PATH"
		network  = "the guest's addresses follow from --network ADDRESS/BITS"
		verbose  = "more is logged with --log-level debug"
		services = "services of the host are opened with --allow-host tcp:PORT"
		stays    = "vring stays in the foreground; systemd or & put it into the background"
	)
	return map[string]string{
		"t": forward, "T": forward, "tcp-ports": forward, "publish": forward, "hostfwd": forward, "port": forward, "L": forward,
		"u": udp, "U": udp, "udp-ports": udp,
		"s": socket, "socket": socket, "listen": socket, "listen-qemu": socket, "vhost-user": socket, "chardev": socket,
		"a": network, "address": network, "g": network, "gateway": network, "n": network, "netmask": network, "net": network,
		"subnet": network, "cidr": network, "host": network, "dhcpstart": network,
		"D": "resolvers are given with --dns ADDRESS", "dns-forward": "resolvers are given with --dns ADDRESS",
		"m": "the MTU is given with --mtu BYTES",
		"d": verbose, "debug": verbose, "verbose": verbose, "trace": verbose,
		"q": "less is logged with --log-level warn", "quiet": "less is logged with --log-level warn",
		"map-host-loopback": services, "map-gw": services, "enable-host-loopback": services,
		"guestfwd":  "a destination of the guest is led to the host with --redirect tcp:ADDRESS:PORT=127.0.0.1:PORT",
		"no-map-gw": "services of the host are closed unless --allow-host opens them",
		"f":         stays, "foreground": stays, "daemon": stays, "daemonize": stays, "b": stays, "background": stays,
		"i": "a TAP device is named by vring tap --tap NAME", "interface": "a TAP device is named by vring tap --tap NAME",
		"ifname": "a TAP device is named by vring tap --tap NAME", "I": "a TAP device is named by vring tap --tap NAME",
		"br":        "a bridge is named by vring tap --bridge NAME",
		"netdev":    "that is an option of QEMU; vring prints the whole command line for it",
		"ipv4-only": "IPv6 is left out with --network6 off", "4": "IPv6 is left out with --network6 off",
		"v": "the version is printed by vring --version", "V": "the version is printed by vring --version",
		"version":          "the version is printed by vring --version",
		"ssh-port":         "a forward for ssh is -p 2222:22",
		"S":                "search domains are given with --search DOMAIN, once for each",
		"tftp-server-name": boot, "bootfile": boot, "dhcp-boot": boot, "pxe": boot,
		"dhcp-host": "an address for a certain host is given with --lease MAC=ADDRESS", "dnssearch": "search domains are given with --search DOMAIN, once for each",
		"domainname": "the domain is given with --domain NAME",
	}
}

// wrongFlag says what is wrong with a flag, as pflag tells it, and what to write.
func wrongFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		return wrongUse(unknownFlag(cmd, unknown))
	case errors.As(err, &invalid):
		return wrongUse(invalidValue(invalid.GetFlag(), invalid.GetValue()))
	case errors.As(err, &missing):
		f := missing.GetFlag()
		return wrongUse(fmt.Errorf("--%s: a value is needed, %s", f.Name, wanted(f, "")))
	}
	return wrongUse(err)
}

func unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	name := "--" + err.GetSpecifiedName()
	if letters := err.GetSpecifiedShortnames(); letters != "" {
		name = "-" + letters
		if cure, ok := instead()[letters]; ok && len(letters) > 1 {
			return fmt.Errorf("unknown flag %s; %s", name, cure)
		}
	}
	if cure, ok := instead()[err.GetSpecifiedName()]; ok {
		return fmt.Errorf("unknown flag %s; %s", name, cure)
	}
	if near := nearestFlag(cmd, strings.TrimLeft(name, "-")); near != "" {
		return fmt.Errorf("unknown flag %s; did you mean --%s?", name, near)
	}
	return fmt.Errorf("unknown flag %s", name)
}

// nearestFlag returns the flag of cmd whose name is most like name, "" if none is.
func nearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return spelling.Nearest(name, names)
}

func invalidValue(f *pflag.Flag, value string) error {
	if value == "" {
		return fmt.Errorf("--%s: the value is empty; want %s", f.Name, wanted(f, value))
	}
	return fmt.Errorf("--%s %q: want %s", f.Name, value, wanted(f, value))
}

// wanted says what the values of a flag look like, for one that was given wrongly.
func wanted(f *pflag.Flag, value string) string {
	switch f.Value.Type() {
	case "duration":
		if n, err := strconv.ParseUint(value, 10, 31); err == nil {
			return fmt.Sprintf("a time with its unit, as in %ds", n)
		}
		return "a time with its unit, as in 30s"
	case "bool":
		return fmt.Sprintf("true or false; --%s alone means true", f.Name)
	case "int", "uint16", "uint64":
		if n, ok := thousands(value); ok {
			return fmt.Sprintf("a whole number, as in %d", n)
		}
		return "a whole number"
	}
	name, _ := pflag.UnquoteUsage(f)
	return "as in --" + f.Name + " " + name
}

// thousands reads 9k.
func thousands(text string) (int, bool) {
	digits, k := strings.CutSuffix(strings.ToLower(text), "k")
	n, err := strconv.ParseUint(digits, 10, 16)
	return int(n) * 1000, k && err == nil && n > 0
}

// emptyValues returns a fault for each flag of cmd that was given without a value: that of an unset variable of a script.
func emptyValues(cmd *cobra.Command) (faults []error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		} else if f.Value.Type() != "string" {
			return
		}
		for _, v := range values {
			if v == "" {
				faults = append(faults, fmt.Errorf("--%s: the value is empty; leave the flag out, or give it a value", f.Name))
			}
		}
	})
	return faults
}

// noArgs refuses arguments, and says what they probably were to be.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return wrongUse(fmt.Errorf("unexpected %q; %s", args[0], meant(cmd, args[0])))
}

// nearCommand returns the command below cmd that an argument was probably to be, "" for none.
func nearCommand(cmd *cobra.Command, arg string) string {
	near := cmd.SuggestionsFor(arg)
	if len(near) == 0 {
		return ""
	}
	return cmp.Or(spelling.Nearest(arg, near), near[0])
}

// meant says what an argument was probably to be.
func meant(cmd *cobra.Command, arg string) string {
	isRoot := !cmd.HasParent()
	prefix, flag := "write ", func(name string) bool { return isRoot || cmd.Flags().Lookup(name) != nil }
	if isRoot {
		prefix = "write vring nat "
	}
	_, forwardErr := spec.ParseForward(arg)
	_, networkErr := netip.ParsePrefix(arg)
	switch {
	case isRoot && nearCommand(cmd, arg) != "":
		return fmt.Sprintf("did you mean vring %s?", nearCommand(cmd, arg))
	case networkErr == nil && flag("network"):
		return prefix + "--network " + arg
	case strings.ContainsRune(arg, '/') && !strings.Contains(arg, ":") && flag("socket-path"):
		return prefix + "--socket-path " + arg
	case strings.HasSuffix(arg, ".sock") && flag("socket-path"):
		return prefix + "--socket-path " + arg
	case (forwardErr == nil || strings.Contains(forwardErr.Error(), "; write -p ")) && flag("forward"):
		return prefix + "-p " + arg
	case isRoot:
		return "commands are nat, tap, switch, stub, serve, ctl, config, doctor, man and completion"
	}
	return "this command takes flags only"
}
