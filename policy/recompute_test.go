package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
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

// recordedBefore is an input as gateways recorded it that did not tell cross-site requests.
const recordedBefore = `{"subject":{"type":"user","id":"corp|ada","email":"ada@corp.example","email_verified":true,"groups":["staff"],` +
	`"groups_incomplete":false,"claims":{},"authn":{"provider":"corp","amr":["pwd"],"mfa":false},"grants":[]},` +
	`"action":{"name":"write","method":"POST","protocol":"HTTP/2.0","upgrade":""},` +
	`"resource":{"type":"app","id":"wiki","labels":{},"sensitivity":"","owner":"it","host":"wiki.example","path":"/","segments":[],"query":""},` +
	`"context":{"time_ns":1795378500000000000,"time":"2026-11-22T20:15:00Z","weekday":"sun","hour":20,"client":{"ip":"192.0.2.7"},` +
	`"request":{"id":"01J","content_type":"","user_agent":"","origin":"","fetch_site":"cross-site","cross_origin":false,"headers":{}}}}`

// An old record is decided on as it was recorded: what nobody had looked at is absent, neither false nor true.
func TestOldRecordsAreRederivedWithoutTheFieldsOfToday(t *testing.T) {
	in, err := ParseInput([]byte(recordedBefore))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(in.AppendJSON(nil)); got != recordedBefore {
		t.Errorf("got %s\nwant %s", got, recordedBefore)
	}
	for name, decision := range map[string]string{
		"whole": `decision := {"allow": true, "labels": {"input": crypto.sha256(json.marshal(input))}}`,
		"field": `decision := {"allow": true} if input.context.request.cross_site_unsafe == false`,
		"not":   `decision := {"allow": true} if not input.context.request.cross_site_unsafe`,
	} {
		e := ownPolicy(t, decision)
		got := e.Rederive(t.Context(), []byte(recordedBefore), nil)
		if want := name != "field"; got.Allow != want {
			t.Errorf("%s: allow %v (%v), want %v", name, got.Allow, got.Err, want)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(sortedJSON(t, recordedBefore)))); name == "whole" && got.Decision.Labels["input"] != sum {
			t.Errorf("the policy did not see the recorded text")
		}
		now := []byte(`{"context":{"request":{"cross_site_unsafe":false}}}`)
		if v := e.Rederive(t.Context(), []byte(recordedBefore), now); !v.Allow {
			t.Errorf("%s: decided again by a gateway of today: %s, want allow", name, v.JSON)
		}
	}
}

// sortedJSON is a document as Rego writes it.
func sortedJSON(t *testing.T, text string) string {
	t.Helper()
	document, err := decodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(sorted)
}
