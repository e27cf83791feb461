package presets

import (
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// name is a name in a rule: labels of lower case, of which the first may be "*".
var name = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}$`)

func TestEachGroupHasTheFormOfAFileOfNames(t *testing.T) {
	var names []string
	for _, p := range All() {
		names = append(names, p.Name)
		t.Run(p.Name, func(t *testing.T) {
			require.NotEmpty(t, p.About, "what it is for")
			require.Regexp(t, `(?m)^#.* Checked: 20\d\d-[01]\d\.$`, p.Text, "when somebody has looked at it")
			require.NotEmpty(t, p.Names)
			for _, n := range p.Names {
				require.Regexp(t, name, n)
				require.LessOrEqual(t, len(n), 253)
			}
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(p.Names))), len(p.Names), "each name is there once")
			got, ok := Group(p.Name)
			require.True(t, ok)
			require.Equal(t, p.Names, got)
		})
	}
	require.Equal(t, []string{"anthropic", "apt", "containers", "crates", "gemini", "git", "go", "mistral", "npm", "openai", "pip"}, names)
}

func TestAGroupThatIsNotThereIsNone(t *testing.T) {
	for _, name := range []string{"", "apt.names", "../groups/apt", "*", "APT"} {
		_, ok := Group(name)
		require.False(t, ok, name)
	}
}

func TestCommentsAndEmptyLinesAreNoNames(t *testing.T) {
	p := read("own", "# own: mine\n\n  a.example  # the first\nb.example\n#c.example")
	require.Equal(t, []string{"a.example", "b.example"}, p.Names)
	require.Equal(t, "mine", p.About)
}
