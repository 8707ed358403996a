package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/gateway/admin"
	"sallyport/policy/bundle"
	"sallyport/test/harness"
)

const wikiPolicy = `# METADATA
# title: Wiki
# description: Who reads the wiki.
package sallyport.app["wiki"]

# METADATA
# description: Nobody else.
default decision := {"allow": false, "reasons": [{"code": "not_listed"}]}

# METADATA
# description: GROUP reads.
decision := {"allow": true, "reasons": [{"code": "allow", "rule": "wiki/readers"}]} if {
	input.subject.type == "user"
	"GROUP" in input.subject.groups
}
`

// readersBundle is a bundle that lets a group into the wiki.
func readersBundle(group, revision string) bundle.Files {
	return bundle.Files{
		"wiki.rego":         []byte(strings.ReplaceAll(wikiPolicy, "GROUP", group)),
		bundle.ManifestName: fmt.Appendf(nil, `{"revision": %q, "roots": [""]}`, revision),
	}
}

// with is the bundle with another file.
func with(f bundle.Files, name, content string) bundle.Files {
	f = maps.Clone(f)
	f[name] = []byte(content)
	return f
}

// publisher signs bundles and puts them where the gateway looks.
type publisher struct {
	stand *harness.Stand
	file  string
	key   bundle.SigningKey
}

func keyPair(t testing.TB) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a})), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

// newPublisher is a stand whose gateway demands signed bundles at where, DIR its folder.
func newPublisher(t testing.TB, where string) *publisher {
	t.Helper()
	private, public := keyPair(t)
	s := harness.New(t, harness.Apps, "policy: { bundle: \""+where+"\", poll: 1s, verification: { keys: [{ id: ci, algorithm: ES256, file: DIR/ci.pem }] } }")
	if err := os.WriteFile(filepath.Join(s.Dir, "ci.pem"), []byte(public), 0o600); err != nil {
		t.Fatal(err)
	}
	return &publisher{stand: s, file: filepath.Join(s.Dir, "bundle.tar.gz"), key: bundle.SigningKey{ID: "ci", Algorithm: "ES256", Private: private}}
}

func (p *publisher) sign(t testing.TB, f bundle.Files) []byte {
	t.Helper()
	f = maps.Clone(f)
	if err := f.Sign(p.key); err != nil {
		t.Fatal(err)
	}
	packed, err := f.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// put overwrites the bundle in place: nobody notices before a reload.
func (p *publisher) put(t testing.TB, packed []byte) {
	t.Helper()
	if err := os.WriteFile(p.file, packed, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *publisher) status(t testing.TB) admin.PolicyStatus {
	t.Helper()
	out, code := p.stand.Sallyport(t, "status", "--json")
	if code != 0 {
		t.Fatalf("status exits with %d: %s", code, out)
	}
	var s admin.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	return s.Policy
}

func (p *publisher) command(t testing.TB, want int, args ...string) string {
	t.Helper()
	out, code := p.stand.Sallyport(t, args...)
	if code != want {
		t.Fatalf("sallyport %s exits with %d, want %d: %s", strings.Join(args, " "), code, want, out)
	}
	return out
}

// failingTable expects what no bundle here grants.
const failingTable = "cases:\n  - { who: anonymous, app: wiki, expect: allow }\n"

// badBundles is every kind of them, with what must be said of each.
func badBundles(t testing.TB, p *publisher) map[string]struct {
	packed []byte
	says   string
} {
	good := readersBundle("finance", "bad")
	slow := strings.Replace(string(good["wiki.rego"]), `"finance" in input.subject.groups`,
		"count([1 | some i in numbers.range(1, 3000); some j in numbers.range(1, 3000); i * j == -1]) == 0", 1)
	undefined := strings.Replace(string(good["wiki.rego"]), "default decision := {\"allow\": false, \"reasons\": [{\"code\": \"not_listed\"}]}", "x := 1", 1)
	stranger := &publisher{key: bundle.SigningKey{ID: "ci", Algorithm: "ES256"}}
	stranger.key.Private, _ = keyPair(t)
	unsigned, err := good.Pack()
	if err != nil {
		t.Fatal(err)
	}
	whole := p.sign(t, good)
	return map[string]struct {
		packed []byte
		says   string
	}{
		"syntax":              {p.sign(t, with(good, "wiki.rego", "package wiki\n\nx := {\n")), "wiki.rego"},
		"types":               {p.sign(t, with(good, "b.rego", "package b\n\nx := 1 + \"a\"\n")), "b.rego"},
		"a field that is not": {p.sign(t, with(good, "wiki.rego", strings.Replace(string(good["wiki.rego"]), "subject.groups", "subject.grups", 1))), "grups"},
		"wrong signature":     {stranger.sign(t, good), "signature is not good"},
		"no signature":        {unsigned, "demands one"},
		"missing entry point": {p.sign(t, with(good, "wiki.rego", "package sallyport.app[\"wiki\"]\n\nallowed := true\n")), "no rule named decision"},
		"removed default":     {p.sign(t, with(good, "wiki.rego", undefined)), "default"},
		"too slow":            {p.sign(t, with(good, "wiki.rego", slow)), "too slow"},
		"half a download":     {whole[:len(whole)/2], "unexpected EOF"},
		"a failing test":      {p.sign(t, with(good, "wiki_test.rego", "package wiki_test\n\ntest_staff if data.sallyport.app.wiki.decision.allow with input as {\"subject\": {\"type\": \"user\", \"groups\": [\"staff\"]}}\n")), "test_staff"},
		"a failing table":     {p.sign(t, with(good, "tables/wiki.yaml", failingTable)), "want allow, got deny"},
	}
}

// No kind of bad bundle comes into force, and exit code, status, stderr and the control log say why.
func TestABadBundleNeverBecomesActive(t *testing.T) {
	p := newPublisher(t, "DIR/bundle.tar.gz")
	p.put(t, p.sign(t, readersBundle("staff", "good")))
	gw := p.stand.Start(t)
	ada := p.stand.Browser()
	p.stand.SignIn(t, ada, "wiki", "ada", "staff")
	active := p.status(t)
	kinds := badBundles(t, p)
	for name, bad := range kinds {
		p.put(t, bad.packed)
		if out := p.command(t, 1, "reload"); !strings.Contains(out, bad.says) {
			t.Errorf("%s: reload says %q, want %q", name, out, bad.says)
		}
		now := p.status(t)
		if now.Digest != active.Digest || now.Revision != "good" {
			t.Errorf("%s: %s is in force", name, now.Digest)
		}
		if !strings.Contains(now.Error, bad.says) || now.Failed.IsZero() {
			t.Errorf("%s: status says %q", name, now.Error)
		}
		if !strings.Contains(gw.Output(), "policy was refused") {
			t.Errorf("%s: stderr does not say so", name)
		}
		if got, _ := harness.Get(t, ada, p.stand.URL("wiki", "/")); got != http.StatusOK {
			t.Errorf("%s: ada gets %d", name, got)
		}
		if out := p.command(t, 1, "check"); !strings.Contains(out, bad.says) {
			t.Errorf("%s: check says %q", name, out)
		}
		if out := p.command(t, 1, "policy", "activate", p.file); !strings.Contains(out, bad.says) {
			t.Errorf("%s: activate says %q", name, out)
		}
	}
	p.put(t, p.sign(t, readersBundle("staff", "better")))
	p.command(t, 0, "reload")
	if now := p.status(t); now.Revision != "better" || now.Error != "" {
		t.Errorf("after a good one: %+v", now)
	}
	p.put(t, p.sign(t, with(readersBundle("staff", "good"), "tables/wiki.yaml", failingTable)))
	if out := p.command(t, 1, "reload"); !strings.Contains(out, "want allow, got deny") || p.status(t).Revision != "better" {
		t.Errorf("what was in force before, with a test that fails: %s", out)
	}
	refused := 0
	for _, r := range readLog(t, p.stand, audit.ControlLog, audit.Filter{}) {
		if r.Code == "policy_refused" {
			refused++
		}
	}
	if want := 2*len(kinds) - 1; refused < want { // half an archive the command line does not send; what is watched is tried besides
		t.Errorf("%d refusals on record, want %d", refused, want)
	}
}

// Rolled back, the policy stays in force over a reload and a restart, until it is let go.
func TestARolledBackPolicyStays(t *testing.T) {
	p := newPublisher(t, "DIR/bundle.tar.gz")
	p.put(t, p.sign(t, readersBundle("staff", "one")))
	gw := p.stand.Start(t)
	ada := p.stand.Browser()
	p.stand.SignIn(t, ada, "wiki", "ada", "staff")
	expect := func(what string, status int, revision string, pinned bool) {
		t.Helper()
		if got, _ := harness.Get(t, ada, p.stand.URL("wiki", "/")); got != status {
			t.Errorf("%s: ada gets %d, want %d", what, got, status)
		}
		if now := p.status(t); now.Revision != revision || (now.Pinned != nil) != pinned {
			t.Errorf("%s: %+v", what, now)
		}
	}
	expect("at first", http.StatusOK, "one", false)
	p.put(t, p.sign(t, readersBundle("finance", "two")))
	p.command(t, 0, "reload")
	expect("changed", http.StatusForbidden, "two", false)
	p.command(t, 0, "policy", "rollback", "--why", "staff are locked out")
	expect("rolled back", http.StatusOK, "one", true)
	p.command(t, 0, "reload")
	expect("reloaded", http.StatusOK, "one", true)
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	gw = p.stand.Start(t)
	expect("restarted", http.StatusOK, "one", true)
	if !strings.Contains(gw.Output(), "pinned") {
		t.Error("stderr does not say that the policy is pinned")
	}
	if out := p.command(t, 0, "policy", "list"); !strings.Contains(out, "active, pinned") || !strings.Contains(out, "staff are locked out") {
		t.Errorf("list says %s", out)
	}
	p.command(t, 1, "policy", "rollback", "000000000000")
	p.command(t, 0, "policy", "unpin", "--why", "tried enough")
	expect("let go", http.StatusForbidden, "two", false)
	p.command(t, 1, "policy", "unpin")
	mended := p.sign(t, readersBundle("staff", "three"))
	other := filepath.Join(t.TempDir(), "mended.tar.gz") // the gateway watches its own, and would end the pin
	if err := os.WriteFile(other, mended, 0o600); err != nil {
		t.Fatal(err)
	}
	p.command(t, 0, "policy", "activate", other, "--why", "mended")
	expect("activated", http.StatusOK, "three", true)
	p.put(t, mended)
	p.command(t, 0, "reload")
	expect("configured too", http.StatusOK, "three", false)
	recomputeAll(t, p.stand, 3)
}

// A pin that ended because a restart found the configuration leading to it does not come back.
func TestAPinEndsWithARestart(t *testing.T) {
	p := newPublisher(t, "DIR/bundle.tar.gz")
	p.put(t, p.sign(t, readersBundle("staff", "one")))
	gw := p.stand.Start(t)
	p.put(t, p.sign(t, readersBundle("finance", "two")))
	p.command(t, 0, "reload")
	p.command(t, 0, "policy", "rollback")
	p.put(t, p.sign(t, readersBundle("staff", "one")))
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	p.stand.Start(t)
	if now := p.status(t); now.Revision != "one" || now.Pinned != nil {
		t.Errorf("restarted: %+v", now)
	}
	p.put(t, p.sign(t, readersBundle("finance", "three")))
	p.command(t, 0, "reload")
	if now := p.status(t); now.Revision != "three" || now.Pinned != nil {
		t.Errorf("reloaded: %+v", now)
	}
}

// Policies change while people work, and nobody notices but by the answers.
func TestChangingPoliciesFailsNoRequest(t *testing.T) {
	const clients = 8
	p := newPublisher(t, "DIR/bundle.tar.gz")
	p.put(t, p.sign(t, readersBundle("staff", "one")))
	p.stand.Start(t)
	ada := p.stand.Browser()
	p.stand.SignIn(t, ada, "wiki", "ada", "staff")
	var stop atomic.Bool
	var sent, failed atomic.Int64
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for !stop.Load() {
				sent.Add(1)
				if !answeredByPolicy(ada, p.stand.URL("wiki", "/page")) {
					failed.Add(1)
				}
			}
		})
	}
	var slowest time.Duration
	timed := func(args ...string) {
		began := time.Now()
		p.command(t, 0, args...)
		slowest = max(slowest, time.Since(began))
	}
	for n := range 5 {
		p.put(t, p.sign(t, readersBundle([]string{"finance", "staff"}[n%2], fmt.Sprint("r", n))))
		timed("reload")
		timed("policy", "rollback")
		timed("policy", "unpin")
	}
	stop.Store(true)
	group.Wait()
	t.Logf("%d requests; the slowest of 15 changes took %v", sent.Load(), slowest)
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
}

// An address is asked for another bundle with the last one's ETag. What it gives is held against the same gates, and when
// it cannot be asked, after a restart too, the last good bundle serves.
func TestBundlesFromAnAddress(t *testing.T) {
	var serving atomic.Pointer[[]byte]
	var down atomic.Bool
	var unchanged atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		packed := *serving.Load()
		etag := fmt.Sprintf(`"%x"`, sha256.Sum256(packed))
		switch {
		case down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case r.Header.Get("If-None-Match") == etag:
			unchanged.Add(1)
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", etag)
			w.Write(packed)
		}
	}))
	defer server.Close()
	p := newPublisher(t, server.URL+"/bundle.tar.gz")
	serve := func(packed []byte) { serving.Store(&packed) }
	serve(p.sign(t, readersBundle("staff", "one")))
	gw := p.stand.Start(t)
	restart := func() {
		t.Helper()
		if err := gw.Stop(); err != nil {
			t.Fatal(err)
		}
		gw = p.stand.Start(t)
	}
	eventually := func(what string, holds func(admin.PolicyStatus) bool) {
		t.Helper()
		harness.Eventually(t, 2*time.Minute, what, func() bool { return holds(p.status(t)) })
	}
	eventually("an answer that nothing changed", func(admin.PolicyStatus) bool { return unchanged.Load() > 0 })
	serve(p.sign(t, readersBundle("finance", "second")))
	eventually("another bundle", func(s admin.PolicyStatus) bool { return s.Revision == "second" })
	bad := p.sign(t, readersBundle("everybody", "third"))
	serve(bad[:len(bad)/2])
	eventually("the refusal of half a bundle", func(s admin.PolicyStatus) bool { return s.Revision == "second" && strings.Contains(s.Error, "EOF") })
	p.command(t, 1, "reload")
	down.Store(true)
	p.command(t, 0, "reload")
	eventually("word of the server", func(s admin.PolicyStatus) bool { return s.Revision == "second" && strings.Contains(s.Error, "502") })
	restart()
	eventually("the last good bundle", func(s admin.PolicyStatus) bool { return s.Revision == "second" && strings.Contains(s.Error, "502") })
	down.Store(false)
	restart()
	eventually("the last good bundle beside half a one", func(s admin.PolicyStatus) bool { return s.Revision == "second" && strings.Contains(s.Error, "EOF") })
	serve(p.sign(t, readersBundle("staff", "fourth-one")))
	eventually("the server again", func(s admin.PolicyStatus) bool { return s.Revision == "fourth-one" && s.Error == "" })

	unkept := filepath.Join(p.stand.Dir, "policy", "last.json.next")
	if err := os.Mkdir(unkept, 0o700); err != nil { // as if the disk were full
		t.Fatal(err)
	}
	serve(p.sign(t, readersBundle("staff", "the-fifth-one")))
	eventually("a bundle that cannot be kept", func(s admin.PolicyStatus) bool { return s.Revision == "the-fifth-one" })
	down.Store(true)
	p.command(t, 0, "reload")
	if now := p.status(t); now.Revision != "the-fifth-one" {
		t.Errorf("a reload without the server leads back to %s", now.Revision)
	}
}

// Over http a bundle is trusted for its signature, by the gateway and by those who review its policy.
func TestHTTPAddressesAreTrustedForSignatures(t *testing.T) {
	p := newPublisher(t, "http://policies.corp.test/bundle.tar.gz")
	packed := p.sign(t, readersBundle("staff", "one"))
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(packed) }))
	defer proxy.Close()
	t.Setenv("http_proxy", proxy.URL)
	p.stand.Start(t)
	if now := p.status(t); now.Revision != "one" {
		t.Errorf("in force is %+v", now)
	}
	p.command(t, 0, "policy", "diff", "--from", "active", "--to", p.stand.Config, "--exit-code")
}
