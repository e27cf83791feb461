package spelling

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheNearestNameIsTheOneWithTheFewestMistakes(t *testing.T) {
	names := []string{"forwards", "network", "network6", "mtu", "restrict"}
	for name, want := range map[string]string{
		"forward": "forwards", "forwrads": "forwards", "networ": "network", "network7": "network", "mut": "mtu", "tum": "", "mt": "mtu", "m": "",
		"restricted": "restrict", "": "", "rest": "restrict", "gateway": "", "netwörk": "network",
	} {
		require.Equal(t, want, Nearest(name, names), name)
	}
}
