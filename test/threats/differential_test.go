package threats

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sallyport/audit"
	"sallyport/test/harness"
	"sallyport/test/rawhttp"
)

// decided is what the gateway's verdict was about.
type decided struct{ method, host, path, query string }

// twins are two back ends of different make behind one gateway, which get the same requests.
type twins struct {
	hosts    [2]string // authorities
	backends [2]*backend
	targets  [2]rawhttp.Target
}

// hostile are the cases that a gateway might forward, and that both back ends could answer: not those that name one app's
// host, nor those with a head of more than the 16 KiB that Node reads.
func hostile() []rawhttp.Case {
	return slices.DeleteFunc(rawhttp.Cases(), func(c rawhttp.Case) bool {
		return c.Anonymous || c.Own || c.Plain || c.Script != "" || strings.HasPrefix(c.ID, "DOS-") || len(c.Raw)+len(fmt.Sprint(c.Fields)) > 16<<10 ||
			strings.Contains(strings.ToLower(fmt.Sprint(c.Raw, c.Fields)), "wiki")
	})
}

// differ sends every case to both and says where what was read is not what was decided, or not the same.
func (w *twins) differ(t *testing.T, cases []rawhttp.Case, decisions func() map[string]decided) (found []string) {
	t.Helper()
	words := make([][2]string, 0, len(cases)) // {id} of each case, per back end
	for _, c := range cases {
		var ids [2]string
		for i, target := range w.targets {
			ids[i], _ = target.Send(c)
		}
		words = append(words, ids)
	}
	seen := [2][]sighting{w.backends[0].all(t), w.backends[1].all(t)}
	verdicts := decisions()
	for i, list := range seen {
		once := map[string]bool{}
		for _, s := range list {
			if s.Broken != "" {
				continue // a message that never ended
			}
			verdict, known := verdicts[s.ID]
			got := decided{s.Method, s.Host, s.Path, fmt.Sprint(s.Query)}
			verdict.query = fmt.Sprint(pairs(verdict.query))
			switch {
			case !known:
				found = append(found, fmt.Sprintf("back end %d read %+v, which nobody decided on", i, s))
			case once[s.ID]:
				found = append(found, fmt.Sprintf("back end %d read %+v twice", i, s))
			case got != verdict:
				found = append(found, fmt.Sprintf("back end %d read %q, and decided was %q", i, got, verdict))
			case s.Authority != s.Host || s.Trailers > 0:
				found = append(found, fmt.Sprintf("back end %d read %+v", i, s))
			}
			once[s.ID] = true
		}
	}
	return append(found, w.disagreements(cases, words, seen)...)
}

// disagreements are the cases of which the back ends read different things.
func (w *twins) disagreements(cases []rawhttp.Case, words [][2]string, seen [2][]sighting) (found []string) {
	readings := func(i int, word string) (list []string) {
		for _, s := range seen[i] {
			if s.Broken == "" && strings.Contains(s.Path, word) {
				size := s.Size
				if size > 100 {
					size -= int64(len(w.hosts[i])) // a request in the body, which names its host
				}
				list = append(list, fmt.Sprintf("%s %s %q, %d bytes", s.Method, strings.ReplaceAll(s.Path, word, "{id}"), s.Query, size))
			}
		}
		return list
	}
	for n, c := range cases {
		one, two := readings(0, words[n][0]), readings(1, words[n][1])
		if !c.Torn && !slices.Equal(one, two) {
			found = append(found, fmt.Sprintf("%s %s %.60q: %q read by one, %q by the other", c.ID, c.Protocol(), c.Name, one, two))
		}
	}
	return found
}

// twoBackends is the fixture: ada may use /app/ of both.
const twoBackends = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["GO"], access: [{ paths: ["/app/"], groups: [staff] }] }
  - { name: payroll, host: payroll.corp.test, upstreams: ["NODE"], access: [{ paths: ["/app/"], groups: [staff] }] }
`

// TestBackendsReadWhatWasDecided: of every hostile request, Go's and Node's servers behind the gateway read one request
// or none, the same one, and the one that is on record as decided.
func TestBackendsReadWhatWasDecided(t *testing.T) {
	w := &twins{backends: [2]*backend{onGo(t), onNode(t)}}
	s := harness.New(t, strings.NewReplacer("GO", w.backends[0].URL, "NODE", w.backends[1].URL).Replace(twoBackends), unlimited)
	gateway := s.Start(t)
	w.hosts = [2]string{authority(s, "wiki"), authority(s, "payroll")}
	for i, label := range []string{"wiki", "payroll"} {
		w.targets[i] = rawhttp.Target{Dialer: rawhttp.Dialer{Address: s.Address(), Roots: s.Roots()}, Host: w.hosts[i], Other: w.hosts[1-i], Auth: authority(s, "auth"),
			Session: signIn(t, s, label, "ada"), OtherSession: "none"}
	}
	for _, b := range w.backends {
		b.all(t) // the sign-ins
	}
	served := 0
	found := w.differ(t, hostile(), func() map[string]decided {
		if err := gateway.Stop(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		verdicts := allowed(t, readJournal(t, s), w.hosts)
		served = len(verdicts)
		return verdicts
	})
	for _, f := range found {
		t.Error(f)
	}
	t.Logf("%d cases for each of two back ends, %d requests allowed", len(hostile()), served)
	if served < 200 {
		t.Errorf("only %d requests were allowed", served)
	}
}

// allowed are the allow decisions on record.
func allowed(t *testing.T, j *journal, hosts [2]string) map[string]decided {
	t.Helper()
	verdicts := map[string]decided{}
	for id, r := range j.decisions {
		if r.Effect != audit.Allow {
			continue
		}
		var in struct {
			Action   struct{ Method string }
			Resource struct{ Host, Path, Query string }
		}
		if err := json.Unmarshal(r.Input, &in); err != nil {
			t.Fatal(err)
		}
		host := hosts[slices.IndexFunc(hosts[:], func(h string) bool { name, _, _ := net.SplitHostPort(h); return name == in.Resource.Host })]
		verdicts[id] = decided{in.Action.Method, host, in.Resource.Path, in.Resource.Query}
	}
	return verdicts
}

// TestBackendsTellACarelessGateway: the same cases find a gateway that decides on a cleaned path and forwards what it got.
func TestBackendsTellACarelessGateway(t *testing.T) {
	w := &twins{backends: [2]*backend{onGo(t), onNode(t)}}
	var mu sync.Mutex
	verdicts := map[string]decided{}
	gateway := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		clean := path.Clean(r.URL.Path)
		if !strings.HasPrefix(clean+"/", "/app/") {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		app := 0
		if strings.HasPrefix(r.Host, "payroll") {
			app = 1
		}
		mu.Lock()
		id := strconv.Itoa(len(verdicts))
		verdicts[id] = decided{r.Method, w.hosts[app], clean, r.URL.RawQuery}
		mu.Unlock()
		to, _ := url.Parse(w.backends[app].URL)
		proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.Host = p.In.Host
			p.Out.Header.Set("X-Request-Id", id)
		}}
		proxy.ServeHTTP(rw, r)
	}))
	gateway.Config.ErrorLog = log.New(io.Discard, "", 0)
	gateway.EnableHTTP2 = true
	gateway.StartTLS()
	defer gateway.Close()
	_, port, _ := net.SplitHostPort(gateway.Listener.Addr().String())
	roots := x509.NewCertPool()
	roots.AddCert(gateway.Certificate())
	w.hosts = [2]string{"wiki.example.com:" + port, "payroll.example.com:" + port}
	for i := range w.targets {
		w.targets[i] = rawhttp.Target{Dialer: rawhttp.Dialer{Address: gateway.Listener.Addr().String(), Roots: roots}, Host: w.hosts[i], Other: w.hosts[1-i], Auth: "auth.example.com:" + port, Session: "ada"}
	}
	targets := slices.DeleteFunc(hostile(), func(c rawhttp.Case) bool { return !strings.HasPrefix(c.ID, "PATH-") })
	found := w.differ(t, targets, func() map[string]decided { return verdicts })
	if len(found) < 20 {
		t.Errorf("a careless gateway differs in %d cases only: %q", len(found), found)
	}
	t.Logf("a careless gateway differs in %d cases", len(found))
}
