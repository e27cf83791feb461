package control

import (
	"net"
	"net/http"
	"time"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

func (s *Server) uplink(r *http.Request, _ []byte) (any, error) {
	name := r.PathValue("name")
	g, err := s.publishedGuest(name)
	if err != nil {
		return nil, err
	}
	if g.Uplink == nil {
		return nil, failed(http.StatusUnprocessableEntity, "%s is a guest, and no uplink of a switch", cut(name))
	}
	return s.uplinkOf(name, g.Uplink), nil
}

func (s *Server) uplinkOf(name string, u *daemon.UplinkStatus) *api.Uplink {
	answer := &api.Uplink{To: u.To.String(), Switch: u.Switch, MTU: u.MTU, TooLarge: u.TooLarge, Remotes: []api.UplinkRemote{}, Addresses: []api.UplinkAddress{}}
	for _, r := range u.Remotes {
		remote := api.UplinkRemote{Address: r.Addr.String(), Addresses: r.Addresses}
		if r.Heard >= 0 {
			ago := r.Heard.Milliseconds()
			remote.HeardMillis = &ago
		}
		answer.Remotes = append(answer.Remotes, remote)
	}
	entries, _ := s.Daemon.BehindUplink(name, api.MaxUplinkAddresses)
	for _, e := range entries {
		mac := e.MAC.Bytes()
		answer.Addresses = append(answer.Addresses, api.UplinkAddress{
			MAC: net.HardwareAddr(mac[:]).String(), VLAN: int(e.VLAN), Remote: answer.Remotes[e.Port].Address, AgeMillis: e.Age / int64(time.Millisecond),
		})
	}
	return answer
}
