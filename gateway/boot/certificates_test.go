package boot

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/acme"
	"sallyport/gateway/config"
	"sallyport/gateway/route"
)

// A host below a wildcard that is obtained needs no certificate of the operator's.
func TestHostsBelowAWildcardAreObtained(t *testing.T) {
	cfg := &config.Config{Domain: "corp.test", TLS: certs.Config{ACME: &acme.Config{Hosts: []string{"*.corp.test"}}}}
	for _, host := range []string{"wiki.corp.test", "a.b.corp.test"} {
		cfg.Apps = append(cfg.Apps, route.App{Host: host})
	}
	if got := notObtained(cfg); len(got) != 1 || got[0] != "a.b.corp.test" {
		t.Errorf("not obtained: %q, want a.b.corp.test alone", got)
	}
}

// A certificate is warned of at 30, 14, 7 days and 1 day, then daily; never twice within a day, and anew once it is replaced.
func TestExpiringCertificatesAreWarnedOf(t *testing.T) {
	const day = 24 * time.Hour
	end := time.Date(2026, 12, 31, 12, 0, 0, 0, time.UTC)
	var out strings.Builder
	watch := expiries{log: slog.New(slog.NewTextHandler(&out, nil))}
	info := certs.Info{File: "wiki.pem", Names: []string{"wiki.corp.test"}, NotAfter: end}
	var told []time.Duration
	for left := 40 * day; left > -3*day; left -= expiryLook {
		before := out.Len()
		watch.look([]certs.Info{info}, end.Add(-left))
		if out.Len() > before {
			told = append(told, left)
		}
	}
	want := []time.Duration{30 * day, 14 * day, 7 * day, day, 0, -day, -2 * day}
	if len(told) != len(want) {
		t.Fatalf("warned at %v before the end, want %v", told, want)
	}
	for i := range want {
		if told[i] != want[i] {
			t.Errorf("warned %v before the end, want %v", told[i], want[i])
		}
	}
	for _, text := range []string{"level=WARN", "level=ERROR", "file=wiki.pem", "days_left=30", "days_left=-2"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no line says %s:\n%s", text, &out)
		}
	}

	renewed := info
	renewed.NotAfter = end.Add(20 * day)
	out.Reset()
	watch.look([]certs.Info{renewed}, end)
	watch.look([]certs.Info{renewed}, end.Add(expiryLook))
	if n := strings.Count(out.String(), "days_left=20"); n != 1 {
		t.Errorf("the new certificate in the same file is warned of %d times:\n%s", n, &out)
	}
	out.Reset()
	if watch.look([]certs.Info{{File: "young.pem", NotAfter: end.Add(90 * day)}}, end); out.Len() > 0 {
		t.Errorf("a young certificate is warned of: %s", &out)
	}
}
