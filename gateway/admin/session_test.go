package admin

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/authn"
	"sallyport/authn/session"
)

func TestFilterSurvivesTheQuery(t *testing.T) {
	for _, f := range []Filter{
		{}, {ID: "a"}, {Subject: "corp|1&id=2", Email: "ä@x", Provider: "p", ProviderSession: "s=1", App: "wiki", Host: "h", OlderThan: 1, IdleFor: 1 << 40},
	} {
		if got, err := filterFromQuery(must(url.ParseQuery(f.query().Encode()))); err != nil || got != f {
			t.Errorf("%+v became %+v, %v", f, got, err)
		}
	}
	for _, q := range []string{"all=true", "id=a&id=b", "unknown=1", "idle_for_s=1h", "older_than_s=", "older_than_s=1&older_than_s=2"} {
		if got, err := filterFromQuery(must(url.ParseQuery(q))); err == nil {
			t.Errorf("%s is %+v", q, got)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAppsStandForTheirHosts(t *testing.T) {
	hosts := new(house).AppHosts()
	for name, c := range map[string]struct {
		f    Filter
		want session.Filter
		err  error
	}{
		"app":                     {Filter{App: "docs", OlderThan: 60, IdleFor: 2}, session.Filter{Host: "wiki.corp.example", OlderThan: time.Minute, IdleFor: 2 * time.Second}, nil},
		"app and its host":        {Filter{App: "pay", Host: "pay.corp.example"}, session.Filter{Host: "pay.corp.example"}, nil},
		"app and another host":    {Filter{App: "pay", Host: "wiki.corp.example"}, session.Filter{}, errFilter},
		"unknown app, all":        {Filter{App: "gone", All: true}, session.Filter{}, ErrUnknown},
		"time in the future":      {Filter{OlderThan: -1}, session.Filter{}, errFilter},
		"time beyond all numbers": {Filter{IdleFor: 1 << 62}, session.Filter{}, errFilter},
	} {
		if got, err := c.f.session(hosts); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, c.want, c.err)
		}
	}
}

func TestListsNameTheAppsOfHosts(t *testing.T) {
	found := []session.Session{{ID: "1", Identity: new(authn.Identity), Hosts: []string{"gone.corp.example", "wiki.corp.example"}}, {ID: "2", Identity: new(authn.Identity)}}
	got := listed(found, new(house).AppHosts())
	if diff := cmp.Diff([][]string{{"gone.corp.example", "wiki.corp.example"}, {"docs", "wiki"}, {}, {}}, [][]string{got[0].Hosts, got[0].Apps, got[1].Hosts, got[1].Apps}); diff != "" {
		t.Errorf("hosts and apps (-want +got):\n%s", diff)
	}
}
