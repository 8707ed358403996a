package policy

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// monday is a Monday morning, 09:30 UTC.
var monday = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

// newEngine compiles apps together with the operator's modules, given by file name.
func newEngine(t testing.TB, cfg Config, apps []App, modules map[string]string) *Engine {
	t.Helper()
	if modules != nil {
		cfg.Bundle = writeFolder(t, modules)
	}
	b, err := Build(cfg, apps)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Compile(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ownPolicy is an engine whose app "wiki" has a package of its own with these rules.
func ownPolicy(t testing.TB, rules string) *Engine {
	t.Helper()
	return newEngine(t, Config{Memo: true}, []App{{Name: "wiki", Access: Access{{Groups: []string{"staff"}}}}},
		map[string]string{"wiki.rego": "package sallyport.app[\"wiki\"]\n\n" + rules})
}

func writeFolder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// person is a request of somebody in these groups for app.
func person(app string, groups ...string) *Input {
	in := &Input{
		Subject: Subject{
			Type: TypeUser, ID: "corp|ada", Email: "ada@corp.example", EmailVerified: true, Groups: groups,
			Authn:   &Authn{Provider: "corp", AMR: []string{"pwd"}, Time: "2026-11-23T09:00:00Z", AgeS: AgeOf(30 * time.Minute)},
			Session: &Session{ID: "s-1", AgeS: AgeOf(30 * time.Minute), IdleS: AgeOf(0)},
		},
		Action: Action{Name: ActionRead, Method: "GET", Protocol: "HTTP/2.0"},
		Resource: Resource{
			Type: TypeApp, ID: app, Host: app + ".corp.example", Path: "/a/b", Segments: []string{"a", "b"},
		},
		Context: Context{
			Client:  Client{IP: "192.0.2.7"},
			TLS:     &TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: app + ".corp.example", ALPN: "h2"},
			Request: Request{ID: "r-1", UserAgent: "test/1.0", FetchSite: "none", CrossSiteUnsafe: new(false)},
		},
	}
	in.Context.SetTime(monday, time.UTC)
	return in
}

// stranger is a request of nobody for app.
func stranger(app string) *Input {
	in := person(app)
	in.Subject = Subject{Type: TypeAnonymous}
	return in
}

// wantVerdict fails unless the verdict has the reason and, if code is not empty, that code among its reasons.
func wantVerdict(t *testing.T, v *Verdict, reason, code string) {
	t.Helper()
	if v.Reason != reason || v.Allow != (reason == ReasonAllow) || v.Allow != v.Decision.Allow {
		t.Fatalf("got %s (allow %v, %v), want %s: %s", v.Reason, v.Allow, v.Err, reason, v.JSON)
	}
	has := func(r Reason) bool { return r.Code == code }
	if code != "" && !slices.ContainsFunc(v.Decision.Reasons, has) {
		t.Fatalf("got reasons %v, want one with code %s", v.Decision.Reasons, code)
	}
}

// company is 50 apps with 200 rules: every kind of condition occurs.
func company() []App {
	apps := make([]App, 50)
	for i := range apps {
		apps[i] = App{
			Name: fmt.Sprintf("app-%02d", i), Owner: "it", Sensitivity: "low", Labels: map[string]string{"team": "t" + fmt.Sprint(i%5)},
			Access: Access{
				{Paths: []string{"/admin/"}, Groups: []string{"group-01", "admins"}, MFA: true},
				{Paths: []string{"/public/", "/robots.txt"}, Methods: []string{"GET"}, Public: true},
				{Methods: []string{"POST", "PUT"}, Groups: []string{"group-07"}, Domains: []string{"corp.example"}, Emails: []string{"eve@partner.example"}},
				{Groups: []string{fmt.Sprintf("group-%02d", i)}},
			},
		}
		switch last := &apps[i].Access[3]; i % 5 {
		case 1:
			last.Hours = &Hours{Days: []string{"mon-fri"}, From: "08:00", To: "18:00"}
		case 2:
			last.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		case 3:
			last.MaxAge = time.Hour
		case 4:
			last.Hours = &Hours{From: "22:30", To: "06:15"}
			last.ACR = []string{"gold"}
		}
	}
	return apps
}

// employee is a person in 40 groups.
func employee(app string) *Input {
	in := person(app)
	for i := range 40 {
		in.Subject.Groups = append(in.Subject.Groups, fmt.Sprintf("group-%02d", i))
	}
	in.Subject.Claims = map[string]any{"department": "research", "cost_center": 4711}
	in.Resource.Labels = map[string]string{"team": "t1"}
	in.Context.Request.Headers = map[string]string{"accept-language": "de"}
	in.Context.Request.UserAgent = "Mozilla/5.0 (X11; Linux x86_64) " + strings.Repeat("x", 80)
	return in
}
