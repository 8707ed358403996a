package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/audit"
	"sallyport/policy"
	"sallyport/test/harness"
)

// Whatever became of the policy meanwhile, every decision on record follows from its input and the policy that it names:
// after a change, a rollback, a restart, and the pin's end. An auditor who has nothing but a copy finds the same.
func TestDecisionsAreRederivedAfterEveryChangeOfPolicy(t *testing.T) {
	s := harness.New(t, appsOne, "")
	p := s.Start(t)
	a := newAuditor(t, s)
	first := policyInForce(a)
	visitAs(t, s, http.StatusOK, http.StatusForbidden)

	s.Write(t, appsTwo)
	a.must("reload")
	second := policyInForce(a)
	visitAs(t, s, http.StatusForbidden, http.StatusOK)

	a.must("policy", "rollback", "--why", "payroll was open to staff")
	if got := policyInForce(a); got != first || first == second {
		t.Errorf("rolled back to %s, want %s", got, first)
	}
	visitAs(t, s, http.StatusOK, http.StatusForbidden)

	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p = s.Start(t)
	if got := policyInForce(a); got != first {
		t.Errorf("the restart is under %s, want the pinned %s", got, first)
	}
	visitAs(t, s, http.StatusOK, http.StatusForbidden)

	a.must("policy", "unpin", "--why", "staff may after all")
	if got := policyInForce(a); got != second {
		t.Errorf("without a pin %s is in force, want the configured %s", got, second)
	}
	visitAs(t, s, http.StatusForbidden, http.StatusOK)
	recomputeAll(t, s, 2)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	a.wants(0, a.copy(), "--rederive")
}

// policyInForce is the digest of the active policy.
func policyInForce(a *auditor) string {
	a.t.Helper()
	var status struct{ Policy struct{ Digest string } }
	if err := json.Unmarshal([]byte(a.must("status", "--json")), &status); err != nil {
		a.t.Fatal(err)
	}
	return status.Policy.Digest
}

// visitAs has somebody of the group staff, and a stranger, ask for either app.
func visitAs(t *testing.T, s *harness.Stand, wiki, payroll int) {
	t.Helper()
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	for label, want := range map[string]int{"wiki": wiki, "payroll": payroll} {
		for n := range 5 {
			if got, _ := harness.Get(t, browser, s.URL(label, fmt.Sprint("/page/", n))); got != want {
				t.Errorf("%s: got %d, want %d", label, got, want)
			}
		}
	}
	res, err := s.Browser().Get(s.URL("wiki", "/"))
	if err != nil {
		t.Fatal(err)
	}
	if err := drain(res); err != nil {
		t.Fatal(err)
	}
}

// halves are the two files of a policy that lets staff in, as long as both are of one version.
func halves(version string) map[string]string {
	return map[string]string{
		"left.rego":  fmt.Sprintf("package halves.left\n\nversion := %q\n", version),
		"right.rego": fmt.Sprintf("package halves.right\n\nversion := %q\n", version),
		"wiki.rego": `package sallyport.app["wiki"]

import data.halves.left
import data.halves.right

default decision := {"allow": false, "reasons": [{"code": "mixed"}]}

decision := {"allow": true, "reasons": [{"code": left.version}]} if {
	left.version == right.version
	"staff" in input.subject.groups
}
`}
}

// writeHalves is a folder with a version.
func writeHalves(t *testing.T, folder, version string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range halves(version) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// POL-06, POL-08: the policy's folder is a link that is swapped while the gateway reloads and people ask. Each decision is by
// one version, the one whose digest it names, and nobody whom both let in is ever turned away.
func TestPOL06SwappedFolderUnderLoad(t *testing.T) {
	const requests, clients, swaps = 1500, 8, 12
	s := harness.New(t, "\n  - { name: wiki, host: wiki.corp.test, upstreams: [\"ORIGIN\"], access: { groups: [staff] } }\n", "policy: { bundle: DIR/rego }")
	for _, version := range []string{"one", "two"} {
		writeHalves(t, filepath.Join(s.Dir, version), version)
	}
	link := func(version string) {
		next := filepath.Join(s.Dir, "rego.next")
		if err := os.Symlink(version, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(s.Dir, "rego")); err != nil {
			t.Fatal(err)
		}
	}
	link("one")
	s.Start(t)
	a := newAuditor(t, s)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")

	var sent, refused atomic.Int64
	var people sync.WaitGroup
	for range clients {
		people.Go(func() {
			for sent.Add(1) <= requests {
				res, err := browser.Get(s.URL("wiki", "/page"))
				if err != nil || drain(res) != nil || res.StatusCode != http.StatusOK {
					refused.Add(1)
				}
			}
		})
	}
	for n := range swaps {
		link([]string{"two", "one"}[n%2])
		a.must("reload")
	}
	people.Wait()
	if refused.Load() > 0 {
		t.Errorf("%d of %d requests of somebody whom every version lets in were refused", refused.Load(), requests)
	}
	list := records(t, s)
	if found, err := versions(list); err != nil || len(found) != 2 {
		t.Errorf("decisions are by the versions %v, want both: %v", found, err)
	}
	recomputeAll(t, s, 2)

	// A decision that is recorded under the policy that came after it is found.
	last, other := list[len(list)-1], list[slices.IndexFunc(list, func(r audit.Record) bool { return r.Effect == audit.Allow })]
	last.Type, last.Effect, last.Decision = audit.TypeDecision, audit.Allow, json.RawMessage(`{"allow":true,"reasons":[{"code":"another"}]}`)
	last.Policy.Digest = other.Policy.Digest
	if _, err := versions(append(list, last)); err == nil {
		t.Error("a mixture is not found")
	}
}

// versions are what allowed decisions say of the version that made them, by the digest that they name; the error names one
// that says otherwise than others under its digest.
func versions(list []audit.Record) (map[string]string, error) {
	found := map[string]string{}
	for _, r := range list {
		if r.Type != audit.TypeDecision || r.Effect != audit.Allow {
			continue
		}
		var d policy.Decision
		if err := json.Unmarshal(r.Decision, &d); err != nil {
			return nil, err
		}
		version, known := d.Reasons[0].Code, found[r.Policy.Digest]
		if known != "" && known != version {
			return nil, fmt.Errorf("record %d under %s says %q, others %q", r.Seq, r.Policy.Digest, version, known)
		}
		found[r.Policy.Digest] = version
	}
	return found, nil
}
