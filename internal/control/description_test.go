package control

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

// described is the description, which is valid, examples and all.
func described(t testing.TB) *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(description)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(context.Background(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaFormatValidation()))
	return doc
}

func TestTheDescriptionHasWhatTheServerOffersAndNothingElse(t *testing.T) {
	var offered, told []string
	for _, r := range routes() {
		offered = append(offered, r.method+" "+r.path)
	}
	for path, item := range described(t).Paths.Map() {
		for method := range item.Operations() {
			told = append(told, method+" "+path)
		}
	}
	require.ElementsMatch(t, offered, told)
}

// Names, types and what may be missing: the description says what the types do.
func TestTheDescriptionAgreesWithTheTypes(t *testing.T) {
	schemas := described(t).Components.Schemas
	types := apiTypes()
	var names []string
	for name, of := range types {
		names = append(names, name)
		schema := schemas[name]
		require.NotNil(t, schema, "the description has no %s", name)
		requireSchema(t, name, schema.Value, of)
	}
	for name := range schemas {
		require.Contains(t, names, name, "there is no such type")
	}
}

// apiTypes are all types of package api, by their names.
func apiTypes() map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for _, of := range []reflect.Type{
		reflect.TypeFor[api.Error](), reflect.TypeFor[api.Status](), reflect.TypeFor[api.Process](), reflect.TypeFor[api.Wall](),
		reflect.TypeFor[api.Control](), reflect.TypeFor[api.Guest](), reflect.TypeFor[api.Pair](), reflect.TypeFor[api.Counters](),
		reflect.TypeFor[api.Flow](), reflect.TypeFor[api.Flows](), reflect.TypeFor[api.Ended](), reflect.TypeFor[api.Explanation](), reflect.TypeFor[api.NameExplained](), reflect.TypeFor[api.AddressExplained](),
		reflect.TypeFor[api.Forward](), reflect.TypeFor[api.ForwardChange](), reflect.TypeFor[api.Rule](), reflect.TypeFor[api.Policy](), reflect.TypeFor[api.Hits](),
		reflect.TypeFor[api.Link](), reflect.TypeFor[api.Emulation](), reflect.TypeFor[api.LogLevel](), reflect.TypeFor[api.AuditLog](), reflect.TypeFor[api.AuditLogChange](), reflect.TypeFor[api.Learned](), reflect.TypeFor[api.LearnedRule](), reflect.TypeFor[api.AskedName](), reflect.TypeFor[api.Changed](), reflect.TypeFor[api.Difference](), reflect.TypeFor[api.Gap](),
		reflect.TypeFor[api.ConfigDiff](), reflect.TypeFor[api.Fault](), reflect.TypeFor[api.Event](), reflect.TypeFor[api.Stopping](), reflect.TypeFor[api.Drain](),
		reflect.TypeFor[api.DrainRequest](), reflect.TypeFor[api.ConfigSaved](), reflect.TypeFor[api.Lease](), reflect.TypeFor[api.Uplink](), reflect.TypeFor[api.UplinkRemote](), reflect.TypeFor[api.UplinkAddress](), reflect.TypeFor[api.HostName](), reflect.TypeFor[api.Resolvers](), reflect.TypeFor[api.Resolver](), reflect.TypeFor[api.ResolverSettings](), reflect.TypeFor[api.NameCacheStats](),
		reflect.TypeFor[api.ResolverFailure](), reflect.TypeFor[api.NameCache](), reflect.TypeFor[api.CachedName](), reflect.TypeFor[api.ForgottenNames](), reflect.TypeFor[api.Names](), reflect.TypeFor[api.Drop](), reflect.TypeFor[api.State](),
	} {
		all[of.Name()] = of
	}
	return all
}

// requireSchema compares a schema with the struct that it describes.
func requireSchema(t *testing.T, name string, schema *openapi3.Schema, of reflect.Type) {
	var fields, required []string
	for i := range of.NumField() {
		f := of.Field(i)
		field, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, field)
		if options == "" {
			required = append(required, field)
		}
		property := schema.Properties[field]
		require.NotNil(t, property, "%s.%s", name, field)
		requireType(t, name+"."+field, property, f.Type)
	}
	for field := range schema.Properties {
		require.True(t, slices.Contains(fields, field), "%s has no %s", name, field)
	}
	require.ElementsMatch(t, required, schema.Required, "what %s always has", name)
	require.NotNil(t, schema.AdditionalProperties.Has, "%s: nothing else", name)
	require.False(t, *schema.AdditionalProperties.Has)
}

// requireType compares the schema of a field with its type.
func requireType(t *testing.T, name string, schema *openapi3.SchemaRef, of reflect.Type) {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch of.Kind() {
	case reflect.Struct:
		require.Equal(t, "#/components/schemas/"+of.Name(), schema.Ref, name)
	case reflect.Slice:
		require.True(t, schema.Value.Type.Is("array"), name)
		requireType(t, name, schema.Value.Items, of.Elem())
	case reflect.Map:
		require.True(t, schema.Value.Type.Is("object"), name)
		requireType(t, name, schema.Value.AdditionalProperties.Schema, of.Elem())
	case reflect.String:
		require.True(t, schema.Value.Type.Is("string"), name)
	case reflect.Bool:
		require.True(t, schema.Value.Type.Is("boolean"), name)
	default:
		require.True(t, schema.Value.Type.Is("integer"), name)
	}
}
