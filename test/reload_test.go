package test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/policy"
	"sallyport/test/harness"
)

// The two good configurations swap who may see what: ada the wiki and bob the payroll, or the other way round.
const (
	appsOne = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], access: { groups: [finance] } }
`
	appsTwo = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], access: { groups: [finance] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] } }
`
	appsBroken = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], acces: { groups: [staff, finance] } }
`
)

func TestReloadUnderLoadFailsNoRequest(t *testing.T) {
	const requests, clients = 10_000, 16
	s := harness.New(t, appsOne, "")
	gw := s.Start(t)
	var people []*http.Client
	for person, group := range map[string]string{"ada": "staff", "bob": "finance"} {
		browser := s.Browser()
		s.SignIn(t, browser, "wiki", person, group)
		harness.Get(t, browser, s.URL("payroll", "/"))
		people = append(people, browser)
	}
	stop := swapConfigurations(t, s, gw)
	var sent, failed atomic.Int64
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for n := sent.Add(1); n <= requests; n = sent.Add(1) {
				if !answeredByPolicy(people[n%2], s.URL([]string{"wiki", "payroll"}[n/2%2], "/page")) {
					failed.Add(1)
				}
			}
		})
	}
	group.Wait()
	good, broken := stop()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), requests)
	}
	if good < 3 || broken < 3 {
		t.Errorf("only %d good and %d broken configurations were offered", good, broken)
	}
	if output := gw.Output(); !strings.Contains(output, "acces") || !strings.Contains(output, "not reloaded") {
		t.Errorf("stderr does not say what is wrong with the broken file:\n%.2000s", output)
	}
	recomputeAll(t, s, 2)
}

// swapConfigurations offers good and broken configurations in turn until stopped, each by rename and SIGHUP.
func swapConfigurations(t *testing.T, s *harness.Stand, gw *harness.Process) (stop func() (good, broken int)) {
	t.Helper()
	quit, finished := make(chan struct{}), make(chan struct{})
	var good, broken int
	go func() {
		defer close(finished)
		for n := 0; ; n++ {
			select {
			case <-quit:
				s.Write(t, appsOne)
				return
			default:
			}
			switch n % 4 {
			case 0:
				s.Write(t, appsTwo)
				good++
			case 2:
				s.Write(t, appsOne)
				good++
			default:
				s.Write(t, appsBroken)
				broken++
			}
			before := strings.Count(gw.Output(), "reloaded")
			gw.Signal(syscall.SIGHUP)
			harness.Eventually(t, 2*time.Minute, "the reload", func() bool { return strings.Count(gw.Output(), "reloaded") > before })
		}
	}()
	return func() (int, int) { close(quit); <-finished; return good, broken }
}

// answeredByPolicy holds when the answer is one that the policy gave: the app's, or a recorded no.
func answeredByPolicy(client *http.Client, address string) bool {
	res, err := client.Get(address)
	if err != nil {
		return false
	}
	return drain(res) == nil && (res.StatusCode == http.StatusOK || res.StatusCode == http.StatusForbidden)
}

// recomputeAll holds every decision record against the archive of its digest: input in, the same verdict out.
func recomputeAll(t *testing.T, s *harness.Stand, digests int) {
	t.Helper()
	list := records(t, s)
	gapless(t, list)
	decisionsByRequest(t, list)
	engines := map[string]*policy.Engine{}
	for _, r := range list {
		if r.Type != audit.TypeDecision || r.Effect == audit.Reject {
			continue
		}
		engine := engines[r.Policy.Digest]
		if engine == nil {
			engine = openPolicy(t, s, r.Policy.Digest)
			engines[r.Policy.Digest] = engine
		}
		verdict := engine.Recompute(t.Context(), r.Input)
		if verdict.Allow != (r.Effect == audit.Allow) || verdict.Reason != r.Reason || string(verdict.JSON) != string(r.Decision) {
			t.Fatalf("record %d under %s: recorded %s %s %s, recomputed %s", r.Seq, r.Policy.Digest, r.Effect, r.Reason, r.Decision, verdict.JSON)
		}
	}
	if len(engines) != digests {
		t.Errorf("decisions name %d policies, want %d", len(engines), digests)
	}
}

func openPolicy(t *testing.T, s *harness.Stand, digest string) *policy.Engine {
	t.Helper()
	archive, err := audit.ReadPolicy(filepath.Join(s.Dir, "audit"), digest)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := policy.OpenArchive(archive)
	if err != nil {
		t.Fatal(err)
	}
	if bundle.Digest != digest {
		t.Fatalf("the archive kept as %s has digest %s", digest, bundle.Digest)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func TestReloadRefusesWhatNeedsARestart(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	s.WriteRaw(t, strings.Replace(string(text), "/audit,", "/elsewhere,", 1))
	out, code := s.Sallyport(t, "reload")
	if code != 1 || !strings.Contains(out, "audit cannot change in a running gateway") {
		t.Errorf("exit %d: %s", code, out)
	}
	out, _ = s.Sallyport(t, "status")
	if !strings.Contains(out, "audit cannot change in a running gateway") {
		t.Errorf("status does not say that the reload failed:\n%s", out)
	}
}

func TestGatewayWarnsOfHostsThatCannotWork(t *testing.T) {
	s := harness.New(t, harness.Apps+`
  - { name: crm, host: crm.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] } }
`, "")
	output := s.Start(t).Output()
	for _, want := range []string{"is its origin among assertion.audiences in keyd.yaml?", "no certificate is for this host", "crm.corp.test"} {
		if !strings.Contains(output, want) {
			t.Errorf("the start does not say %q:\n%s", want, output)
		}
	}
	if strings.Contains(output, "host=wiki.corp.test") {
		t.Errorf("the start warns of a host that works:\n%s", output)
	}
}
