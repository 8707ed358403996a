package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/gateway/limit"
	"sallyport/gateway/route"
	"sallyport/policy"
)

// within serves the wiki again, under limits.
func (b *bed) within(t testing.TB, limits limit.Config, of limit.App, groups ...string) {
	t.Helper()
	app := wiki(t, b.origin, groups...)
	app.Limits = of
	b.limited(t, limits, app)
}

func (b *bed) limited(t testing.TB, limits limit.Config, app route.App) {
	t.Helper()
	snap := snapshot(t, app)
	snap.Limits = limits
	b.server.Swap(snap)
}

// never is a rate that lets some through at once, and then nobody for a while.
func never(burst int64) limit.Rate { return limit.Every(burst, 24*time.Hour) }

// ask asks for a path on a host and returns status, head and body.
func (b *bed) ask(t *testing.T, client *http.Client, host, path, handle string) (int, http.Header, string) {
	t.Helper()
	r := b.request(t, "GET", path, handle, nil)
	r.URL.Host, r.Host = host, host
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

// DOS-14: strangers have a rate by address. Over it they get one answer wherever they ask, which says nothing of what there
// is, and people who are signed in behind the same address get none of it, nor does a refusal of the protocol change.
func TestStrangersHaveARateByAddress(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	app := wiki(t, b.origin, "staff")
	app.Path = "/wiki/"
	b.limited(t, limit.Config{Strangers: never(5)}, app)
	client := b.client(t, "http/1.1")
	for i := range 5 {
		if status, _, _ := b.ask(t, client, wikiHost, "/wiki/", []string{"", "nobody's"}[i%2]); status != http.StatusUnauthorized {
			t.Fatalf("request %d of 5 gets %d", i, status)
		}
	}
	var answers []string
	for _, path := range []string{"/wiki/", "/elsewhere", "/.sallyport/return", "/.sallyport/nothing"} {
		for _, handle := range []string{"", "nobody's"} {
			status, header, body := b.ask(t, client, wikiHost, path, handle)
			answers = append(answers, fmt.Sprint(status, header["Retry-After"], header["Ratelimit-Policy"], header["Ratelimit"], strings.SplitAfter(body, "reference")[0]))
		}
	}
	for _, answer := range answers {
		if answer != answers[0] {
			t.Errorf("answers differ: %s and %s", answers[0], answer)
		}
	}
	if want := `429 [17280] ["strangers";q=5;w=86400] ["strangers";r=0;t=17280]`; !strings.HasPrefix(answers[0], want) {
		t.Errorf("strangers get %s, want %s…", answers[0], want)
	}
	if status, _, _ := b.ask(t, client, wikiHost, "/a/%2e%2e/b", ""); status != http.StatusBadRequest {
		t.Errorf("a request that is refused for its form gets %d, want 400", status)
	}
	for range 20 {
		if status, _, body := b.ask(t, client, wikiHost, "/wiki/", "ada"); status != http.StatusOK {
			t.Fatalf("ada, behind the same address, gets %d: %s", status, body)
		}
	}
	if n := len(b.log.of(audit.TypeDecision)); n != 5+4+1+20 { // own endpoints have no record, but are counted
		t.Errorf("there are %d records", n)
	}
	if n := b.window.of("rate_limited", ""); n != 4 {
		t.Errorf("%d refusals of own endpoints were counted, want 4", n)
	}
}

// All strangers together have a rate, too, and sign-ins one by address, which whoever is signed in does not use up.
func TestStrangersAndSignInsHaveTotals(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	b.within(t, limit.Config{StrangersTotal: never(3)}, limit.App{}, "staff")
	client := b.client(t, "h2")
	for i := range 5 {
		if status, header, _ := b.ask(t, client, wikiHost, "/", ""); (status == http.StatusTooManyRequests) != (i >= 3) {
			t.Errorf("request %d gets %d %v", i, status, header["Ratelimit"])
		}
	}
	b.within(t, limit.Config{SignIn: limit.SignIn{Address: never(2)}}, limit.App{}, "staff")
	client = b.client(t, "h2")
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "auth.corp.test"
	for i, path := range []string{"/.sallyport/callback/corp", "/.sallyport/callback/corp", "/.sallyport/callback/corp", "/.sallyport/start"} {
		status, header, _ := b.ask(t, client, "auth.corp.test", path, "")
		if limited := status == http.StatusTooManyRequests && strings.HasPrefix(header.Get("RateLimit"), `"sign_in_address"`); limited != (i >= 2) {
			t.Errorf("step %d gets %d %v", i, status, header["Ratelimit"])
		}
	}
	if status, _, _ := b.ask(t, client, "auth.corp.test", "/.sallyport/jwks.json", ""); status != http.StatusOK {
		t.Errorf("the key set gets %d", status)
	}
}

func TestAddressesCountByWhatOneClientHas(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true}, {"192.0.2.1", "192.0.2.2", false}, {"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true}, {"2001:db8:1:2::1", "2001:db8:1:3::1", false}, {"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if same := networkOf(netip.MustParseAddr(c.a)) == networkOf(netip.MustParseAddr(c.b)); same != c.same {
			t.Errorf("%s and %s are one: %v, want %v", c.a, c.b, same, c.same)
		}
	}
}

// A person, the members of a group together and all people of an app together have rates. Each refusal of a person has its
// record, which says what was reached.
func TestPeopleHaveRates(t *testing.T) {
	for name, c := range map[string]struct {
		of       limit.App
		ada, bob int // how many of four requests each, taking turns, get through
		why      string
	}{
		"person":         {limit.App{Person: never(2)}, 2, 2, "over person: 2/d"},
		"group":          {limit.App{Groups: map[string]limit.Rate{"staff": never(2), "others": never(1)}}, 1, 1, "over group staff: 2/d"},
		"app":            {limit.App{App: never(3)}, 2, 1, "the policy allows it; over app: 3/d"},
		"person and app": {limit.App{Person: never(1), App: never(2)}, 1, 1, "over person: 1/d"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, func(http.ResponseWriter, *http.Request) {})
			b.sessions.put("bob", "staff")
			b.sessions.put("gil", "guests")
			b.within(t, limit.Config{}, c.of, "staff")
			client := b.client(t, "http/1.1")
			for _, handle := range []string{"gil", ""} { // whoever is denied takes nothing from others
				b.ask(t, client, wikiHost, "/", handle)
			}
			through := map[string]int{}
			for range 4 {
				for _, handle := range []string{"ada", "bob"} {
					if status, _, _ := b.ask(t, client, wikiHost, "/", handle); status == http.StatusOK {
						through[handle]++
					}
				}
			}
			if through["ada"] != c.ada || through["bob"] != c.bob {
				t.Errorf("%v got through, want ada %d and bob %d", through, c.ada, c.bob)
			}
			limited := 0
			for _, r := range b.log.of(audit.TypeDecision) {
				if r.Effect == audit.Reject && r.Reason == "rate_limited" && r.Session != "" && r.App == "wiki" {
					limited++
					if !strings.Contains(string(r.Detail), c.why) {
						t.Errorf("the record says %s, want %q", r.Detail, c.why)
					}
				}
			}
			if limited != 8-c.ada-c.bob {
				t.Errorf("%d refusals are on record, want %d", limited, 8-c.ada-c.bob)
			}
		})
	}
}

// What one limit refuses costs nothing of the others: not the rest of a group, and not the same person.
func TestWhatALimitRefusesCostsNothing(t *testing.T) {
	g1 := map[string]limit.Rate{"g1": never(10)}
	for name, c := range map[string]struct {
		of   limit.App
		open bool // ada has a stream open
		ada  int  // how many of her twelve requests get through
		bob  int  // how many of his get through then, under the rate of the group that both are in
	}{
		"a later group":  {limit.App{Groups: map[string]limit.Rate{"g1": never(10), "g2": never(3)}}, false, 3, 7},
		"the app":        {limit.App{Groups: g1, App: never(4)}, false, 4, 6},
		"one at a time":  {limit.App{Groups: g1, Concurrency: limit.Concurrency{Person: 1}}, true, 0, 9},
		"one in the app": {limit.App{Groups: g1, Concurrency: limit.Concurrency{App: 1}}, true, 0, 9},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/open" {
					w.WriteHeader(http.StatusOK)
					w.(http.Flusher).Flush()
					<-done
				}
			})
			t.Cleanup(func() { close(done) })
			b.sessions.put("ada", "staff", "g1", "g2")
			b.sessions.put("bob", "staff", "g1")
			b.within(t, limit.Config{}, c.of, "staff")
			client := b.client(t, "http/1.1")
			if c.open {
				res, err := client.Do(b.request(t, "GET", "/open", "ada", nil))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
			}
			served := func(handle string) (n int) {
				for range 12 {
					if status, _, _ := b.ask(t, client, wikiHost, "/", handle); status == http.StatusOK {
						n++
					}
				}
				return n
			}
			if n := served("ada"); n != c.ada {
				t.Errorf("%d requests of ada got through, want %d", n, c.ada)
			}
			b.within(t, limit.Config{}, limit.App{Groups: g1}, "staff")
			if n := served("bob"); n != c.bob {
				t.Errorf("%d requests of bob got through, want %d", n, c.bob)
			}
		})
	}
}

// What all strangers together may not ask costs an address nothing.
func TestStrangersTotalCostsNoAddress(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	client := b.client(t, "http/1.1")
	for _, row := range []struct {
		total    limit.Rate
		answered int
	}{{never(2), 2}, {limit.Rate{}, 3}} {
		b.within(t, limit.Config{Strangers: never(5), StrangersTotal: row.total}, limit.App{}, "staff")
		answered := 0
		for range 8 {
			if status, _, _ := b.ask(t, client, wikiHost, "/", ""); status == http.StatusUnauthorized {
				answered++
			}
		}
		if answered != row.answered {
			t.Errorf("total %v: %d were answered, want %d", row.total, answered, row.answered)
		}
	}
}

// A reload forgives nobody.
func TestRatesOutliveAReload(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	client := b.client(t, "http/1.1")
	for i := range 2 {
		b.within(t, limit.Config{}, limit.App{Person: never(1)}, "staff")
		if status, _, _ := b.ask(t, client, wikiHost, "/", "ada"); (status == http.StatusOK) != (i == 0) {
			t.Errorf("after %d reloads: %d", i, status)
		}
	}
}

// Requests count as under way until they are finished, streams and WebSockets for as long as they are open.
func TestSoManyRequestsAtATime(t *testing.T) {
	for name, c := range map[string]struct {
		of    limit.Concurrency
		limit string
		bob   int
	}{
		"person": {limit.Concurrency{Person: 2}, `"concurrency_person";q=2;qu="concurrent-requests"`, http.StatusOK},
		"app":    {limit.Concurrency{App: 2}, `"concurrency_app";q=2;qu="concurrent-requests"`, http.StatusTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/events" {
					w.Header().Set("Content-Type", "text/event-stream")
					io.WriteString(w, "data: hello\n\n")
					w.(http.Flusher).Flush()
					<-done
				}
			})
			t.Cleanup(func() {
				select {
				case <-done:
				default:
					close(done)
				}
			})
			b.sessions.put("bob", "staff")
			b.within(t, limit.Config{}, limit.App{Concurrency: c.of}, "staff")
			client := b.client(t, "http/1.1")
			var streams []*http.Response
			for range 2 {
				res, err := client.Do(b.request(t, "GET", "/events", "ada", nil))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				streams = append(streams, res)
			}
			status, header, _ := b.ask(t, client, wikiHost, "/", "ada")
			if status != http.StatusTooManyRequests || header.Get("RateLimit-Policy") != c.limit || header.Get("Retry-After") != "1" {
				t.Errorf("a third request gets %d, %v", status, header)
			}
			if status, _, _ := b.ask(t, client, wikiHost, "/", "bob"); status != c.bob {
				t.Errorf("bob gets %d, want %d", status, c.bob)
			}
			if r := b.log.of(audit.TypeDecision)[2]; r.Reason != "too_many_at_once" || r.Session == "" {
				t.Errorf("the refusal is recorded as %q", r.Reason)
			}
			close(done)
			for _, res := range streams {
				io.Copy(io.Discard, res.Body)
			}
			eventually(t, "room for another request", func() bool {
				status, _, _ := b.ask(t, client, wikiHost, "/", "ada")
				return status == http.StatusOK
			})
		})
	}
}

// What the policy demands for a request holds by person and rule, and says of itself that the policy said yes.
func TestPolicysRatesAreKept(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	b.sessions.put("bob", "staff")
	b.limited(t, limit.Config{}, wiki(t, b.origin, "staff"))
	snap := *b.server.Snapshot()
	snap.Policy = ratedPolicy(t, wiki(t, b.origin, "staff"))
	b.server.Swap(&snap)
	client := b.client(t, "http/1.1")
	for _, handle := range []string{"ada", "bob"} {
		for i := range 4 {
			status, header, _ := b.ask(t, client, wikiHost, "/", handle)
			if (status == http.StatusOK) != (i < 2) {
				t.Errorf("request %d of %s gets %d %v", i, handle, status, header)
			}
		}
	}
	refused := 0
	for _, r := range b.log.of(audit.TypeDecision) {
		if r.Reason == "rate_limited" && strings.Contains(string(r.Detail), "the policy allows it; over policy") {
			refused++
		}
	}
	if refused != 4 {
		t.Errorf("%d refusals are on record, want 4", refused)
	}
}

// ratedPolicy lets everybody in twice a day.
func ratedPolicy(t *testing.T, app route.App) *policy.Engine {
	t.Helper()
	folder := t.TempDir()
	rego := `package sallyport.app["wiki"]

decision := {"allow": true, "reasons": [{"code": "allow"}], "obligations": [{"type": "rate_limit", "requests": 2, "per_s": 86400}]}
`
	if err := os.WriteFile(filepath.Join(folder, "wiki.rego"), []byte(rego), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, err := policy.Build(policy.Config{Bundle: folder}, []policy.App{app.Policy()}, policy.RateLimit)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// DOS-12: a stranger's body is not read, and the connection that would bring it is closed.
func TestDOS12StrangersBodyIsNotRead(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	for _, limits := range []limit.Config{{}, {Strangers: never(1)}} {
		b.within(t, limits, limit.App{}, "staff")
		for range 2 {
			conn, err := tls.Dial("tcp", b.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: wikiHost, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", wikiHost, 32<<20)
			conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			answer, err := io.ReadAll(conn) // not one byte of the body was sent
			if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 401") && !strings.HasPrefix(string(answer), "HTTP/1.1 429") ||
				!strings.Contains(string(answer), "Connection: close") {
				t.Errorf("a stranger with a body gets %q, %v", answer, err)
			}
		}
	}
}

// Above their rate of records, refusals of strangers are counted, exactly, and the log keeps its size; whatever is decided
// on ada, in the middle of it, has its record, and so has what a public app allows to strangers. Metrics say what the log
// says.
func TestStrangersRefusalsBecomeCounts(t *testing.T) {
	if err := flooded(t, func(*bed) {}); err != nil {
		t.Error(err)
	}
	// As it must not be: every refusal is counted away, whoever it is about.
	if flooded(t, func(b *bed) { b.server.countsAway = func(*exchange) bool { return true } }) == nil {
		t.Error("the mutant that counts people away was not noticed")
	}
}

func flooded(t *testing.T, change func(*bed)) error {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	public := wiki(t, b.origin)
	public.Name, public.Path, public.Access = "news", "/news/", policy.Access{{Public: true}}
	app := wiki(t, b.origin, "board")
	snap := snapshot(t, app, public)
	snap.Limits = limit.Config{StrangersRecords: never(50)}
	b.server.Swap(snap)
	change(b)
	const rounds, clients = 500, 4
	var flood sync.WaitGroup
	for range clients {
		flood.Go(func() {
			client := b.client(t, "http/1.1")
			for i := range rounds {
				path := []string{"/", "/%2e%2e/", "/news/", "/page"}[i%4]
				answerTo(t, client, b.request(t, "GET", path, "", nil))
			}
		})
	}
	const denied = 100
	client := b.client(t, "h2")
	for range denied {
		answerTo(t, client, b.request(t, "GET", "/", "ada", nil))
	}
	flood.Wait()
	var people, strangers, allowed int
	for _, r := range b.log.of(audit.TypeDecision) {
		switch {
		case r.Session != "":
			people++
		case r.Effect == audit.Allow:
			allowed++
		default:
			strangers++
		}
	}
	refused := rounds * clients * 3 / 4
	if n := b.window.of("unauthenticated", "wiki") + b.window.of("dot_segment", "") + strangers; strangers != 50 || n != refused {
		return fmt.Errorf("%d refusals of strangers have records, %v are counted; there were %d", strangers, b.window.counts, refused)
	}
	if people != denied || allowed != rounds*clients/4 {
		return fmt.Errorf("%d decisions on ada have records of %d, and %d allowed requests of strangers of %d", people, denied, allowed, rounds*clients/4)
	}
	if n := b.metric(t, `sallyport_requests_total`, "effect", "counted"); n != float64(refused-50) {
		return fmt.Errorf("the metrics say that %v were counted", n)
	}
	return nil
}

// metric sums up a metric's series with a label of a value.
func (b *bed) metric(t *testing.T, name, label, value string) (sum float64) {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
