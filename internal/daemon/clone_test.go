package daemon

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// opaque are packages whose types are values, whatever they refer to: nobody can change that.
var opaque = []string{"net/netip", "time"}

// fill gives each thing that v refers to, at any depth, a value: pointers lead somewhere, and lists have two elements. A kind
// of field that is not known here fails the test: clone and same must know it first.
func fill(t *testing.T, path string, v reflect.Value) {
	if slices.Contains(opaque, v.Type().PkgPath()) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			at, f := path+"."+v.Type().Field(i).Name, v.Field(i)
			if f.CanSet() {
				fill(t, at, f)
				continue
			}
			require.True(t, isPlain(f.Type()), "%s: what an unexported field refers to is not copied", at)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, path, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		require.True(t, isPlain(v.Type().Key()), "%s: what a key refers to is not copied", path)
		value := reflect.New(v.Type().Elem()).Elem()
		fill(t, path+"[]", value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), value)
	default:
		require.True(t, isPlain(v.Type()), "%s: a %s is not copied", path, v.Kind())
	}
}

// isPlain reports whether values of a type refer to nothing.
func isPlain(of reflect.Type) bool {
	if slices.Contains(opaque, of.PkgPath()) {
		return true
	}
	switch kind := of.Kind(); kind {
	case reflect.Struct:
		for i := range of.NumField() {
			if !isPlain(of.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return isPlain(of.Elem())
	default:
		return kind == reflect.String || kind >= reflect.Bool && kind <= reflect.Complex128
	}
}

// requireApart fails if two values share memory. It returns how many things it has compared.
func requireApart(t *testing.T, path string, a, b reflect.Value) (compared int) {
	if slices.Contains(opaque, a.Type().PkgPath()) {
		return 0
	}
	apart := func() {
		require.False(t, a.IsNil() || b.IsNil(), "%s: nothing to compare", path)
		require.NotEqual(t, a.UnsafePointer(), b.UnsafePointer(), "%s is shared", path)
		compared++
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			compared += requireApart(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Pointer:
		apart()
		compared += requireApart(t, path, a.Elem(), b.Elem())
	case reflect.Map:
		apart()
		for _, key := range a.MapKeys() {
			compared += requireApart(t, path+"[]", a.MapIndex(key), b.MapIndex(key))
		}
	case reflect.Slice:
		apart()
		fallthrough
	case reflect.Array:
		for i := range a.Len() {
			compared += requireApart(t, fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))
		}
	}
	return compared
}

// kinds has each kind of field that clone knows, and more of them in each other than a Config has.
type kinds struct {
	Number  int
	Pointer *[]int
	Lists   [][]string
	Array   [2]*int
	Map     map[string][]*int
}

func TestACopyOfAConfigurationSharesNothing(t *testing.T) {
	var c Config
	fill(t, "Config", reflect.ValueOf(&c).Elem())
	own := clone(c)
	require.Equal(t, c, own)
	require.Greater(t, requireApart(t, "Config", reflect.ValueOf(c), reflect.ValueOf(own)), 20)
}

func TestACopyOfEachKindOfFieldSharesNothing(t *testing.T) {
	var k kinds
	fill(t, "kinds", reflect.ValueOf(&k).Elem())
	own := clone(k)
	require.Equal(t, k, own)
	require.Equal(t, 11, requireApart(t, "kinds", reflect.ValueOf(k), reflect.ValueOf(own)))
	require.Equal(t, kinds{}, clone(kinds{}), "what is nil stays so")
	require.NotNil(t, clone(kinds{Lists: [][]string{}}).Lists, "and what is empty stays empty")
}

func TestAConfigurationThatWasCheckedIsNobodyElses(t *testing.T) {
	config := stubs("/run/a")
	checked, err := config.Check()
	require.NoError(t, err)
	config.FrontEnds.SocketPaths[0], config.Stub.Mode = "/run/b", StubEcho
	first := checked.Config()
	require.Equal(t, stubs("/run/a"), first)
	first.FrontEnds.SocketPaths[0], first.Stub.Mode = "/run/b", StubEcho
	require.Equal(t, stubs("/run/a"), checked.Config())
}

func TestADaemonHasCopiesOfItsConfiguration(t *testing.T) {
	config := stubs(filepath.Join(shortDir(t), "s"))
	checked, err := config.Check()
	require.NoError(t, err)
	p, _ := program()
	d, err := Open(checked, p)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	checked.config.FrontEnds.SocketPaths[0] = "/run/other"
	require.Equal(t, config, d.config)
	require.Equal(t, config, d.Config())
	d.config.FrontEnds.SocketPaths[0] = "/run/other"
	require.Equal(t, config, d.Config())
}

func TestWhatIsToldOfANetworkIsNobodyElses(t *testing.T) {
	config := pairs(t, 1)
	config.NAT.Search = []string{"example.org"}
	p, _ := program()
	d := open(t, config, p)
	defer func() { require.NoError(t, d.Close()) }()
	told := d.Networks()[0].NAT
	told.MTU, told.Search[0] = 9000, "example.com"
	again := d.Networks()[0].NAT
	require.Equal(t, 1500, again.MTU)
	require.Equal(t, []string{"example.org"}, again.Search)
}

func TestSettingsAreTheSameByWhatTheyHold(t *testing.T) {
	one, two := 1, 2
	list := func(values ...int) *[]int { return &values }
	for name, c := range map[string]struct {
		a, b kinds
		same bool
	}{
		"nothing":               {kinds{}, kinds{}, true},
		"a number":              {kinds{Number: 1}, kinds{Number: 2}, false},
		"pointers":              {kinds{Pointer: list(1)}, kinds{Pointer: list(1)}, true},
		"what they lead to":     {kinds{Pointer: list(1)}, kinds{Pointer: list(2)}, false},
		"a pointer and none":    {kinds{Pointer: list()}, kinds{}, false},
		"a list, empty or none": {kinds{Lists: [][]string{}}, kinds{}, true},
		"and in another list":   {kinds{Lists: [][]string{{}}}, kinds{Lists: [][]string{nil}}, true},
		"lists":                 {kinds{Lists: [][]string{{"a"}}}, kinds{Lists: [][]string{{"a"}}}, true},
		"their elements":        {kinds{Lists: [][]string{{"a"}}}, kinds{Lists: [][]string{{"b"}}}, false},
		"their lengths":         {kinds{Lists: [][]string{{"a"}}}, kinds{Lists: [][]string{{"a"}, {"b"}}}, false},
		"an array":              {kinds{Array: [2]*int{&one, nil}}, kinds{Array: [2]*int{&two, nil}}, false},
		"a map, empty or none":  {kinds{Map: map[string][]*int{}}, kinds{}, true},
		"maps":                  {kinds{Map: map[string][]*int{"a": nil}}, kinds{Map: map[string][]*int{"a": {}}}, true},
		"their keys":            {kinds{Map: map[string][]*int{"a": nil}}, kinds{Map: map[string][]*int{"b": nil}}, false},
		"their values":          {kinds{Map: map[string][]*int{"a": {&one}}}, kinds{Map: map[string][]*int{"a": {&two}}}, false},
		"their sizes":           {kinds{Map: map[string][]*int{"a": nil}}, kinds{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := reflect.ValueOf(c.a), reflect.ValueOf(c.b)
			require.Equal(t, c.same, same(a, b))
			require.Equal(t, c.same, same(b, a))
		})
	}
}

func TestEmptyListsOfAConfigurationAreTheSameAsNone(t *testing.T) {
	var full Config
	fill(t, "Config", reflect.ValueOf(&full).Elem())
	none, empty := clone(full), clone(full)
	lists := 0
	walk(reflect.TypeFor[Config](), "", nil, func(f reflect.StructField, path string, index []int) {
		if f.Type.Kind() == reflect.Slice {
			at(&none, index).SetZero()
			at(&empty, index).Set(reflect.MakeSlice(f.Type, 0, 0))
			lists++
		}
	})
	require.Greater(t, lists, 10)
	none.TAP.VLANs.Trunk, empty.TAP.VLANs.Trunk = nil, empty.TAP.VLANs.Trunk[:0]
	changed, err := Compare(&none, &empty)
	require.NoError(t, err)
	require.Empty(t, changed)
	changed, err = Compare(&none, &full)
	require.Error(t, err)
	require.Len(t, changed, lists+len(full.Guests), "VLANs are no list, but have one, and each guest counts")
}
