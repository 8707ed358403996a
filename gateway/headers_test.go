package gateway

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2/hpack"

	"sallyport/audit"
	"sallyport/gateway/cache"
	"sallyport/gateway/route"
	"sallyport/gateway/upstream"
)

// heard keeps the header of the latest request that an app got.
type heard struct {
	mu     sync.Mutex
	header http.Header
	count  int
}

func (h *heard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.header, h.count = r.Header.Clone(), h.count+1
}

func (h *heard) last() (http.Header, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.header, h.count
}

// both are the protocols that clients speak.
var both = []string{"http/1.1", "h2"}

// HDR-01, HDR-02, HDR-03, HDR-09 to HDR-13, HDR-19: what a client says in the gateway's place does not arrive, in no spelling
// and under no name, the app's own names for identity included.
func TestAppsHearOnlyTheGatewayAboutPeople(t *testing.T) {
	app := &heard{}
	b := newBed(t, app.ServeHTTP)
	cfg := wiki(t, b.origin, "staff")
	cfg.IdentityAs = map[string]string{"X-Webauth-User": "username", "App-Login": "id", "X-Forwarded-Groups": "groups", "App-Name": "name"}
	b.server.Swap(snapshot(t, cfg))
	for _, protocol := range both {
		for _, name := range []string{"X-Sallyport-User", "X-Sallyport-Email", "X-Sallyport-Groups", "X-Sallyport-Assertion", "x_sallyport_user", "X-Webauth-User",
			"x_webauth_user", "X-Webauth_User", "App-Login", "app_login", "App.Login", "App-Name", "X-Forwarded-Groups", "X-Forwarded-For", "X_Forwarded_For", "Forwarded",
			"X-Real-Ip", "Cf-Connecting-Ip", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Original-Url", "X-Rewrite-Url",
			"X-Http-Method-Override", "Impersonate-User", "Proxy-Authorization", "Keep-Alive", "Proxy"} {
			if protocol == "h2" && name == "Keep-Alive" {
				continue // HTTP/2 clients may not even say it
			}
			r := b.request(t, "GET", "/page", "ada", nil)
			r.Header[name] = []string{"attacker", "attacker"}
			status, _ := answerTo(t, b.client(t, protocol), r)
			if status != http.StatusOK && status != http.StatusBadRequest {
				t.Errorf("%s %s: got %d", protocol, name, status)
			}
			header, _ := app.last()
			for arrived, values := range header {
				if slices.Contains(values, "attacker") {
					t.Errorf("%s: %s arrived as %s", protocol, name, arrived)
				}
			}
		}
		answerTo(t, b.client(t, protocol), b.request(t, "GET", "/page", "ada", nil))
		header, _ := app.last()
		for name, want := range map[string]string{"X-Webauth-User": "ada", "App-Login": "corp%7Cada", "X-Forwarded-Groups": "staff", "X-Sallyport-Email": "ada@corp.test",
			"X-Sallyport-Assertion": "assertion", "X-Forwarded-Host": wikiHost, "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"} {
			if got := strings.ReplaceAll(header.Get(name), "|", "%7C"); got != want || len(header[name]) != 1 {
				t.Errorf("%s: %s is %q, want %q once", protocol, name, header[name], want)
			}
		}
		if _, there := header["App-Name"]; there {
			t.Errorf("%s: a name that nobody has is said: %q", protocol, header["App-Name"])
		}
	}
}

// HDR-06: Connection takes nothing away that the gateway says, whatever it names.
func TestConnectionTakesNothingOfOursAway(t *testing.T) {
	app := &heard{}
	b := newBed(t, app.ServeHTTP)
	cfg := wiki(t, b.origin, "staff")
	cfg.IdentityAs = map[string]string{"X-Webauth-User": "email"}
	b.server.Swap(snapshot(t, cfg))
	client := b.dial(t)
	fmt.Fprintf(client, "GET /page HTTP/1.1\r\nHost: %s\r\nCookie: __Host-sallyport=ada\r\nConnection: close, X-Webauth-User, X-Sallyport-User, X-Forwarded-For, X-A, Cookie\r\nX-A: 1\r\n\r\n", wikiHost)
	io.Copy(io.Discard, client)
	header, count := app.last()
	if count == 1 && (header.Get("X-Webauth-User") != "ada@corp.test" || header.Get("X-Sallyport-User") != "corp|ada" || header.Get("X-Forwarded-For") == "" || header.Get("X-A") != "") {
		t.Errorf("the app heard %v", header)
	}
}

// An address that nobody has verified is not said, in no claim that is made of it; and nobody is nobody.
func TestUnverifiedAddressesAreNotSaid(t *testing.T) {
	app := &heard{}
	b := newBed(t, app.ServeHTTP)
	cfg := wiki(t, b.origin, "staff")
	cfg.IdentityAs = map[string]string{"X-Webauth-User": "email", "X-Webauth-Name": "username", "X-Webauth-Id": "subject"}
	cfg.Access[0].Public = true
	cfg.Access[0].Groups = nil
	b.server.Swap(snapshot(t, cfg))
	b.sessions.known["ada"].Identity.EmailVerified = false
	answerTo(t, b.client(t, "h2"), b.request(t, "GET", "/page", "ada", nil))
	if header, _ := app.last(); header["X-Webauth-User"] != nil || header["X-Webauth-Name"] != nil || header.Get("X-Webauth-Id") != "ada" {
		t.Errorf("the app heard %v", header)
	}
	r := b.request(t, "GET", "/page", "", nil)
	r.Header.Set("X-Webauth-Id", "attacker")
	answerTo(t, b.client(t, "h2"), r)
	if header, count := app.last(); count != 2 || header["X-Webauth-Id"] != nil {
		t.Errorf("of a stranger the app heard %v (%d requests)", header, count)
	}
}

// cached is the bed with a cache and an app that uses it.
func (b *bed) cached(t *testing.T, change func(*route.App)) {
	t.Helper()
	stored := cache.New(cache.NewMemory(1<<20), cache.Options{})
	t.Cleanup(stored.Close)
	b.server.cache = stored
	app := wiki(t, b.origin, "staff")
	app.Cache = cache.Rules{Enabled: true, Shared: true}
	change(&app)
	next := snapshot(t, app)
	if err := next.Connect(nil, Behind{Cache: stored}); err != nil {
		t.Fatal(err)
	}
	b.server.Swap(next)
}

// What an app is told in its own words tells people apart in the cache, too; where it is told nothing, it hears nothing.
func TestAnswersToldApartByOwnNames(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		switch r.URL.Path {
		case "/page":
			w.Header().Set("Vary", "App-Login")
		case "/own":
			w.Header().Set("Cache-Control", "max-age=600")
		}
		fmt.Fprintf(w, "%q", r.Header["App-Login"])
	})
	none := false
	b.cached(t, func(app *route.App) {
		app.IdentityHeaders, app.IdentityAs = &none, map[string]string{"App-Login": "username"}
		app.Cache.Paths = []cache.PathRule{{Path: "/static/", IdentityFree: new(true)}}
	})
	b.sessions.put("bob", "staff")
	again := *b.sessions.known["ada"]
	renamed := *again.Identity
	renamed.Email = "ada.lovelace@corp.test"
	again.Identity = &renamed
	b.sessions.known["ada-again"] = &again
	for _, who := range []string{"ada", "ada-again"} {
		want := fmt.Sprintf("[%q]", map[string]string{"ada": "ada", "ada-again": "ada.lovelace"}[who])
		if _, body := answerTo(t, b.client(t, "h2"), b.request(t, "GET", "/own", who, nil)); body != want {
			t.Errorf("%s got %s, want %s", who, body, want)
		}
	}
	for _, who := range []string{"ada", "bob", "ada"} {
		if _, body := answerTo(t, b.client(t, "h2"), b.request(t, "GET", "/page", who, nil)); body != fmt.Sprintf("[%q]", who) {
			t.Errorf("%s got %s", who, body)
		}
		r := b.request(t, "GET", "/static/x", who, nil)
		r.Header.Set("App-Login", "attacker")
		if _, body := answerTo(t, b.client(t, "h2"), r); body != "[]" {
			t.Errorf("%s made the app say %s of what tells nobody apart", who, body)
		}
	}
}

// CACHE-14: what a client says of hosts does not reach the app, so nothing of it is kept for others.
func TestForwardingHeadersPoisonNoAnswer(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		fmt.Fprintf(w, "<script src=//%s/x.js>%s%s", r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Original-Url"), r.Header.Get("X-Host"))
	})
	b.cached(t, func(*route.App) {})
	for _, name := range []string{"X-Forwarded-Host", "X-Host", "X-Original-Url", "X-Forwarded-Scheme"} {
		r := b.request(t, "GET", "/page/"+name, "ada", nil)
		r.Header.Set(name, "poison.example")
		answerTo(t, b.client(t, "h2"), r)
		if _, body := b.get(t, "/page/"+name); !strings.Contains(body, wikiHost) || strings.Contains(body, "poison") {
			t.Errorf("%s: the next one gets %q", name, body)
		}
	}
}

// transports are the ways to an app: name, and what an app that answers in bytes of its own has to be.
func transports(t *testing.T, head http.Header, raw string) map[string]route.App {
	fields := []hpack.HeaderField{{Name: ":status", Value: "200"}}
	for name, values := range head {
		for _, value := range values {
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: value})
		}
	}
	lean, standard, h2c := wiki(t, rawApp(t, says(raw)), "staff"), wiki(t, rawApp(t, says(raw)), "staff"), wiki(t, rawApp(t, heads(fields...)), "staff")
	lean.UpstreamTransport, standard.UpstreamTransport, h2c.UpstreamProtocol = route.TransportLean, route.TransportStandard, upstream.ProtocolH2C
	return map[string]route.App{"lean": lean, "standard": standard, "h2c": h2c}
}

// RESP-02, RESP-03: an answer whose header could be taken for two is none.
func TestAnswersThatCouldSplitAreNone(t *testing.T) {
	for _, value := range []string{"b\rSet-Cookie: evil=1", "b\x00c", "\x1b[2J"} {
		raw := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: " + value + "\r\n\r\nok"
		for name, app := range transports(t, http.Header{"X-A": {value}}, raw) {
			b := newBed(t, nil)
			b.server.Swap(snapshot(t, app))
			for _, protocol := range both {
				res, err := b.client(t, protocol).Do(b.request(t, "GET", "/page", "ada", nil))
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if res.StatusCode != http.StatusBadGateway || res.Header["X-A"] != nil || res.Header["Set-Cookie"] != nil {
					t.Errorf("%s %s: %q got %d %v", name, protocol, value, res.StatusCode, res.Header)
				}
			}
			if got := b.log.one(t, audit.TypeOutcome).Outcome; got.Error != "upstream_failed" {
				t.Errorf("%s: outcome %+v", name, got)
			}
		}
	}
}

// RFC 9112 §5.2: a folded line is one value with a space.
func TestFoldedAnswersAreUnfolded(t *testing.T) {
	raw := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n Set-Cookie: evil=1\r\n\r\nok"
	for name, app := range transports(t, http.Header{"X-A": {"b Set-Cookie: evil=1"}}, raw) {
		b := newBed(t, nil)
		b.server.Swap(snapshot(t, app))
		res, err := b.client(t, "http/1.1").Do(b.request(t, "GET", "/page", "ada", nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Header.Get("X-A") != "b Set-Cookie: evil=1" || res.Header["Set-Cookie"] != nil {
			t.Errorf("%s: %d %v", name, res.StatusCode, res.Header)
		}
	}
}

// RESP-10: heads of more than 256 KiB are no answers.
func TestOversizeHeadsAreNone(t *testing.T) {
	for size, want := range map[int]int{100 << 10: http.StatusOK, 2 << 20: http.StatusBadGateway} {
		pad := strings.Repeat("x", 8<<10)
		head, raw := http.Header{}, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
		for i := range size / len(pad) {
			head.Set(fmt.Sprintf("X-%d", i), pad)
			raw += fmt.Sprintf("X-%d: %s\r\n", i, pad)
		}
		for name, app := range transports(t, head, raw+"\r\nok") {
			if name == "h2c" && want == http.StatusOK {
				continue // one frame takes 16 KiB
			}
			b := newBed(t, nil)
			b.server.Swap(snapshot(t, app))
			if got, _ := answerTo(t, b.client(t, "http/1.1"), b.request(t, "GET", "/page", "ada", nil)); got != want {
				t.Errorf("%s: a head of %d bytes got %d, want %d", name, size, got, want)
			}
		}
	}
}

// SSRF-01: where an app points is where the client may go; the gateway does not.
func TestRedirectsAreNotFollowed(t *testing.T) {
	other := &heard{}
	elsewhere := newBed(t, other.ServeHTTP)
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	})
	for to, want := range map[string]string{"http://169.254.169.254/": "http://169.254.169.254/", elsewhere.origin + "/x": elsewhere.origin + "/x",
		b.origin + "/in?x=1": "https://" + wikiHost + "/in?x=1", "/next": "/next"} {
		r := b.request(t, "GET", "/page", "ada", nil)
		r.URL.RawQuery = "to=" + strings.NewReplacer(":", "%3A", "/", "%2F", "?", "%3F", "=", "%3D").Replace(to)
		res, err := b.client(t, "h2").Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Location"); res.StatusCode != http.StatusFound || got != want {
			t.Errorf("%s: got %d %s, want %s", to, res.StatusCode, got, want)
		}
	}
	if _, count := other.last(); count != 0 {
		t.Error("the gateway went where the app pointed")
	}
}

// Answers carry the promises whether they come from the app or from the cache; 304, which only refreshes what browsers keep,
// and switches of protocol do not.
func TestAnswersCarryTheirPromises(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		w.Header().Set("Etag", `"1"`)
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			accept := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
			w.Header().Set("Sec-Websocket-Accept", base64.StdEncoding.EncodeToString(accept[:]))
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	b.cached(t, func(*route.App) {})
	for _, path := range []string{"/page", "/page", "/gone"} {
		res, err := b.client(t, "h2").Do(b.request(t, "GET", path, "ada", nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "frame-ancestors 'self'", "X-Frame-Options": "SAMEORIGIN",
			"Referrer-Policy": "strict-origin-when-cross-origin", "Cross-Origin-Opener-Policy": "same-origin-allow-popups", "Cross-Origin-Resource-Policy": "same-site",
			"Permissions-Policy": "bluetooth=(), hid=(), midi=(), payment=(), serial=(), usb=()"} {
			if got := res.Header[name]; !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	r := b.request(t, "GET", "/page", "ada", nil)
	r.Header.Set("If-None-Match", `"1"`)
	res, err := b.client(t, "h2").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotModified || res.Header["Content-Security-Policy"] != nil {
		t.Errorf("unchanged: %d %v", res.StatusCode, res.Header)
	}
	r = b.request(t, "GET", "/socket", "ada", nil)
	maps.Copy(r.Header, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Origin": {"https://" + wikiHost},
		"Sec-Websocket-Key": {base64.StdEncoding.EncodeToString(make([]byte, 16))}})
	if res, err = b.client(t, "http/1.1").Do(r); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header["Content-Security-Policy"] != nil {
		t.Errorf("socket: %d %v", res.StatusCode, res.Header)
	}
}
