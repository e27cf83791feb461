package daemon

import (
	"net/netip"

	"github.com/hashicorp/go-multierror"
)

// ParseUI reads where the web page is: MetricsForm. A port alone is one of the loopback.
func ParseUI(text string) (netip.AddrPort, error) { return parsePort(optionUI, text) }

// checkUI returns what is wrong with the address of the web page.
func (c *Config) checkUI() error {
	if !c.UI.IsValid() {
		return nil
	}
	errs := multierror.Append(nil, checkPort(optionUI, c.UI))
	if !c.UI.Addr().IsLoopback() {
		errs = multierror.Append(errs, faultf("%s %s: the page is not encrypted, so it is on the loopback only, as in %s %d; from another host use ssh -L %[4]d:127.0.0.1:%[4]d",
			optionUI, c.UI, optionUI, c.UI.Port()))
	}
	if !c.HasControl() {
		errs = multierror.Append(errs, faultf("%s needs a control socket, which the page asks; name one with %s", optionUI, optionControl))
	}
	return errs.ErrorOrNil()
}

// ControlPath is where the control socket is, or is to be; "" for none.
func (c *Config) ControlPath() string {
	path, err := c.controlSocket()
	if err != nil {
		return "" // the daemon tells that
	}
	return path
}
