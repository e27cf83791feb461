package servername

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFinalDotAndUpperCaseMakeNoOtherName(t *testing.T) {
	for _, text := range []string{"a_b-1.example", "A_B-1.EXAMPLE", "a_b-1.Example."} {
		name, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, "a_b-1.example", name)
	}
	name, err := Parse("0xyz") // begins as a number does
	require.NoError(t, err)
	require.Equal(t, "0xyz", name)
}

func TestWhatIsNoHostNameIsRefused(t *testing.T) {
	for text, want := range map[string]error{
		"": ErrBadName, ".": ErrBadName, "a..example": ErrBadName, "a.example..": ErrBadName, ".example": ErrBadName,
		"a.example\x00.b.example": ErrBadName, "a.example ": ErrBadName, "\u00e4.example": ErrBadName, "*.example": ErrBadName,
		"a.example:443": ErrBadName, "a@example": ErrBadName, "a/example": ErrBadName, "\u212a.example": ErrBadName,
		strings.Repeat("a", 64) + ".example": ErrBadName, strings.Repeat("a.", 130) + "example": ErrBadName,
		"192.0.2.1": ErrAddress, "192.0.2.1.": ErrAddress, "127.1": ErrAddress, "2130706433": ErrAddress, "0x7f000001": ErrAddress, "1.0X7F": ErrAddress, "0x": ErrAddress,
		"2001:db8::1": ErrAddress, "[2001:db8::1]": ErrAddress, "fe80::1%eth0": ErrAddress,
	} {
		_, err := Parse(text)
		require.ErrorIs(t, err, want, text)
	}
}
