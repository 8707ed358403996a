package policy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// What a second decision's record says of its input, with the first one's, is that input, to the byte.
func TestChangedInputIsWhatWasAskedAgain(t *testing.T) {
	r := random(t)
	for range rounds(500) {
		before, after := pick(r, randomInput(r, "app-05"), wildInput(r)), pick(r, randomInput(r, "app-06"), wildInput(r))
		patch, err := json.Marshal(changes(t, before.AppendJSON(nil), after.AppendJSON(nil)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := patched(before.AppendJSON(nil), patch)
		if err != nil {
			t.Fatalf("%v, patch %s", err, patch)
		}
		if want := after.AppendJSON(nil); !bytes.Equal(got.AppendJSON(nil), want) {
			t.Fatalf("got %s\nwant %s", got.AppendJSON(nil), want)
		}
	}
}

// changes is the merge patch from one document to another.
func changes(t *testing.T, before, after []byte) map[string]any {
	from, err := decodeObject(before)
	if err != nil {
		t.Fatal(err)
	}
	to, err := decodeObject(after)
	if err != nil {
		t.Fatal(err)
	}
	return difference(from, to)
}

func difference(from, to map[string]any) map[string]any {
	patch := map[string]any{}
	for name := range from {
		if _, kept := to[name]; !kept {
			patch[name] = nil
		}
	}
	for name, value := range to {
		was, _ := from[name].(map[string]any)
		if is, ok := value.(map[string]any); ok && was != nil {
			patch[name] = difference(was, is)
		} else if !reflect.DeepEqual(from[name], value) {
			patch[name] = value
		}
	}
	return patch
}

// A record that was tampered with is never recomputed into an allow.
func TestRederiveRefusesWhatIsNoInput(t *testing.T) {
	e := newEngine(t, Config{Memo: true}, company(), nil)
	good := employee("app-05").AppendJSON(nil)
	for name, c := range map[string]struct{ input, changed string }{
		"no JSON":        {"{", ""},
		"unknown field":  {`{"more":1,` + string(good[1:]), ""},
		"patch no JSON":  {string(good), "{"},
		"patch unknown":  {string(good), `{"more":1}`},
		"patch mistyped": {string(good), `{"subject":{"groups":1}}`},
	} {
		var changed []byte
		if c.changed != "" {
			changed = []byte(c.changed)
		}
		if v := e.Rederive(t.Context(), []byte(c.input), changed); v.Allow || v.Reason != ReasonError {
			t.Errorf("%s: %v %s", name, v.Allow, v.Reason)
		}
	}
}
