package daemon

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/tap"
)

// leaves are the paths of all fields of a configuration that are no structs of it.
func leaves(in reflect.Type, path string) (all []string) {
	for i := range in.NumField() {
		f := in.Field(i)
		below := f.Type
		if below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		if below.Kind() == reflect.Struct && below.PkgPath() == in.PkgPath() {
			all = append(all, leaves(below, path+f.Name+".")...)
			continue
		}
		all = append(all, path+f.Name)
	}
	return all
}

func TestEachFieldSaysWhetherItCanChangeWhileGuestsAreServed(t *testing.T) {
	var told []string
	for _, f := range Fields() {
		told = append(told, f.Path)
		require.NotEmpty(t, f.Reason, f.Path)
		require.NotEmpty(t, f.Options, f.Path)
	}
	require.ElementsMatch(t, leaves(reflect.TypeFor[Config](), ""), told)
	walk(reflect.TypeFor[Config](), "", nil, func(f reflect.StructField, path string, _ []int) {
		_, live := f.Tag.Lookup("live")
		_, fixed := f.Tag.Lookup("fixed")
		require.NotEqual(t, live, fixed, path)
		switch f.Type.Kind() {
		case reflect.Int, reflect.Int64, reflect.Uint64:
			_, hasUnit := f.Tag.Lookup("unit")
			require.True(t, hasUnit || f.Name == "Queues", "%s: a number has a unit", path)
		}
	})
}

// What an option is about has one name, but what a network has of its own may be called as that of another one.
func TestOptionsHaveTheirNames(t *testing.T) {
	names := map[Option]bool{}
	for _, f := range Fields() {
		for _, o := range f.Options {
			names[o] = true
		}
	}
	for _, o := range []Option{
		optionSocketPath, optionClient, optionSocketMode, optionSocketGroup, optionFD, optionFrontEnd, optionOneOff, optionQueues, optionPoll, optionCPUs,
		optionLogLevel, optionLogFormat, optionNetwork, optionShared, optionNetwork6, optionMTU, optionSearch, optionDNS, optionTAP, optionSwitchName, optionFlood, optionAgeing, optionMode, optionSizes, optionMAC,
		optionForward, optionControl, optionMetrics, optionGuestAddress, optionRouter, optionRouterMAC, optionDNSRelay, optionNameServer,
	} {
		require.True(t, names[o], o)
	}
}

func TestDefaultsAreThoseThatTheFieldsTell(t *testing.T) {
	nat, tap, stub := DefaultNAT(), DefaultTAP(), DefaultStub()
	c := Config{NAT: &nat, TAP: &tap, Switch: &Switch{}, Stub: &stub, Threads: Threads{Poll: DefaultPoll}}
	zero := []string{"NAT.Network6", "FrontEnds.SocketMode", "Log.Level", "Log.Format", "FrontEnds.Kind", "Switch.Flood", "Switch.Ageing"} // values that stand for the default
	walk(reflect.TypeFor[Config](), "", nil, func(f reflect.StructField, path string, index []int) {
		value, want := at(&c, index), f.Tag.Get("default")
		switch {
		case slices.Contains(zero, path):
			require.True(t, value.IsZero(), path)
		case want == "":
			require.True(t, value.IsZero(), path)
		case f.Tag.Get("unit") == "microseconds":
			require.Equal(t, want, fmt.Sprint(value.Interface().(time.Duration).Microseconds()), path)
		default:
			require.Equal(t, want, fmt.Sprint(value.Interface()), path)
		}
	})
}

// runningConfig is a configuration as it may run.
func runningConfig() Config {
	nat := DefaultNAT()
	return Config{NAT: &nat, FrontEnds: FrontEnds{SocketPaths: []string{"/run/a"}}}
}

func TestAChangeNeedsANewProcessWhereAFieldSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		path   string
		fault  string
	}{
		"nothing": {func(*Config) {}, "", ""},
		"live":    {func(c *Config) { c.NAT.Resolvers = dns.Plain(netip.MustParseAddrPort("192.0.2.1:53")) }, "NAT.Resolvers", ""},
		"a bool":  {func(c *Config) { c.NAT.Restrict = true }, "NAT.Restrict", ""},
		"fixed":   {func(c *Config) { c.NAT.MTU = 9000 }, "NAT.MTU", "mtu cannot change while guests are served: guests were told"},
		"a list": {func(c *Config) { c.FrontEnds.SocketPaths = []string{"/run/b"} }, "FrontEnds.SocketPaths",
			"socket-path cannot change while guests are served: guests that share a network are opened before"},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := runningConfig(), runningConfig()
			c.change(&after)
			changed, err := Compare(&before, &after)
			if c.path == "" {
				require.Empty(t, changed)
			} else {
				require.Len(t, changed, 1)
				require.Equal(t, c.path, changed[0].Path)
			}
			if c.fault == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.fault)
		})
	}
}

func TestGuestsStayWithTheirNetwork(t *testing.T) {
	before, after := runningConfig(), runningConfig()
	after.NAT, after.TAP = nil, &TAP{Devices: []string{"tap0"}, VLANs: tap.VLANs{Access: 3}}
	_, err := Compare(&before, &after)
	require.ErrorContains(t, err, "dns cannot change while guests are served: guests stay with their network")
	require.ErrorContains(t, err, "tap cannot change while guests are served")
}
