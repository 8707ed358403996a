package oidc

import (
	"net/url"
	"testing"
)

// A callback that is accepted means the same to every parser that takes the first or the last of a parameter.
func FuzzParseCallback(f *testing.F) {
	for _, seed := range []string{"code=a&state=b&iss=https%3A%2F%2Fidp", "error=access_denied&state=x", "state=a&state=b", "code=%00", "a;b", "%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		cb, err := ParseCallback(query)
		if err != nil {
			return
		}
		values, err := url.ParseQuery(query)
		if err != nil || len(query) > maxCallback {
			t.Fatalf("accepted %q", query)
		}
		for name, got := range map[string]string{"state": cb.State, "code": cb.Code, "iss": cb.Issuer, "error": cb.Error} {
			if all := values[name]; len(all) > 1 || len(all) == 1 && all[0] != got || len(all) == 0 && got != "" {
				t.Fatalf("%s is %q, query has %q", name, got, all)
			}
		}
		if id := FlowID(cb.State); id != "" && len(id) != 26 {
			t.Fatalf("flow id %q", id)
		}
	})
}
