// Package browser_test has Chromium do with the demo what people do: the real programs, real certificates that the browser
// trusts because it was told of their CA, and pages that are looked at. The stories are in scenarios.mjs.
package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDemoInABrowser plays the scenarios one after another on one demo, as on one working day.
// SALLYPORT_SCREENSHOTS names a folder for the pictures; by default they are thrown away.
func TestDemoInABrowser(t *testing.T) {
	needTools(t)
	d := startDemo(t, "--listen", "127.0.0.1:0", "--dir", filepath.Join(shortTempDir(t), "demo"))
	browser := newBrowser(t, d)

	t.Run("staff member works and is refused payroll", func(t *testing.T) {
		var refusal struct{ Reference, Why string }
		browser.play(t, "staff", &refusal)
		if !strings.Contains(refusal.Why, "finance") {
			t.Errorf("the page explains the refusal with %q, which does not say who may", refusal.Why)
		}
		denied := d.query(t, "--request-id", refusal.Reference)
		if len(denied) != 1 || denied[0].Effect != "deny" || denied[0].App != "payroll" || denied[0].Input.Subject.Email != "ines@harbour.example" {
			t.Errorf("the reference of the page leads to %+v, want one deny of ines at payroll", denied)
		}
		allowed := d.query(t, "--user", "ines@harbour.example", "--app", "wiki", "--effect", "allow")
		if len(allowed) == 0 || allowed[0].Input.Resource.Path != "/p/first-day" {
			t.Errorf("ines' visits of the wiki in the log: %+v, want them to start with /p/first-day", allowed)
		}
	})
	t.Run("portal and payroll go by groups", func(t *testing.T) { browser.play(t, "groups", nil) })
	t.Run("tabs opened at once all come back", func(t *testing.T) { browser.play(t, "tabs", nil) })
	t.Run("sign-out ends everything", func(t *testing.T) {
		var result struct{ StreamClosedAfterMilliseconds int }
		browser.play(t, "signOut", &result)
		t.Logf("the open WebSocket closed %d ms after the sign-out", result.StreamClosedAfterMilliseconds)
	})
	t.Run("pages need no scripts", func(t *testing.T) { browser.play(t, "withoutScripts", nil) })
	t.Run("connections are safe from quantum computers", func(t *testing.T) {
		var agreed struct{ Protocol, KeyExchangeGroup string }
		browser.play(t, "connection", &agreed)
		if agreed.Protocol != "TLS 1.3" || agreed.KeyExchangeGroup != "X25519MLKEM768" {
			t.Errorf("got %+v, want TLS 1.3 with X25519MLKEM768", agreed)
		}
	})
	t.Run("problems are told plainly", func(t *testing.T) { browser.play(t, "problems", nil) })
	t.Run("a policy without words says what kind of thing is missing", func(t *testing.T) {
		d.silenceInspect(t)
		var told struct{ Why string }
		browser.play(t, "silent", &told)
		if !strings.Contains(told.Why, "device") || strings.Contains(told.Why, "corp-laptops") {
			t.Errorf("the page says %q: want the device, and nothing that only the policy knows", told.Why)
		}
	})
	t.Run("app that does not answer", func(t *testing.T) {
		d.breakPayroll(t)
		var told struct{ Reference string }
		browser.play(t, "unavailable", &told)
		if found := d.query(t, "--request-id", told.Reference); len(found) != 1 || found[0].Effect != "allow" {
			t.Errorf("the reference of the page leads to %+v, want the one allow", found)
		}
	})
	d.stop(t)
}

func needTools(t *testing.T) {
	t.Helper()
	const advice = "run `make test`, which installs what the tests need"
	for _, tool := range []string{"node", "certutil"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: %s", tool, advice)
		}
	}
	for _, module := range []string{"playwright-core", "axe-core"} {
		if _, err := os.Stat(filepath.Join("node_modules", module)); err != nil {
			t.Fatalf("%s is not installed: %s", module, advice)
		}
	}
	if chromium() == "" {
		t.Fatalf("there is no Chromium: %s", advice)
	}
}

func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// browser plays scenarios in Chromium.
type browser struct{ settings map[string]any }

// newBrowser prepares a home folder whose certificate store trusts a CA: the demo's, or the one in a file.
func newBrowser(t *testing.T, d *demo, cas ...string) *browser {
	t.Helper()
	home := t.TempDir()
	database := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(database, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-t", "C,,", "-n", "sallyport-demo", "-i", append(cas, filepath.Join(d.dir, "keyd", "public", "ca.pem"))[0]},
	} {
		if out, err := exec.Command("certutil", append([]string{"-d", "sql:" + database}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	pictures := os.Getenv("SALLYPORT_SCREENSHOTS")
	if pictures == "" {
		pictures = t.TempDir()
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	pictures, err := filepath.Abs(pictures)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{map[string]any{"port": d.port, "chromium": chromium(), "home": home, "screenshots": pictures}}
}

// play runs one scenario and reads what it returns into result.
func (b *browser) play(t *testing.T, scenario string, result any) {
	t.Helper()
	settings, err := json.Marshal(b.settings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "drive.mjs", scenario)
	cmd.Stdin = bytes.NewReader(settings)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scenario %s: %v\n%s", scenario, err, &errors)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(out, result); err != nil {
		t.Fatalf("scenario %s returned %q: %v", scenario, out, err)
	}
}
