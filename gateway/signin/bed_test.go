package signin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn/oidc"
	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
	"sallyport/gateway/signin"
	"sallyport/test/fakeidp"
)

const (
	authOrigin = "https://auth.corp.example:8443"
	wikiOrigin = "https://wiki.corp.example:8443"
	payOrigin  = "https://payroll.corp.example:8443"
)

var apps = map[string]signin.App{
	"wiki.corp.example":    {Name: "wiki", Title: "Wiki", Host: "wiki.corp.example", Origin: wikiOrigin},
	"payroll.corp.example": {Name: "payroll", Host: "payroll.corp.example", Origin: payOrigin},
}

// bed is a gateway cut down to sign-in, a provider, and what they write down.
type bed struct {
	t       *testing.T
	idp     *fakeidp.Provider
	handler *signin.Handler
	keeper  *session.Keeper
	records *recorder
	ahead   atomic.Int64 // how much later than it is, in nanoseconds
	apps    map[string]signin.App
	needs   func(host string, s *session.Session) signin.Need // what apps ask of a session; nil: nothing
}

func newBed(t *testing.T, more ...*fakeidp.Provider) *bed {
	t.Helper()
	b := &bed{t: t, records: &recorder{}, apps: maps.Clone(apps)}
	b.idp = fakeidp.Start(t, fakeidp.Client{ID: "sallyport", Secret: "s3cret", RedirectURI: signin.CallbackURL(authOrigin, "corp")})
	keeper, err := session.NewKeeper(session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour}, sessiontest.NewMemory(), b.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.keeper = keeper
	providers := []*oidc.Provider{b.provider("corp", b.idp)}
	for _, idp := range more {
		providers = append(providers, b.provider("partner", idp))
	}
	b.serve(keeper, providers...)
	return b
}

// serve puts another handler in place, on the same records.
func (b *bed) serve(sessions signin.Sessions, providers ...*oidc.Provider) {
	b.handler = signin.New(signin.Options{
		AuthOrigin: authOrigin, Providers: providers, Sessions: sessions, Record: b.records, Now: b.now,
		Apps: func(host string) (signin.App, bool) { app, ok := b.apps[host]; return app, ok },
	})
}

func (b *bed) provider(name string, idp *fakeidp.Provider, domains ...string) *oidc.Provider {
	b.t.Helper()
	p, err := oidc.New(oidc.Config{
		EmailDomains: domains, MFA: oidc.MFA{AMR: []string{"mfa"}},
		Name: name, Title: strings.ToUpper(name), Issuer: idp.Issuer, ClientID: idp.Client.ID, ClientSecret: oidc.Secret(idp.Client.Secret),
		Scopes: []string{"openid"}, Claims: oidc.Claims{Groups: "groups", Email: "email", EmailVerified: "email_verified", Name: "name"},
		Skew: time.Minute,
	}, oidc.Options{RedirectURL: idp.Client.RedirectURI, Now: b.now})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := p.Discover(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bed) now() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }

// later moves the clock.
func (b *bed) later(d time.Duration) { b.ahead.Add(int64(d)) }

// ServeHTTP is the gateway: apps greet who is signed in, everybody else signs in.
func (b *bed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	err := b.route(w, r, host)
	if err == nil {
		return
	}
	problem, ok := errors.AsType[*signin.Problem](err)
	if !ok {
		b.t.Errorf("error %v is no problem for a page", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("X-Code", problem.Code)
	if form := problem.Email; form != nil {
		hidden := url.Values{}
		for _, field := range form.Hidden {
			hidden.Set(field.Name, field.Value)
		}
		w.Header().Set("X-Form", form.Method+" "+form.URL+" "+hidden.Encode())
	}
	if problem.Action != nil {
		w.Header().Set("X-Action", problem.Action.Method+" "+problem.Action.URL)
	}
	for _, choice := range problem.Choices {
		w.Header().Add("X-Choice", choice.URL)
	}
	w.WriteHeader(problem.Status)
	page, _ := json.Marshal(struct{ Title, Text, Advice string }{problem.Title, problem.Text, problem.Advice})
	w.Write(page)
}

func (b *bed) route(w http.ResponseWriter, r *http.Request, host string) error {
	isAuth := host == "auth.corp.example"
	switch {
	case isAuth && r.URL.Path != "/" && r.URL.Path != signin.SessionsPath:
		return b.handler.ServeAuth(w, r)
	case !isAuth && r.URL.Path == signin.ReturnPath:
		return b.handler.ServeReturn(w, r, host)
	case !isAuth && r.URL.Path == signin.SignOutPath:
		return b.handler.SignOut(w, r, host)
	}
	for _, c := range r.CookiesNamed(signin.SessionCookie) {
		s, err := b.keeper.Lookup(r.Context(), host, c.Value)
		if isAuth {
			s, err = b.keeper.SignedIn(r.Context(), c.Value)
		}
		if err == nil && b.needs != nil {
			if need := b.needs(host, s); !reflect.DeepEqual(need, signin.Need{}) {
				return b.handler.Start(w, r, host, r.URL.RequestURI(), need)
			}
		}
		if err == nil {
			w.Header().Set("X-User", s.Identity.Subject)
			w.Header().Set("X-Session", s.ID)
			io.WriteString(w, r.URL.RequestURI())
			return nil
		}
	}
	return b.handler.Start(w, r, host, r.URL.RequestURI(), signin.Need{})
}

// recorder keeps control records, or fails to.
type recorder struct {
	mu   sync.Mutex
	all  []audit.Record
	fail func(code string) bool
}

func (r *recorder) Record(_ context.Context, record *audit.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil && r.fail(record.Code) {
		return errors.New("disk is full")
	}
	r.all = append(r.all, *record)
	return nil
}

func (r *recorder) failing(fail func(code string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

// codes are the records so far, each as its code and, where there is one, its reason.
func (r *recorder) codes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, record := range r.all {
		all = append(all, strings.TrimSuffix(record.Code+":"+record.Reason, ":"))
	}
	return all
}

func (r *recorder) count(code string) int {
	n := 0
	for _, c := range r.codes() {
		if c == code {
			n++
		}
	}
	return n
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.Marshal(r.all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// browser keeps cookies, and reaches the gateway without a socket and the provider through one.
type browser struct {
	t      *testing.T
	bed    *bed
	client *http.Client
	jar    http.CookieJar
	header http.Header // sent with every request to the gateway

	mu     sync.Mutex
	set    []*http.Cookie // every cookie that the gateway set
	pages  bytes.Buffer   // every body and header that the gateway sent
	blocks func(c *http.Cookie) bool
}

func (b *bed) browser() *browser {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	br := &browser{t: b.t, bed: b, jar: jar, header: http.Header{}}
	br.client = &http.Client{Jar: blockingJar{br}, Transport: br, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) >= 60 {
			return errors.New("stopped after 60 redirects")
		}
		return nil
	}}
	return br
}

type blockingJar struct{ *browser }

func (j blockingJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	if u.Scheme == "https" && j.blocks != nil {
		cookies = slices.DeleteFunc(slices.Clone(cookies), j.blocks)
	}
	j.jar.SetCookies(u, cookies)
}

func (j blockingJar) Cookies(u *url.URL) []*http.Cookie { return j.jar.Cookies(u) }

func (br *browser) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		return http.DefaultTransport.RoundTrip(r)
	}
	in := r.Clone(r.Context())
	in.Host, in.RemoteAddr, in.RequestURI = r.URL.Host, "192.0.2.7:4711", r.URL.RequestURI()
	in.Header.Set("User-Agent", "Browser/1.0")
	if in.Body == nil {
		in.Body = http.NoBody
	}
	maps.Copy(in.Header, br.header)
	w := httptest.NewRecorder()
	br.bed.ServeHTTP(w, in)
	resp := w.Result()
	resp.Request = r
	br.mu.Lock()
	defer br.mu.Unlock()
	br.set = append(br.set, resp.Cookies()...)
	resp.Header.Write(&br.pages)
	br.pages.Write(w.Body.Bytes())
	return resp, nil
}

// answer is what came of a visit.
type answer struct {
	status                   int
	url                      string // where the browser ended
	code, user, session, act string
	body                     string
	location                 string
	form                     string
	choices                  []string
}

func (br *browser) do(r *http.Request, client *http.Client) answer {
	br.t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		br.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		br.t.Fatal(err)
	}
	h := resp.Header
	return answer{resp.StatusCode, resp.Request.URL.String(), h.Get("X-Code"), h.Get("X-User"), h.Get("X-Session"), h.Get("X-Action"),
		string(body), h.Get("Location"), h.Get("X-Form"), h.Values("X-Choice")}
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open visits a page as a person does.
func (br *browser) open(url string) answer {
	br.t.Helper()
	return br.do(request(br.t, http.MethodGet, url, nil), br.client)
}

// step follows no redirect.
func (br *browser) step(url string) answer {
	br.t.Helper()
	once := *br.client
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return br.do(request(br.t, http.MethodGet, url, nil), &once)
}

// until follows redirects up to a page whose address holds part, which is not opened.
func (br *browser) until(url, part string) string {
	br.t.Helper()
	for range 20 {
		a := br.step(url)
		if a.location == "" {
			br.t.Fatalf("%s ended with %d %s before %q", url, a.status, a.code, part)
		}
		if url = a.location; strings.Contains(url, part) {
			return url
		}
	}
	br.t.Fatalf("%q was never reached", part)
	return ""
}

// post sends a form of one of the gateway's own pages.
func (br *browser) post(to, form string, headers ...string) answer {
	br.t.Helper()
	r := request(br.t, http.MethodPost, to, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return br.do(r, br.client)
}

// cookies are the cookies that the browser holds for an origin, by name.
func (br *browser) cookies(origin string) map[string]string {
	br.t.Helper()
	u, err := url.Parse(origin)
	if err != nil {
		br.t.Fatal(err)
	}
	all := map[string]string{}
	for _, c := range br.jar.Cookies(u) {
		all[c.Name] = c.Value
	}
	return all
}

// plant puts a cookie into the browser.
func (br *browser) plant(origin, name, value string) {
	br.t.Helper()
	u, err := url.Parse(origin)
	if err != nil {
		br.t.Fatal(err)
	}
	br.jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

func (a answer) want(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status || a.code != code {
		t.Errorf("%s: got %d %q, want %d %q\n%s", a.url, a.status, a.code, status, code, a.body)
	}
}

func (a answer) wantUser(t *testing.T, user, url string) {
	t.Helper()
	if a.status != http.StatusOK || a.user != user || a.url != url {
		t.Errorf("got %d %q at %s as %q, want %q at %s", a.status, a.code, a.url, a.user, user, url)
	}
}
