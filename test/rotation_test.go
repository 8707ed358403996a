package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"

	"sallyport/certs/keyd"
	"sallyport/test/harness"
)

// cachingApp is an app that believes assertions by the gateway's key set, which it keeps for as long as it may and never
// asks for sooner, not even when it does not know a key.
type cachingApp struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex
	set     jose.JSONWebKeySet
	until   time.Time
	fetched int
	kids    map[string]int // verified assertions by key
	wrong   []string
}

func (a *cachingApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.verify(r.Header.Get("X-Sallyport-Assertion")); err != nil {
		a.wrong = append(a.wrong, err.Error())
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	io.WriteString(w, "hello")
}

func (a *cachingApp) verify(assertion string) error {
	if err := a.fresh(); err != nil {
		return err
	}
	token, err := josejwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return fmt.Errorf("%q: %w", assertion, err)
	}
	kid := token.Headers[0].KeyID
	known := a.set.Key(kid)
	if len(known) != 1 {
		return fmt.Errorf("the app knows %d keys with id %s", len(known), kid)
	}
	var claims josejwt.Claims
	if err := token.Claims(known[0].Key, &claims); err != nil {
		return err
	}
	a.kids[kid]++
	return claims.ValidateWithLeeway(josejwt.Expected{Time: a.now()}, 0)
}

// fresh fetches the key set when what was kept of it is too old.
func (a *cachingApp) fresh() error {
	if a.now().Before(a.until) {
		return nil
	}
	res, err := a.client.Get(a.url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, age, ok := strings.Cut(res.Header.Get("Cache-Control"), "max-age=")
	seconds, err := strconv.Atoi(age)
	if !ok || err != nil {
		return fmt.Errorf("Cache-Control is %q", res.Header.Get("Cache-Control"))
	}
	a.set = jose.JSONWebKeySet{}
	if err := json.NewDecoder(res.Body).Decode(&a.set); err != nil {
		return err
	}
	a.until = a.now().Add(time.Duration(seconds) * time.Second)
	a.fetched++
	return nil
}

// rotatable has keys of these names rotate on command, soon.
func rotatable(t *testing.T, s *harness.Stand, plan string, names ...string) {
	t.Helper()
	file := filepath.Join(s.Dir, "keys", "keyd.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, name := range names {
		line := "    file: " + name + ".pem\n"
		if strings.Count(text, line) != 1 {
			t.Fatalf("%q is not once in\n%s", line, text)
		}
		text = strings.Replace(text, line, line+"    rotate: "+plan+"\n", 1)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// KEY-12: keys change under people who use an app that keeps the key set for as long as it may. No request fails, and no
// assertion comes that the app cannot check; nothing is restarted.
func TestKEY12RotationUnderLoadFailsNoRequest(t *testing.T) {
	app := &cachingApp{now: time.Now, kids: map[string]int{}}
	origin := httptest.NewServer(app)
	t.Cleanup(origin.Close)
	s := harness.New(t, strings.ReplaceAll(harness.Apps, "ORIGIN", origin.URL), // ada signs in as often as the machine is fast
		"limits: { strangers: 10000/s burst 100000, sign_in: { address: 1000/s burst 100000, account: 1000/s burst 100000, total: 1000/s burst 100000 } }\n")
	app.url, app.client = s.URL("auth", "/.sallyport/jwks.json"), &http.Client{Transport: s.Transport()}
	rotatable(t, s, "{ announce: 5s, overlap: 6m }", "assertion")
	startKeyd, socket := withOwnKeyd(t, s)
	startKeyd()
	s.Start(t)
	s.Provider.SetPerson(map[string]any{"sub": "ada", "email": "ada@corp.test", "email_verified": true, "name": "ada", "groups": []string{"staff"}})

	asked := 0
	var people []*http.Client
	ask := func(browser *http.Client) {
		t.Helper()
		asked++
		if status, body := harness.Get(t, browser, s.URL("wiki", "/")); status != http.StatusOK {
			t.Errorf("request %d: got %d %.200s", asked, status, body)
		}
	}
	use := func() { // whoever comes anew needs a new assertion; who was here uses one of before
		people = append(people, s.Browser())
		for _, browser := range people[max(0, len(people)-5):] {
			ask(browser)
		}
	}
	use()
	n := min(rounds(t, 2), 6) // no more keys can be alive at a time
	for range n {
		r, err := keyd.AskRotate(socket, "assertion", false)
		if err != nil {
			t.Fatal(err)
		}
		for app.count(r.ID) == 0 {
			use()
			if time.Since(r.Current) > 2*time.Minute {
				t.Fatalf("nothing is signed with generation %d", r.Generation)
			}
		}
		use()
	}
	app.mu.Lock()
	defer app.mu.Unlock()
	for _, wrong := range app.wrong {
		t.Error(wrong)
	}
	if len(app.kids) != n+1 || len(app.set.Keys) != n+1 {
		t.Errorf("assertions came from %d keys, and %d are published; want %d", len(app.kids), len(app.set.Keys), n+1)
	}
	t.Logf("%d changes of keys, %d requests, %d sessions, key set fetched %d times, none failed", n, asked, len(people), app.fetched)
}

func (a *cachingApp) count(kid string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kids[kid]
}

// KEY-12, KEY-14: the checkpoint key changes while the gateway runs. Auditors who only have the keys of before follow, those who
// have the new ones only look back, and the control log says what happened.
func TestKEY12CheckpointKeyChangesUnderTheGateway(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	rotatable(t, s, "{ announce: 5s, overlap: 5s }", "checkpoint", "manifest")
	startKeyd, socket := withOwnKeyd(t, s)
	startKeyd()
	gw := s.Start(t)
	trust := func(name string) string {
		lines, err := keyd.TrustLines(socket)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.Dir, name)
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	before := trust("before.trust")
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	for _, name := range []string{"checkpoint", "manifest", "checkpoint"} {
		r, err := keyd.AskRotate(socket, name, true)
		if err != nil {
			t.Fatal(err)
		}
		// The old key is destroyed when the overlap is over.
		harness.Eventually(t, 2*time.Minute, "the key of before to be destroyed", func() bool {
			harness.Get(t, browser, s.URL("wiki", "/"))
			st, err := keyd.AskStatus(socket)
			if err != nil {
				t.Fatal(err)
			}
			alive := 0
			for _, k := range st.Keys {
				if k.Name == name {
					alive++
				}
			}
			return alive == 1
		})
		if _, err := os.Stat(filepath.Join(s.KeyFolder(), name+".pem")); r.Generation == 2 && !os.IsNotExist(err) {
			t.Errorf("the file of the first %s key is there: %v", name, err)
		}
	}
	after := trust("after.trust")
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{before, after} {
		out, code := s.Sallyport(t, "audit", "verify", filepath.Join(s.Dir, "audit"), "--trust", file)
		if code != 0 {
			t.Errorf("with %s: got exit code %d\n%s", filepath.Base(file), code, out)
		}
		if told := strings.Contains(out, "belongs into the trust file"); told != (file == before) {
			t.Errorf("with %s: told of new keys: %v\n%s", filepath.Base(file), told, out)
		}
	}
}
