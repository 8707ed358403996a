package config

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// FuzzLoad holds that no file makes the loader panic, that every complaint has a position inside the file, and that
// what the schema refuses the loader refuses too.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"name: a\nrooms:\n  - {name: x, beds: [{width: 3}]}\ngarden: {trees: 1}\nstreets: [10.0.0.0/8]\nrest: 1d2h\n",
		"name: &a b\nkey: *a\n<<: {open: true}\n", "a: [\n", "---\n---\n", "name: ${env:SECRET}\nkind: wood\nsize: 1sqm\n",
		"? {a: b}\n: c\n", "name: \"\\x00\"\nopen: ~\n", "name: |\n  a\n\tb\n", "{name: a, labels: {x: y}, doors: 3, height: .5}",
	} {
		f.Add([]byte(seed))
	}
	shape := compileSchema[house](f)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parse[house]("house.yaml", data, &references{folder: "/nonexistent", env: env})
		if err == nil {
			conforms(t, shape, data)
			return
		}
		problems, ok := errors.AsType[Errors](err)
		if !ok {
			t.Fatalf("an error without positions: %v", err)
		}
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + strings.Count(string(data), "\u0085") +
			strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029") + 2
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Text == "" {
				t.Errorf("%+v is no place in a file of %d lines", p, lines)
			}
		}
	})
}

// TestWhatTheSchemaRefusesTheLoaderRefuses makes documents out of right and wrong pieces at every place.
func TestWhatTheSchemaRefusesTheLoaderRefuses(t *testing.T) {
	shape := compileSchema[house](t)
	accepted := 0
	rapid.Check(t, func(rt *rapid.T) {
		data, err := yaml.Marshal(document(rt))
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := parse[house]("house.yaml", data, &references{folder: "/nonexistent", env: env}); err == nil {
			accepted++
			conforms(rt, shape, data)
		}
	})
	if accepted == 0 {
		t.Error("no document was accepted: the property was never tried")
	}
}

// document draws a house whose values are mostly of the right form.
func document(t *rapid.T) map[string]any {
	right := map[string][]any{
		"name": {"a", "${env:SECRET}"}, "open": {true, "${env:NOPE}"}, "floors": {1, "${env:FLOORS}"}, "doors": {0, 255},
		"height": {1, 1.5}, "rest": {"8h", "1d", "1d2h3m"}, "kind": {"wood", "brick"}, "plans": {[]any{}, []any{"x"}},
		"streets": {[]any{"10.0.0.0/8"}, []any{"::/0"}}, "rooms": {map[string]any{"name": "r"}, []any{map[string]any{"name": "r"}}},
		"labels": {map[string]any{"a": "b"}}, "garden": {map[string]any{"trees": 1}}, "size": {3, "3sqm"}, "lift": {false},
	}
	wrong := []any{nil, "", "x", 0, -1, 1.5, true, []any{}, []any{1}, map[string]any{}, map[string]any{"a": 1}, "${env:EMPTY}"}
	made := map[string]any{"name": "a"}
	keys := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"name", "open", "floors", "doors", "height", "rest", "kind", "plans",
		"streets", "rooms", "labels", "garden", "size", "lift", "other"}), rapid.ID).Draw(t, "keys")
	for _, key := range keys {
		choices := right[key]
		if rapid.IntRange(0, 9).Draw(t, "wrong") == 0 || choices == nil {
			choices = wrong
		}
		made[key] = rapid.SampledFrom(choices).Draw(t, key)
	}
	return made
}

// fataler is what testing.T and rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// conforms fails when the schema refuses a document.
func conforms(t fataler, shape *jsonschema.Schema, data []byte) {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		t.Fatalf("reading %q: %v", data, err)
	}
	if value == nil {
		value = map[string]any{}
	}
	if err := shape.Validate(value); err != nil {
		t.Fatalf("the schema refuses what the loader accepts: %v\n%s", err, data)
	}
}

// compileSchema returns the schema of T, ready to validate.
func compileSchema[T any](t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := Schema[T]()
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource("config.json", document); err != nil {
		t.Fatal(err)
	}
	shape, err := compiler.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return shape
}
