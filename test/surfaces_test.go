package test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/audit"
	"sallyport/gateway/admin"
	"sallyport/test/fakeidp"
	"sallyport/test/harness"
)

// secrets are what must be in nothing that the gateway writes for people, by what they are.
type secrets struct {
	mu   sync.Mutex
	list map[string]string
}

func (s *secrets) add(what, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list[what+" "+value[:min(len(value), 4)]+"…"] = value
}

// found is which of them a text holds, as they are or as programs spell them.
func (s *secrets) found(text string) (list []string) {
	for what, value := range s.list {
		for _, spelt := range []string{value, url.QueryEscape(value), hex.EncodeToString([]byte(value)),
			base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value))} {
			if strings.Contains(text, spelt) {
				list = append(list, what)
				break
			}
		}
	}
	slices.Sort(list)
	return list
}

// DBG-21: at the level debug, through sign-ins that succeed and fail, inspected and refused requests and errors of apps,
// no credential gets into the log, the audit logs, the metrics or what the command line prints. That what is written is
// looked at shows in a word that a client says twice: where records hold it, and where the log does.
func TestDebugLoggingTellsNoSecrets(t *testing.T) {
	app := newHostile(t)
	probes := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] }, shield: { mode: block }, secret_params: [ticket] }
  - { name: payroll, host: payroll.corp.test, upstreams: ["http://`+app.address+`"], access: { groups: [staff] }, secret_params: [ticket] }
  - { name: robots, host: public.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] }, authorization: gateway, secret_params: [ticket] }
`, "limits: { strangers_records: 1/s burst 1 }") // of the others the log tells at the level debug
	edit(t, s, "admin: { socket: "+s.Dir+"/admin.sock }", "admin: { socket: "+s.Dir+"/admin.sock, listen: \""+probes+"\" }")
	gw := s.StartCommand(t, exec.Command(filepath.Join(harness.Binaries(t), "sallyport"), "run", "--log-level", "debug", "--config", s.Config))
	held := &secrets{list: map[string]string{}}
	browser := s.Browser()
	misuse(t, s, browser, held)
	signInOddly(t, s, held)

	_, metrics := harness.Get(t, http.DefaultClient, "http://"+probes+"/metrics")
	var lists strings.Builder
	for _, args := range [][]string{{"session", "list"}, {"session", "list", "--json"}, {"status", "--json"}, {"audit", "query", "--json"}, {"config", "show"}} {
		out, _ := s.Sallyport(t, args...)
		lists.WriteString(out)
	}
	if err := gw.Stop(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	logs := contentOf(t, filepath.Join(s.Dir, "audit"))
	for where, text := range map[string]string{"the log": gw.Output(), "the audit logs": logs, "the metrics": metrics, "lists": lists.String()} {
		if found := held.found(text); len(found) > 0 {
			t.Errorf("%s tells %q", where, found)
		}
	}
	said := &secrets{list: map[string]string{}}
	said.add("path", "noticed-in-passing")
	for where, text := range map[string]string{"the log": gw.Output(), "the audit logs": logs, "lists": lists.String()} {
		if len(said.found(text)) == 0 {
			t.Errorf("%s was not looked at:\n%.3000s", where, text)
		}
	}
	if !strings.Contains(gw.Output(), "level=DEBUG") {
		t.Errorf("nothing was logged at the level debug:\n%s", gw.Output())
	}
}

// misuse signs ada in, and has her and strangers send credentials of every kind to apps that work and that do not.
func misuse(t *testing.T, s *harness.Stand, browser *http.Client, held *secrets) {
	t.Helper()
	held.add("client secret", "a secret of the test")
	s.Provider.Do(fakeidp.Script{
		TokenBody: func(body map[string]any) {
			for _, name := range []string{"access_token", "refresh_token", "id_token"} {
				held.add(name, fmt.Sprint(body[name]))
			}
		},
		Callback: func(answer url.Values) {
			for _, name := range []string{"code", "state"} {
				if answer.Get(name) != "" {
					held.add(name, answer.Get(name))
				}
			}
		},
	})
	for _, label := range []string{"wiki", "payroll"} {
		s.SignIn(t, browser, label, "ada", "staff")
		held.add("cookie of "+label, s.Cookie(t, browser, label).Value)
	}
	form, _ := s.Provider.LastToken()
	held.add("verifier", form.Get("code_verifier"))
	held.add("password", "correct-horse-battery-staple")
	held.add("app's token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.dGhpcyBpcyBub3QgYSBzaWduYXR1cmU")
	held.add("app's cookie", "an-app-session-of-ada")
	held.add("parameter", "in-the-query-of-ada")
	client := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	signedIn := map[string]*http.Cookie{"wiki": s.Cookie(t, browser, "wiki"), "payroll": s.Cookie(t, browser, "payroll")}
	for _, path := range []string{"/noticed-in-passing", "/silent/../banner", "/banner", "/reset", "/.sallyport/return"} {
		for label, cookie := range map[string]*http.Cookie{"wiki": signedIn["wiki"], "payroll": signedIn["payroll"], "public": nil} {
			for _, who := range []*http.Cookie{cookie, nil} {
				sendCredentials(t, client, s.URL(label, path), who)
			}
		}
	}
}

// sendCredentials posts a form with a password that also looks like an attack, with everything else that is to be kept.
func sendCredentials(t *testing.T, client *http.Client, address string, cookie *http.Cookie) {
	t.Helper()
	body := url.Values{"password": {"correct-horse-battery-staple"}, "q": {"' UNION SELECT password FROM users --"}}.Encode()
	req := request(t, http.MethodPost, address+"?token=in-the-query-of-ada&ticket=in-the-query-of-ada&code=in-the-query-of-ada", cookie, strings.NewReader(body))
	req.AddCookie(&http.Cookie{Name: "app", Value: "an-app-session-of-ada"})
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.dGhpcyBpcyBub3QgYSBzaWduYXR1cmU")
	if cookie == nil { // two credentials are refused before anything is looked at
		req.Header.Set("Sallyport-Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.dGhpcyBpcyBub3QgYSBzaWduYXR1cmU")
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	drain(res)
}

// signInOddly fails to sign in: the provider refuses the code and says so at length, or the browser comes back twice.
func signInOddly(t *testing.T, s *harness.Stand, held *secrets) {
	t.Helper()
	keep := func(answer url.Values) { held.add("code", answer.Get("code")) }
	refuse := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"this code is used"}`)
		return true
	}
	s.Provider.Do(fakeidp.Script{Callback: keep, Token: refuse})
	if status, _ := harness.Get(t, s.Browser(), s.URL("wiki", "/")); status == http.StatusOK {
		t.Error("a sign-in that the provider refused succeeded")
	}
	s.Provider.Do(fakeidp.Script{Callback: keep, Sign: func(jwt.MapClaims) string { return "not.a.token" }})
	if status, _ := harness.Get(t, s.Browser(), s.URL("wiki", "/")); status == http.StatusOK {
		t.Error("a sign-in without an ID token succeeded")
	}
	s.Provider.Do(fakeidp.Script{})
}

// contentOf is every file below a folder.
func contentOf(t *testing.T, folder string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		all.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// ADM-02: what other sites can make a browser ask changes nothing: posts of any type leave the person signed in, in every
// place where one signs out or in, links only ask, and a sign-in that somebody else began ends nowhere. The portal's own
// form signs out, so the way out is not merely broken.
func TestOtherSitesChangeNothing(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	harness.Get(t, browser, s.URL("auth", "/"))
	before := sessionIDs(t, s)
	browser.CheckRedirect = stay
	sites := map[string]http.Header{
		"another site":     {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}},
		"a sibling":        {"Origin": {s.URL("payroll", "")}, "Sec-Fetch-Site": {"same-site"}},
		"an older browser": {"Origin": {"https://evil.example"}},
		"a sandboxed page": {"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}},
		"http":             {"Origin": {strings.Replace(s.URL("auth", ""), "https:", "http:", 1)}},
	}
	for name, site := range sites {
		for _, kind := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=b", "application/json"} {
			for _, at := range []string{s.URL("auth", "/.sallyport/signout"), s.URL("wiki", "/.sallyport/signout"), s.URL("wiki", "/.sallyport/signout?scope=everywhere"),
				s.URL("auth", "/"), s.URL("auth", "/.sallyport/start"), s.URL("auth", "/.sallyport/callback/corp"), s.URL("wiki", "/.sallyport/return")} {
				if status := crossSite(t, browser, http.MethodPost, at, site, kind); status < 400 {
					t.Errorf("%s, %s to %s: got %d", name, kind, at, status)
				}
			}
		}
		for _, at := range []string{s.URL("auth", "/.sallyport/signout"), s.URL("wiki", "/.sallyport/signout?scope=everywhere"), s.URL("auth", "/.sallyport/start"),
			s.URL("auth", "/.sallyport/callback/corp?code=x&state=y"), s.URL("wiki", "/.sallyport/return?code=x&back=y&rd=/")} {
			crossSite(t, browser, http.MethodGet, at, site, "")
		}
		if after := sessionIDs(t, s); !slices.Equal(after, before) {
			t.Fatalf("%s: sessions were %q and are %q", name, before, after)
		}
		if status, _ := harness.Get(t, browser, s.URL("wiki", "/page")); status != http.StatusOK {
			t.Errorf("%s: the person got %d afterwards", name, status)
		}
	}
	own := http.Header{"Origin": {s.URL("auth", "")}, "Sec-Fetch-Site": {"same-origin"}}
	if status := crossSite(t, browser, http.MethodPost, s.URL("auth", "/.sallyport/signout"), own, "application/x-www-form-urlencoded"); status != http.StatusOK || len(sessionIDs(t, s)) != 0 {
		t.Errorf("the portal's own form got %d and left %q", status, sessionIDs(t, s))
	}
}

// crossSite asks as a page elsewhere would have a browser ask.
func crossSite(t *testing.T, browser *http.Client, method, address string, site http.Header, kind string) int {
	t.Helper()
	req := request(t, method, address, nil, strings.NewReader(`{"scope":"everywhere"}`))
	req.Header = site.Clone()
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	drain(res)
	return res.StatusCode
}

// sessionIDs are the sessions that there are, in order.
func sessionIDs(t *testing.T, s *harness.Stand) (ids []string) {
	t.Helper()
	out, code := s.Sallyport(t, "session", "list", "--json")
	var list []admin.Session
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	for _, one := range list {
		ids = append(ids, one.ID)
	}
	slices.Sort(ids)
	return ids
}

// CFG-05: what strangers may have is exactly what is written: a path, or what is below it at a segment border, of the
// canonical path, with the method, on the host. Each request that they are allowed is on record like any other.
func TestStrangersHaveExactlyWhatIsPublic(t *testing.T) {
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], access: [{ id: open, paths: [/public, /open/], methods: [GET], public: true }, { groups: [staff] }] }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], access: { groups: [finance] } }
`, "")
	s.Start(t)
	client := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	allowed := 0
	for _, c := range []struct {
		method, label, path string
		want                bool
	}{
		{"GET", "wiki", "/public", true}, {"HEAD", "wiki", "/public", true}, {"GET", "wiki", "/public?x=/secret", true},
		{"GET", "wiki", "/open/", true}, {"GET", "wiki", "/open/a/b", true}, {"GET", "wiki", "/%6fpen/a", true},
		{"GET", "wiki", "/public/", false}, {"GET", "wiki", "/public/x", false}, {"GET", "wiki", "/publicx", false}, {"GET", "wiki", "/PUBLIC", false},
		{"GET", "wiki", "/openx", false}, {"GET", "wiki", "/open.", false}, {"GET", "wiki", "/x/open/", false}, {"GET", "wiki", "/", false},
		{"GET", "wiki", "/open/../secret", false}, {"GET", "wiki", "/open/../public", false}, {"GET", "wiki", "/open/%2e%2e/secret", false}, {"GET", "wiki", "/open/..%2fsecret", false},
		{"GET", "wiki", "/open/..;/secret", false}, {"GET", "wiki", "/secret?/public", false}, {"GET", "wiki", "/secret?x=/open/", false},
		{"GET", "wiki", "/secret%23/open/", false}, {"POST", "wiki", "/public", false}, {"DELETE", "wiki", "/open/a", false},
		{"OPTIONS", "wiki", "/open/a", false}, {"GET", "payroll", "/public", false}, {"GET", "payroll", "/open/a", false},
	} {
		req := request(t, c.method, s.URL(c.label, "/"), nil, nil)
		req.URL.Opaque = c.path // as it is
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		drain(res)
		if (res.StatusCode == http.StatusOK) != c.want {
			t.Errorf("%s %s%s: got %d", c.method, c.label, c.path, res.StatusCode)
		}
		if c.want {
			allowed++
		}
	}
	seen := s.Origin.Seen()
	decided := decisionsByRequest(t, records(t, s))
	for _, r := range seen {
		if d := decided[r.ID]; d.Effect != audit.Allow || !strings.Contains(string(d.Decision), `"open"`) {
			t.Errorf("%s was served, and on record is %s by %s", r.Target, d.Effect, d.Decision)
		}
	}
	if len(seen) != allowed {
		t.Errorf("the app was asked %d times, want %d", len(seen), allowed)
	}
}

// spoiltHalves are changes of a configuration that is good otherwise, and what is said of them.
func spoiltHalves(dir string) map[string]struct{ old, now, why string } {
	wiki := "access: { groups: [staff] }"
	return map[string]struct{ old, now, why string }{
		"rules that do not parse":      {wiki, wiki + ", shield: { mode: block, rules: " + dir + "/broken.conf }", "broken.conf"},
		"rules that are not there":     {wiki, wiki + ", shield: { mode: block, rules: " + dir + "/none.conf }", "none.conf"},
		"a threshold nobody reaches":   {wiki, wiki + ", shield: { mode: block, threshold: 100000 }", "threshold"},
		"an inspection without end":    {"hsts: 0s", "hsts: 0s\nshield: { timeout: 0s }", "timeout must be"},
		"a rate without a unit":        {"hsts: 0s", "hsts: 0s\nlimits: { strangers: 5 }", "limits.strangers"},
		"a request limit out of range": {"hsts: 0s", "hsts: 0s\nlimits: { request: { header: 99999999 } }", "header"},
		"more for one than for all":    {wiki, wiki + ", limits: { concurrency: { person: 9, app: 1 } }", "person: 9"},
		"an unknown spelling":          {wiki, wiki + ", relax: [{ paths: /x/, allow: encoded_dot }]", "apps[0].relax[0].allow: unknown value"},
		"a spelling of all hosts":      {wiki, wiki + ", relax: [{ allow: encoded_slash }]", "paths"},
		"a slip":                       {wiki, wiki + ", sheild: { mode: block }", "unknown key"},
		"a key twice":                  {"hsts: 0s", "hsts: 0s\nhsts: 1h", "the key is there twice"},
		"TLS-08, no authority":         {wiki, wiki + ", upstream_tls: { ca: " + dir + "/none.pem }", "none.pem"},
		"TLS-08, an empty authority":   {wiki, wiki + ", upstream_tls: { ca: " + dir + "/empty.pem }", "empty.pem"},
		"TLS-08, no client chain":      {wiki, wiki + ", upstream_tls: { client_certificate: " + dir + "/none.pem }", "none.pem"},
		"TLS-08, a provider's":         {"client_id: sallyport", "client_id: sallyport\n      ca: " + dir + "/none.pem", "none.pem"},
		"TLS-08, no certificates":      {"/keys/public/certs/*.pem", "/keys/public/none/*.pem", "none"},
		"TLS-09, no client secret":     {`client_secret: "a secret of the test"`, "client_secret_file: " + dir + "/none", "none"},
		"TLS-09, an empty one":         {`client_secret: "a secret of the test"`, "client_secret_file: " + dir + "/empty.pem", "empty.pem"},
		"TLS-09, an unset variable":    {`client_secret: "a secret of the test"`, `client_secret: "${env:SALLYPORT_TEST_UNSET}"`, "SALLYPORT_TEST_UNSET"},
		"TLS-09, no policy":            {"hsts: 0s", "hsts: 0s\npolicy: { bundle: " + dir + "/none }", "none"},
	}
}

// CFG-03, TLS-08, TLS-09: a configuration of which a part is wrong, or names a file, a secret or an authority that is not
// there, does not start. Where a gateway runs it changes nothing: what is good in it, such as the access that it gives to
// everybody, has no effect either, and the refusal is on record with its reason.
func TestHalfAConfigurationIsNone(t *testing.T) {
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], access: { groups: [finance] } }
`, "")
	for name, text := range map[string]string{"broken.conf": "SecRule ARGS \"@rx (\" \"id:1,phase:2\n", "empty.pem": ""} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	open := strings.Replace(string(good), "access: { groups: [finance] }", "access: { public: true }", 1)
	starts := stopsAtOnce(t, s, open)
	s.WriteRaw(t, string(good))
	s.Start(t)
	ada := session(t, s, "wiki", "ada", "staff")
	client := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	running := filepath.Join(s.Dir, "running.yaml") // which the command line finds the gateway by
	if err := os.WriteFile(running, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, half := range spoiltHalves(s.Dir) {
		if said := starts[name]; !strings.Contains(said, half.why) {
			t.Errorf("%s: the start does not say %q: %s", name, half.why, said)
		}
		s.WriteRaw(t, strings.Replace(open, half.old, half.now, 1))
		out, code := s.Sallyport(t, "--config", running, "reload")
		if code != 1 || !strings.Contains(out, half.why) {
			t.Errorf("%s: reload exits with %d: %s", name, code, out)
		}
		if res, _ := send(t, client, http.MethodGet, s.URL("payroll", "/"), nil, nil); res.StatusCode == http.StatusOK {
			t.Errorf("%s: half of it counts", name)
		}
		if res, _ := send(t, client, http.MethodGet, s.URL("wiki", "/page"), ada, nil); res.StatusCode != http.StatusOK {
			t.Errorf("%s: the old configuration answers %d", name, res.StatusCode)
		}
		refused := readLog(t, s, audit.ControlLog, audit.Filter{})
		if !slices.ContainsFunc(refused, func(r audit.Record) bool {
			return r.Code == "config_refused" && strings.Contains(string(r.Detail), half.why)
		}) {
			t.Errorf("%s: no record says %q", name, half.why)
		}
	}
	s.WriteRaw(t, open)
	if out, code := s.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("the whole configuration: exit %d: %s", code, out)
	}
	if res, _ := send(t, client, http.MethodGet, s.URL("payroll", "/"), nil, nil); res.StatusCode != http.StatusOK {
		t.Errorf("the whole configuration answers %d", res.StatusCode)
	}
}

// stopsAtOnce starts each half, and returns what it said when it ended.
func stopsAtOnce(t *testing.T, s *harness.Stand, whole string) map[string]string {
	t.Helper()
	said := map[string]string{}
	for name, half := range spoiltHalves(s.Dir) {
		if strings.Count(whole, half.old) != 1 {
			t.Fatalf("%s: %q is not in the configuration once", name, half.old)
		}
		s.WriteRaw(t, strings.Replace(whole, half.old, half.now, 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, err := exec.CommandContext(ctx, filepath.Join(harness.Binaries(t), "sallyport"), "run", "--config", s.Config).CombinedOutput()
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: it ran: %s", name, out)
		}
		cancel()
		said[name] = string(out)
	}
	return said
}
