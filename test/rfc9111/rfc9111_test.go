package rfc9111

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// absent is no cache at all: the client talks to the app.
type absent struct{ client http.RoundTripper }

func newAbsent(t *testing.T, origin *Origin) absent {
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: atOnce}
	t.Cleanup(transport.CloseIdleConnections)
	return absent{toward{transport, origin}}
}

func (a absent) Send(_, _ string, r *http.Request) (*http.Response, error) {
	return a.client.RoundTrip(r)
}
func (absent) Base(app string) string { return "https://" + app + ".corp.test" }

type toward struct {
	*http.Transport
	origin *Origin
}

func (l toward) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(l.origin.URL, "http://")
	return l.Transport.RoundTrip(r)
}

// reckless is a cache that keeps every answer for everybody and never asks again.
type reckless struct {
	absent
	mu   sync.Mutex
	kept map[string]kept
}

type kept struct {
	http.Response
	body []byte
}

func (c *reckless) Send(_, _ string, r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	entry, found := c.kept[r.URL.Path]
	c.mu.Unlock()
	if !found {
		res, err := c.client.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		entry = kept{Response: *res}
		if entry.body, err = io.ReadAll(res.Body); err != nil {
			return nil, err
		}
		res.Body.Close()
		c.mu.Lock()
		c.kept[r.URL.Path] = entry
		c.mu.Unlock()
	}
	res := entry.Response
	res.Body = io.NopCloser(bytes.NewReader(entry.body))
	return &res, nil
}

// The cases themselves are tested by two caches that do one thing only: none may pass both, and what is forbidden is
// found in the one that does everything.
func TestCasesTellCachesApart(t *testing.T) {
	cases := Cases(t)
	origin := NewOrigin(t)
	never := Play(t.Context(), newAbsent(t, origin), origin, cases)
	always := Play(t.Context(), &reckless{absent: newAbsent(t, origin), kept: map[string]kept{}}, origin, cases)
	for i, c := range cases {
		for _, r := range []Result{never[i], always[i]} {
			if len(r.Wrong) > 0 {
				t.Errorf("%s %s: %s", c.Where, c.Name, r.Wrong)
			}
		}
		passed := len(never[i].Missed) == 0
		if passed && len(always[i].Missed) == 0 && len(c.Steps) > 1 && !c.indifferent() {
			t.Errorf("%s %s: passes without a cache and with a reckless one", c.Where, c.Name)
		}
		if !passed && c.Kind == Required && !c.needsCache() {
			t.Errorf("%s %s: fails without a cache: %s", c.Where, c.Name, never[i].Missed)
		}
	}
}

// indifferent cases look at something else than whether an answer was reused.
func (c Case) indifferent() bool {
	for _, s := range c.Steps[1:] {
		if s.See.Who != "any" {
			return false
		}
	}
	return true
}

// needsCache holds for cases about what a cache does with what it has.
func (c Case) needsCache() bool {
	for _, s := range c.Steps {
		if s.See.Who == "stored" || s.See.Who == "validated" || s.See.Who == "stale" || s.See.Who == "gateway" {
			return true
		}
	}
	return false
}
