package configfile

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTheSchemaThatIsCheckedInIsTheOneOfTheTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "vring.schema.json"))
	require.NoError(t, err)
	require.Equal(t, string(Schema()), string(text), "make it again: go run ./cmd/vring config schema > docs/vring.schema.json")
}

// compiled is the schema, which is itself checked by that of JSON Schema.
func compiled(t *testing.T) *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("vring.schema.json", document))
	s, err := c.Compile("vring.schema.json")
	require.NoError(t, err)
	return s
}

// validate returns what the schema says of a file.
func validate(s *jsonschema.Schema, text []byte) error {
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		return err
	}
	return s.Validate(value)
}

func TestTheSchemaKnowsEachFileThatIsWritten(t *testing.T) {
	s := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		for _, style := range []Style{Short, Full} {
			text, err := Marshal(&c, style)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(s, text); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
		}
	})
}

func TestTheSchemaRefusesWhatTheReaderRefuses(t *testing.T) {
	s := compiled(t)
	require.NoError(t, validate(s, []byte(guestsOf("nat:\n"))))
	for name, text := range map[string]string{
		"unknown key":        guestsOf("stub:\nlog-lvel: info\n"),
		"unknown key of nat": guestsOf("nat:\n  forward: []\n"),
		"no guests":          "nat:\n",
		"no guest":           "guests: []\nnat:\n",
		"no network":         guestsOf(""),
		"two networks":       guestsOf("nat:\nstub:\n"),
		"a choice":           guestsOf("stub:\n  mode: loud\n"),
		"a list for one":     guestsOf("nat:\n  mtu: [1500]\n"),
		"one for a list":     guestsOf("nat:\n  forwards: 8080:80\n"),
		"a number":           guestsOf("nat:\n  mtu: large\n"),
		"a truth":            guestsOf("client: 1\nstub:\n"),
		"empty value":        guestsOf("nat:\n  domain: \"\"\n"),
		"a rule's word":      guestsOf("nat:\n  rules: [{open: 192.0.2.1}]\n"),
		"a rule of two":      guestsOf("nat:\n  rules: [{allow: 192.0.2.1, deny: 192.0.2.2}]\n"),
		"no socket":          "guests: [{}]\nstub:\n",
		"socket and fd":      "guests: [{fd: 3, socket-path: /a}]\nstub:\n",
	} {
		require.Error(t, validate(s, []byte(text)), name)
		require.NotEmpty(t, parse(text), name)
	}
}

// The files that the documentation shows are those of the schema.
func TestTheSchemaKnowsTheFilesOfTheDocumentation(t *testing.T) {
	s := compiled(t)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		require.NoError(t, validate(s, block[1]))
		require.Empty(t, parse(string(block[1])))
	}
}
