package shard

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
)

// FirstAnyPort is the first of the ports that mean nothing (RFC 6335 section 6).
const FirstAnyPort = 49152

// FreePort finds a remote port under which key is not in use yet, the peer's own if possible.
func (t *Turn) FreePort(key *flowtable.Key) bool {
	const tries = 64
	for i := range uint16(tries) {
		if key.RemotePort != 0 && t.Flows.Find(key) == nil {
			return true
		}
		key.RemotePort = FirstAnyPort + uint16(t.Identity.Initial(key, t.Now)+uint32(i))%(65535-FirstAnyPort)
	}
	return false
}

// IDHash makes initial sequence numbers that cannot be guessed, but rise for each pair of endpoints, so that a new
// connection is not taken for an old one (RFC 6528).
type IDHash struct {
	secret [32]byte
	fixed  func() uint32 // tests choose the numbers
}

func newIDHash(fixed func() uint32) (IDHash, error) {
	s := IDHash{fixed: fixed}
	_, err := rand.Read(s.secret[:])
	return s, err
}

// Fragments returns where the identifications of fragments to the guest begin for the pair of addresses in k.
func (s *IDHash) Fragments(k *flowtable.Key) uint32 {
	pair := flowtable.Key{Guest: k.Guest, Remote: k.Remote, Proto: k.Proto}
	return s.Initial(&pair, 0)
}

// Initial returns the number for a connection that begins now (nanoseconds). It advances every 64 ns.
func (s *IDHash) Initial(k *flowtable.Key, now int64) uint32 {
	if s.fixed != nil {
		return s.fixed()
	}
	var b [32 + 37]byte
	key := k.Bytes()
	copy(b[:], s.secret[:])
	copy(b[32:], key[:])
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint32(sum[:]) + uint32(now>>6)
}
