package apps_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/go-jose/go-jose/v4"

	"sallyport/cmd/demo/apps"
)

const origin = "https://wiki.sallyport.localhost:8443"

// vouching stands in for the gateway: it publishes a key and signs assertions with it.
type vouching struct {
	t      *testing.T
	signer jose.Signer
	issuer string
	gate   *apps.Gatekeeper
}

func newVouching(t *testing.T) *vouching {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := http.NewServeMux()
	keys.HandleFunc("GET /.sallyport/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	server := httptest.NewServer(keys)
	t.Cleanup(server.Close)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &vouching{t, signer, server.URL, apps.NewGatekeeper(server.Client(), server.URL, origin)}
}

// assertion is for ines, with changes.
func (v *vouching) assertion(changes map[string]any) string {
	v.t.Helper()
	claims := map[string]any{"iss": v.issuer, "aud": origin, "sub": "demo|ines", "name": "Ines Okafor", "email": "ines@harbour.example",
		"groups": []string{"staff"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
	maps.Copy(claims, changes)
	payload, err := json.Marshal(claims)
	if err != nil {
		v.t.Fatal(err)
	}
	signed, err := v.signer.Sign(payload)
	if err != nil {
		v.t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		v.t.Fatal(err)
	}
	return token
}

func TestAppsBelieveOnlyTheGateway(t *testing.T) {
	v := newVouching(t)
	stranger := newVouching(t)
	now := func() time.Time { return time.Date(2026, 3, 3, 9, 0, 0, 0, time.UTC) }
	for name, app := range map[string]http.Handler{"wiki": apps.NewWiki(v.gate, now), "payroll": apps.NewPayroll(v.gate, now)} {
		path := map[string]string{"wiki": "/p/welcome", "payroll": "/"}[name]
		for story, test := range map[string]struct {
			assertion string
			want      int
		}{
			"no assertion":      {"", http.StatusUnauthorized},
			"nonsense":          {"a.b.c", http.StatusUnauthorized},
			"for another app":   {v.assertion(map[string]any{"aud": "https://payroll.sallyport.localhost:8443"}), http.StatusUnauthorized},
			"expired":           {v.assertion(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), http.StatusUnauthorized},
			"of another issuer": {v.assertion(map[string]any{"iss": "https://evil.example"}), http.StatusUnauthorized},
			"of another key":    {stranger.assertion(map[string]any{"iss": v.issuer}), http.StatusUnauthorized},
			"genuine":           {v.assertion(nil), http.StatusOK},
		} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			if test.assertion != "" {
				r.Header.Set("X-Sallyport-Assertion", test.assertion)
			}
			r.Header.Set("X-Sallyport-User", "demo|mira")
			w := httptest.NewRecorder()
			app.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("%s, assertion %s: %d, want %d", name, story, w.Code, test.want)
			}
			if test.want == http.StatusOK && !strings.Contains(w.Body.String(), "Ines Okafor") {
				t.Errorf("%s does not show who is signed in", name)
			}
		}
	}
}

// serveWiki runs a wiki whose visitors are all ines: the proxy before it vouches for each request.
func serveWiki(t *testing.T) *httptest.Server {
	t.Helper()
	v := newVouching(t)
	wiki := apps.NewWiki(v.gate, time.Now)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Sallyport-Assertion", v.assertion(nil))
		wiki.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestWikiShowsLinksAndKeepsMarkupInert(t *testing.T) {
	server := serveWiki(t)
	post(t, server.URL+"/p/first-day", url.Values{"text": {"<script>alert(1)</script> [[Quarter close]] [[a\" onclick=x]]\n\n- one\n- <b>two</b>"}})
	body := fetch(t, server.URL+"/p/first-day")
	for _, want := range []string{`&lt;script&gt;`, `<a href="/p/quarter-close">Quarter close</a>`, `<ul><li>one</li><li>&lt;b&gt;two&lt;/b&gt;</li></ul>`, `<a href="/p/a-onclick-x">`, "Ines Okafor, "} {
		if !strings.Contains(body, want) {
			t.Errorf("the article lacks %q", want)
		}
	}
	if strings.Contains(body, "<script>") {
		t.Error("the article holds a script that somebody wrote into it")
	}
}

func TestWikiStartsNewArticles(t *testing.T) {
	server := serveWiki(t)
	if body := fetch(t, server.URL+"/p/incident-notes"); !strings.Contains(body, "Nobody has written this yet") {
		t.Error("a missing article does not say so")
	}
	if body := fetch(t, server.URL+"/p/incident-notes/edit"); !strings.Contains(body, "<h1>Incident notes</h1>") {
		t.Error("the editor does not show the new title")
	}
	post(t, server.URL+"/p/incident-notes", url.Values{"text": {"It rained."}})
	if body := fetch(t, server.URL+"/p/incident-notes"); !strings.Contains(body, "<p>It rained.</p>") {
		t.Error("the new article is not there")
	}
	if status := post(t, server.URL+"/p/NOT%20plain", url.Values{"text": {"x"}}); status != http.StatusBadRequest {
		t.Errorf("a name that is none: %d, want 400", status)
	}
}

func TestFeedTellsEditsOneByOne(t *testing.T) {
	server := serveWiki(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type = %q", got)
	}
	lines := bufio.NewScanner(response.Body)
	next := func() (title string) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var c struct{ Title string }
				if err := json.Unmarshal([]byte(data), &c); err != nil {
					t.Fatal(err)
				}
				return c.Title
			}
		}
		t.Fatalf("the feed ended: %v", lines.Err())
		return ""
	}
	for range 4 { // the first articles
		next()
	}
	for _, title := range []string{"Alpha", "Beta"} { // each arrives before the next is written
		post(t, server.URL+"/p/"+strings.ToLower(title), url.Values{"text": {"x"}})
		if got := next(); got != title {
			t.Errorf("the feed tells %q, want %q", got, title)
		}
	}
}

func TestChatReachesEverybodyAndKnowsWhoIsHere(t *testing.T) {
	server := serveWiki(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first, second := dial(t, ctx, server), dial(t, ctx, server)
	type told struct {
		Kind, Who, Text string
		People          []string
	}
	receive := func(connection *websocket.Conn, kind string) told {
		for {
			var m told
			if err := wsjson.Read(ctx, connection, &m); err != nil {
				t.Fatal(err)
			}
			if m.Kind == kind {
				return m
			}
		}
	}
	if people := receive(first, "here").People; len(people) != 1 || people[0] != "Ines Okafor" {
		t.Errorf("here = %q, want Ines once", people)
	}
	receive(second, "here") // only now it hears what is said
	if err := wsjson.Write(ctx, first, map[string]string{"text": " ahoy "}); err != nil {
		t.Fatal(err)
	}
	for _, connection := range []*websocket.Conn{first, second} {
		if m := receive(connection, "said"); m.Who != "Ines Okafor" || m.Text != "ahoy" {
			t.Errorf("received %+v, want ahoy from Ines", m)
		}
	}
}

func TestChatRefusesForeignPages(t *testing.T) {
	server := serveWiki(t)
	_, response, err := websocket.Dial(t.Context(), server.URL+"/live", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	if err == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign origin got %v, %v; want 403", response, err)
	}
}

func TestPayrollRunIsApprovedOnceAndReported(t *testing.T) {
	v := newVouching(t)
	now := func() time.Time { return time.Date(2026, 3, 31, 9, 0, 0, 0, time.UTC) }
	payroll := apps.NewPayroll(v.gate, now)
	ask := func(method, path string) string {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("X-Sallyport-Assertion", v.assertion(nil))
		w := httptest.NewRecorder()
		payroll.ServeHTTP(w, r)
		return w.Body.String()
	}
	if body := ask(http.MethodGet, "/"); !strings.Contains(body, "Approve the run of March 2026") || !strings.Contains(body, "5\u202f200 €") {
		t.Errorf("the start page offers no run:\n%s", body)
	}
	ask(http.MethodPost, "/runs")
	ask(http.MethodPost, "/runs")
	reports := ask(http.MethodGet, "/reports/")
	if n := strings.Count(reports, "March 2026"); n != 1 || !strings.Contains(reports, "February 2026") || !strings.Contains(reports, "Ines Okafor</td>") {
		t.Errorf("March is reported %d times, want once and by Ines, after February:\n%s", n, reports)
	}
	if body := ask(http.MethodGet, "/"); !strings.Contains(body, "is approved") {
		t.Error("the start page does not show that the run is approved")
	}
}

func TestInspectShowsWhatArrived(t *testing.T) {
	v := newVouching(t)
	inspect := apps.NewInspect(v.gate)
	for assertion, want := range map[string][]string{
		v.assertion(nil): {"Genuine", "demo|ines", "GET /a%2Fb?x=1 HTTP/1.1", "X-Custom", "one &lt;b&gt;"},
		"":               {"Proves nothing", "did not come through the gateway", "GET /a%2Fb?x=1 HTTP/1.1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/a%2Fb?x=1", nil)
		r.Header.Set("X-Custom", "one <b>")
		if assertion != "" {
			r.Header.Set("X-Sallyport-Assertion", assertion)
		}
		w := httptest.NewRecorder()
		inspect.ServeHTTP(w, r)
		for _, part := range want {
			if !strings.Contains(w.Body.String(), part) {
				t.Errorf("page lacks %q", part)
			}
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/deep/seen.json", nil)
	r.Header.Set("X-Sallyport-User", "demo|ines")
	r.Header.Set("Accept", "*/*")
	inspect.ServeHTTP(w, r)
	var seen struct {
		Method, Target, Problem string
		Gateway, Client         []struct{ Name, Value string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &seen); err != nil || seen.Method != "POST" || seen.Target != "/deep/seen.json" || seen.Problem == "" {
		t.Errorf("JSON says %+v, %v", seen, err)
	}
	if len(seen.Gateway) != 1 || seen.Gateway[0].Value != "demo|ines" || len(seen.Client) != 1 || seen.Client[0].Name != "Accept" {
		t.Errorf("headers are sorted as %+v and %+v", seen.Gateway, seen.Client)
	}
}

func dial(t *testing.T, ctx context.Context, server *httptest.Server) *websocket.Conn {
	t.Helper()
	connection, _, err := websocket.Dial(ctx, server.URL+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.CloseNow() })
	return connection
}

func post(t *testing.T, address string, form url.Values) (status int) {
	t.Helper()
	response, err := http.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func fetch(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
