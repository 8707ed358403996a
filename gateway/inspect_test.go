package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/route"
	"sallyport/gateway/shield"
	"sallyport/policy"
)

// guarded is the bed with an app that is inspected; change may say how.
func guarded(t testing.TB, mode shield.Mode, app http.HandlerFunc, change ...func(*route.App)) *bed {
	t.Helper()
	b := newBed(t, app)
	r := wiki(t, b.origin, "staff")
	r.Shield = shield.Rules{Mode: mode, Threshold: 5, Paranoia: 1, Body: 32 << 10, Arguments: 500, Depth: 32, Parts: 64}
	for _, c := range change {
		c(&r)
	}
	b.server.shield = shield.New(shield.Config{Timeout: time.Minute}) // this machine may be slow
	b.server.Swap(snapshot(t, r))
	return b
}

const injection = "1%27%20OR%20%271%27%3D%271%27%20--%20"

// In an app that blocks, a request with a critical finding never reaches the app; in one that detects it does. Either way
// the findings are in the one record of the decision, and it can be recomputed from there.
func TestFindingsAreJudgedAndRecorded(t *testing.T) {
	for _, row := range []struct {
		mode   shield.Mode
		path   string
		status int
		score  int // -1: not inspected
		rules  []int64
	}{
		{shield.Block, "/page?q=tea", 200, 0, nil}, {shield.Block, "/page?q=" + injection, 403, 5, []int64{942100}},
		{shield.Detect, "/page?q=tea", 200, 0, nil}, {shield.Detect, "/page?q=" + injection, 200, 5, []int64{942100}},
		{shield.Off, "/page?q=" + injection, 200, -1, nil},
	} {
		var asked atomic.Int64
		b := guarded(t, row.mode, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
		for n := range 2 { // once from the memo
			status, _ := b.get(t, row.path)
			if status != row.status || asked.Load() > 0 != (status == 200) {
				t.Errorf("%s %s: got %d, the app was asked %d times", row.mode, row.path, status, asked.Load())
			}
			records := b.log.of(audit.TypeDecision)
			if len(records) != n+1 {
				t.Fatalf("%s %s: %d records of %d requests", row.mode, row.path, len(records), n+1)
			}
			record := records[n]
			in := record.Document.(*policy.Input)
			if found := in.Context.Shield; found == nil && row.score >= 0 || found != nil && (found.Score != row.score || !slices.Equal(found.Rules, row.rules)) {
				t.Errorf("%s %s: findings %+v, want %d by %v", row.mode, row.path, found, row.score, row.rules)
			}
			if denied := bytes.Contains(record.Decision, []byte(`"code":"shield"`)); denied != (row.status == 403) {
				t.Errorf("%s %s: decision %s", row.mode, row.path, record.Decision)
			}
			parsed, err := policy.ParseInput(in.AppendJSON(nil))
			if err != nil {
				t.Fatal(err)
			}
			if again := b.server.Snapshot().Policy.Decide(context.Background(), parsed); !bytes.Equal(again.JSON, record.Decision) {
				t.Errorf("%s %s: recomputed %s, recorded %s", row.mode, row.path, again.JSON, record.Decision)
			}
		}
	}
}

// A body is looked at wherever it is, and the app gets it as it came, whatever its length and framing.
func TestInspectedBodiesArriveUnchanged(t *testing.T) {
	b := guarded(t, shield.Block, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
		if r.ContentLength != n || r.Header.Get("Expect") != "" {
			t.Errorf("Content-Length %d, Expect %q for %d bytes", r.ContentLength, r.Header.Get("Expect"), n)
		}
	})
	for _, protocol := range []string{"http/1.1", "h2"} {
		client := b.client(t, protocol)
		for _, size := range []int{0, 1, 100, 32 << 10, 32<<10 + 1, 1 << 20} {
			for _, chunked := range []bool{false, true} {
				text := strings.Repeat("A quiet day at the office.\n", size/27+1)[:size]
				var body io.Reader = strings.NewReader(text)
				if chunked {
					body = io.MultiReader(body)
				}
				r := b.request(t, "POST", "/notes", "ada", body)
				r.Header.Set("Content-Type", "text/plain")
				status, got := answerTo(t, client, r)
				if want := fmt.Sprintf("%d %x <nil>", size, sha256.Sum256([]byte(text))); status != 200 || got != want {
					t.Errorf("%s, %d bytes, chunked %v: got %d %q, want %q", protocol, size, chunked, status, got, want)
				}
				records := b.log.of(audit.TypeDecision)
				seen := records[len(records)-1].Document.(*policy.Input).Context.Shield.Body
				if want := map[bool]string{true: "whole", false: "part"}[size <= 32<<10]; size > 0 && seen != want {
					t.Errorf("%s, %d bytes: %s was seen, want %s", protocol, size, seen, want)
				}
			}
		}
		r := b.request(t, "POST", "/notes", "ada", strings.NewReader("text="+injection))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if status, _ := answerTo(t, client, r); status != http.StatusForbidden {
			t.Errorf("%s: an attack in the body: got %d", protocol, status)
		}
	}
	eventually(t, "no body to be left", func() bool { return b.server.spool.Stats().Bodies == 0 })
}

// DOS-12: of strangers and of people who may not, nothing is inspected and no body is read: they are not even told to go on.
func TestDOS12OnlyAllowedRequestsAreInspected(t *testing.T) {
	b := guarded(t, shield.Block, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	b.sessions.put("gil", "guests")
	for _, cookie := range []string{"", "Cookie: __Host-sallyport=gil\r\n"} {
		client := b.dial(t)
		io.WriteString(client, "POST /page?q="+injection+" HTTP/1.1\r\nHost: "+wikiHost+"\r\n"+cookie+"Content-Length: 33554432\r\nExpect: 100-continue\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || res.StatusCode != 401 && res.StatusCode != 403 || !res.Close {
			t.Errorf("cookie %q: %+v, %v; want a refusal that closes, and no 100", cookie, res, err)
		}
	}
	for _, r := range b.log.of(audit.TypeDecision) {
		if in, _ := r.Document.(*policy.Input); in == nil || in.Context.Shield != nil {
			t.Errorf("%s is inspected: %+v", r.Reason, r.Document)
		}
	}
	if st := b.server.shield.Stats(); st.Running+st.Waiting > 0 || count(t, b, "sallyport_inspections_total") != 0 {
		t.Errorf("%+v", st)
	}
	if status, _ := b.get(t, "/page?q="+injection); status != 403 || count(t, b, "sallyport_inspections_total") != 1 { // it would have been found
		t.Errorf("one who may gets %d", status)
	}
}

func count(t testing.TB, b *bed, name string) (n float64) {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				n += m.Counter.GetValue()
			}
		}
	}
	return n
}

// A stranger whom a public app refuses for what was found is not sent to the sign-in: that would not help.
func TestStrangersAreRefusedForFindings(t *testing.T) {
	b := guarded(t, shield.Block, func(http.ResponseWriter, *http.Request) {}, func(app *route.App) { app.Access = policy.Access{{Public: true}} })
	for path, want := range map[string]int{"/": 200, "/?q=" + injection: 403} {
		r := b.request(t, "GET", path, "", nil)
		r.Header.Set("Accept", "text/html")
		if status, _ := answerTo(t, b.client(t, "http/1.1"), r); status != want {
			t.Errorf("%s: got %d, want %d", path, status, want)
		}
	}
}

// What is wrong with a body is told as it would be without the inspection, once.
func TestBodiesThatDoNotArriveForInspection(t *testing.T) {
	b := guarded(t, shield.Block, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") }, func(app *route.App) { app.Timeouts.Client = time.Second })
	for _, row := range []struct{ name, head, body, want, reason string }{
		{"announced too large", "Content-Length: 2000000", "", "413", "body_too_large"},
		{"too large", "Transfer-Encoding: chunked", "200000\r\n" + strings.Repeat("x", 2<<20) + "\r\n0\r\n\r\n", "413", "body_too_large"},
		{"malformed", "Transfer-Encoding: chunked", "no number\r\n", "400", "body_broke_off"},
		{"too slow", "Content-Length: 100", "a part", "408", "body_timeout"},
	} {
		before := len(b.log.of(audit.TypeDecision))
		client := b.dial(t)
		go io.WriteString(client, "POST /page HTTP/1.1\r\nHost: "+wikiHost+"\r\nCookie: __Host-sallyport=ada\r\n"+row.head+"\r\n\r\n"+row.body)
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || !strings.HasPrefix(res.Status, row.want) {
			t.Errorf("%s: %v, %v, want %s", row.name, res, err, row.want)
			continue
		}
		records := b.log.of(audit.TypeDecision)
		if len(records) != before+1 || records[before].Reason != row.reason || records[before].Effect != audit.Reject {
			t.Errorf("%s: records %+v", row.name, records[before:])
		}
	}
	eventually(t, "no body to be left", func() bool { return b.server.spool.Stats().Bodies == 0 })
}

// REV-02: an upload that is awaited for its inspection ends with its session.
func TestAwaitedUploadEndsWithItsSession(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		b := guarded(t, shield.Block, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
		body, rest := io.Pipe()
		ended := make(chan int, 1)
		go func() {
			res, err := b.client(t, protocol).Do(b.request(t, "POST", "/page", "ada", body))
			if err != nil {
				ended <- 0
				return
			}
			res.Body.Close()
			ended <- res.StatusCode
		}()
		io.WriteString(rest, "a part")
		eventually(t, "the upload to be open", func() bool { return len(b.server.streams.all()) == 1 })
		b.server.Swap(b.server.Snapshot()) // it is not decided yet: there is nothing to decide again
		b.server.SessionEnded(session.Ended{SessionID: "session of ada", Reason: session.Revoked})
		select {
		case status := <-ended:
			if status != http.StatusUnauthorized && status != 0 {
				t.Errorf("%s: got %d", protocol, status)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the upload goes on", protocol)
		}
		rest.CloseWithError(io.ErrClosedPipe)
		if got := b.log.one(t, audit.TypeDecision); got.Reason != "session_revoked" || got.Effect != audit.Reject {
			t.Errorf("%s: %s %s", protocol, got.Effect, got.Reason)
		}
	}
}

// Streams go through as they come: only their heads are inspected.
func TestStreamsAreInspectedByTheirHeads(t *testing.T) {
	arrived := make(chan string, 1)
	b := guarded(t, shield.Block, func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 5)
		io.ReadFull(r.Body, first)
		arrived <- string(first)
		io.Copy(io.Discard, r.Body)
	}, func(app *route.App) { app.Streams.Paths = []string{"/live"} })
	body, rest := io.Pipe()
	answered := make(chan int, 1)
	go func() {
		status, _ := answerTo(t, b.client(t, "h2"), b.request(t, "POST", "/live", "ada", body))
		answered <- status
	}()
	io.WriteString(rest, "first")
	select {
	case <-arrived:
	case <-time.After(time.Minute):
		t.Fatal("the app waits for the end of a stream")
	}
	rest.Close()
	if status := <-answered; status != 200 {
		t.Errorf("got %d", status)
	}
	if found := b.log.one(t, audit.TypeDecision).Document.(*policy.Input).Context.Shield; found == nil || found.Body != "none" {
		t.Errorf("findings %+v", found)
	}
	if status, _ := answerTo(t, b.client(t, "h2"), b.request(t, "POST", "/live?q="+injection, "ada", strings.NewReader("x"))); status != 403 {
		t.Errorf("an attack in a stream's head: got %d", status)
	}
}

// The session cookie and the gateway's other credentials are nothing that rules see; the app's own are.
func TestCredentialsAreNotInspected(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.conf")
	rule := `SecRule REQUEST_HEADERS|REQUEST_HEADERS_NAMES|REQUEST_COOKIES|REQUEST_COOKIES_NAMES|REQUEST_URI "@rx (?i)%s" "id:%d,phase:2,pass,nolog,t:none,severity:NOTICE"` + "\n"
	if err := os.WriteFile(own, fmt.Appendf(nil, rule+rule, "sallyport|ada", 1001, "mine", 1002), 0o600); err != nil {
		t.Fatal(err)
	}
	b := guarded(t, shield.Detect, func(http.ResponseWriter, *http.Request) {}, func(app *route.App) { app.Shield.Rules = []string{own} })
	r := b.request(t, "GET", "/", "ada", nil)
	r.AddCookie(&http.Cookie{Name: "app", Value: "mine"})
	answerTo(t, b.client(t, "http/1.1"), r)
	if found := b.log.one(t, audit.TypeDecision).Document.(*policy.Input).Context.Shield; found == nil || !slices.Equal(found.Rules, []int64{1002}) {
		t.Errorf("findings %+v, want the app's cookie and no other", found)
	}
}

// An inspection for which there is no time is a fact, and blocks where findings do.
func TestTimeoutsAreJudged(t *testing.T) {
	for mode, want := range map[shield.Mode]int{shield.Block: 403, shield.Detect: 200} {
		b := guarded(t, mode, func(http.ResponseWriter, *http.Request) {})
		b.server.shield = shield.New(shield.Config{Timeout: time.Millisecond, Concurrency: 2, PerClient: 1})
		release := occupy(b.server.shield, "bob", "eve")
		status, _ := b.get(t, "/")
		release()
		record := b.log.one(t, audit.TypeDecision)
		if found := record.Document.(*policy.Input).Context.Shield; status != want || found == nil || !found.Timeout || found.Body != "none" {
			t.Errorf("%s: got %d, findings %+v", mode, status, found)
		}
		if mode == shield.Block && !bytes.Contains(record.Decision, []byte(`"code":"shield_timeout"`)) {
			t.Errorf("decision %s", record.Decision)
		}
	}
}

// occupy holds one place each for people, until it is released.
func occupy(s *shield.Shield, people ...string) (release func()) {
	held, done := make(chan struct{}), make(chan struct{})
	var holders sync.WaitGroup
	for _, name := range people {
		holders.Go(func() {
			for entered := false; !entered; { // there may be no time to enter
				s.Inspect(nil, shield.Client{Name: name}, func() (*shield.Request, error) {
					entered = true
					held <- struct{}{}
					<-done
					return nil, io.EOF
				})
			}
		})
	}
	for range people {
		<-held
	}
	return func() { close(done); holders.Wait() }
}

// A reload keeps compiled rules that did not change, shares them between apps, and is refused as a whole where they do not
// compile.
func TestReloadsKeepCompiledRules(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	app := func(name, host string, mode shield.Mode, depth int) route.App {
		a := wiki(t, b.origin, "staff")
		a.Name, a.Host = route.Name(name), host
		a.Shield = shield.Rules{Mode: mode, Threshold: 5, Paranoia: 1, Arguments: 500, Depth: depth, Parts: 64}
		return a
	}
	first := snapshot(t, app("wiki", wikiHost, shield.Detect, 32), app("shop", "shop.corp.test", shield.Block, 32), app("plain", "plain.corp.test", shield.Off, 32))
	if i := first.apps["wiki"].inspector; i == nil || first.apps["shop"].inspector != i || first.apps["plain"].inspector != nil {
		t.Fatal("apps with equal rules do not share them, or one without has some")
	}
	next := snapshot(t, app("wiki", wikiHost, shield.Block, 32), app("shop", "shop.corp.test", shield.Block, 9))
	if err := next.Connect(first, Behind{}); err != nil {
		t.Fatal(err)
	}
	if next.apps["wiki"].inspector != first.apps["wiki"].inspector || next.apps["shop"].inspector == first.apps["shop"].inspector {
		t.Error("what did not change was not kept, or what did was")
	}
	bad := app("wiki", wikiHost, shield.Block, 32)
	bad.Shield.Rules = []string{filepath.Join(t.TempDir(), "absent.conf")}
	broken := snapshot(t, app("shop", "shop.corp.test", shield.Off, 32))
	table, err := route.NewTable([]route.App{bad})
	if err != nil {
		t.Fatal(err)
	}
	broken.Routes = table
	if err := broken.Connect(first, Behind{}); err == nil || !strings.Contains(err.Error(), "app wiki: shield: ") {
		t.Errorf("got %v", err)
	}
}

// A client whose bodies take long to inspect keeps nobody else waiting for long: all of the others' requests are inspected.
func TestSlowInspectionsOfOneStarveNobody(t *testing.T) {
	b := guarded(t, shield.Block, func(http.ResponseWriter, *http.Request) {})
	b.sessions.put("bob", "staff")
	b.server.shield = shield.New(shield.Config{Timeout: time.Minute, Concurrency: 2, PerClient: 1})
	heavy := strings.Repeat("select' or--/*<a href=;cat../ ", 32<<10/30)
	stop := make(chan struct{})
	var attackers sync.WaitGroup
	for range 4 {
		attackers.Go(func() {
			client := b.client(t, "h2")
			for {
				select {
				case <-stop:
					return
				default:
					r := b.request(t, "POST", "/page", "bob", strings.NewReader(heavy))
					r.Header.Set("Content-Type", "text/plain")
					if res, err := client.Do(r); err == nil {
						res.Body.Close()
					}
				}
			}
		})
	}
	for range 10 {
		if status, _ := b.get(t, "/page"); status != 200 {
			t.Errorf("got %d", status)
		}
	}
	close(stop)
	attackers.Wait()
}

// What a request costs with the shield off, detecting and blocking.
func BenchmarkShield(b *testing.B) {
	for _, mode := range []shield.Mode{shield.Off, shield.Detect, shield.Block} {
		b.Run(string(mode), func(b *testing.B) {
			bed := guarded(b, mode, func(http.ResponseWriter, *http.Request) {})
			client := bed.client(b, "http/1.1")
			b.ReportAllocs()
			for b.Loop() {
				if status, _ := answerTo(b, client, bed.request(b, "GET", "/wiki/start?tab=recent", "ada", nil)); status != 200 {
					b.Fatal(status)
				}
			}
		})
	}
}
