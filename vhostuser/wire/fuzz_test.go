package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDecode checks that whatever decodes encodes again, and that the encoded form decodes to the same message.
func FuzzDecode(f *testing.F) {
	for _, file := range recordedFiles() {
		for _, r := range readRecorded(f, file) {
			f.Add(r.b, r.fds)
		}
	}
	f.Add(le32(0, version, 0), 0)
	f.Add(append(le32(5, version, 8), le32(9, 0)...), 8)
	f.Fuzz(func(t *testing.T, b []byte, fds int) {
		if len(b) < HeaderSize {
			return
		}
		h, err := DecodeHeader(b)
		if err != nil || len(b) < HeaderSize+int(h.Size) {
			return
		}
		m, err := Decode(h, b[HeaderSize:HeaderSize+h.Size], fds)
		if err != nil {
			return
		}
		encoded := m.Append(nil)
		h2, err := DecodeHeader(encoded)
		require.NoError(t, err)
		require.Len(t, encoded, HeaderSize+int(h2.Size))
		m2, err := Decode(h2, encoded[HeaderSize:], fds)
		require.NoError(t, err)
		require.Equal(t, m, m2)
	})
}
