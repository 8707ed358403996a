package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a cache between people and a scripted app, under a clock that only the test moves.
type bed struct {
	t     *testing.T
	cache *Cache
	leg   http.RoundTripper
	rule  Rule

	mu   sync.Mutex
	now  time.Time
	app  func(*http.Request) (*http.Response, error)
	seen []*http.Request
}

const testURL = "https://wiki.corp.example/page?x=1"

func newBed(t *testing.T, rule Rule, opts Options) *bed {
	b := &bed{t: t, rule: rule, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	b.rule.Enabled = true
	opts.Now = b.clock
	b.cache = New(NewMemory(64<<20), opts)
	b.leg = b.cache.For(roundTripper(b.answer))
	t.Cleanup(b.cache.Close)
	return b
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (b *bed) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bed) wait(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bed) answer(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	app := b.app
	b.seen = append(b.seen, r.Clone(context.Background()))
	b.mu.Unlock()
	return app(r)
}

// asked is how many requests reached the app.
func (b *bed) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen)
}

// lastSeen is the request that reached the app last.
func (b *bed) lastSeen() *http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[len(b.seen)-1]
}

// says makes the app give the same answer every time.
func (b *bed) says(status int, body string, fields ...string) {
	b.does(func(r *http.Request) (*http.Response, error) { return b.response(r, status, body, fields...), nil })
}

func (b *bed) does(app func(*http.Request) (*http.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.app = app
}

// response is an answer as net/http would hand it over; fields are "Name: value", and Date is the clock's unless given.
func (b *bed) response(r *http.Request, status int, body string, fields ...string) *http.Response {
	h := header(fields...)
	if _, given := h["Date"]; !given {
		h["Date"] = []string{formatDate(b.clock())}
	}
	length := int64(len(body))
	if r.Method == "HEAD" || status == 304 {
		body = ""
	}
	if status != 304 && status != 204 && h["Content-Length"] == nil {
		h["Content-Length"] = []string{fmt.Sprint(length)}
	}
	return &http.Response{Status: fmt.Sprint(status, " ", http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1,
		ProtoMinor: 1, Header: h, ContentLength: length, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

// header reads "Name: value" lines. "Date: none" leaves the date out.
func header(fields ...string) http.Header {
	h := http.Header{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	if h.Get("Date") == "none" {
		h["Date"] = []string{} // there, but empty: response leaves it alone
	}
	return h
}

// answer is what a client got.
type answer struct {
	*http.Response
	body   string
	err    error
	result Result
}

func (a answer) String() string {
	if a.Response == nil {
		return fmt.Sprintf("error %v (%s)", a.err, a.result)
	}
	return fmt.Sprintf("%d %q %v (%s)", a.StatusCode, a.body, a.Header, a.result)
}

// as sends a request as one person.
func (b *bed) as(person string, method string, fields ...string) answer {
	v := &Viewer{App: "wiki", URL: testURL, Person: person, Rule: b.rule, IdentityHeaders: isIdentity}
	return b.send(v, method, fields...)
}

func isIdentity(name string) bool { return strings.HasPrefix(name, "X-Sallyport-") }

func (b *bed) get(fields ...string) answer { return b.as("ann", "GET", fields...) }

func (b *bed) send(v *Viewer, method string, fields ...string) answer {
	res, err := b.leg.RoundTrip(b.request(v, method, fields...))
	if err != nil {
		return answer{err: err, result: v.Result}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body), err, v.Result}
}

func (b *bed) request(v *Viewer, method string, fields ...string) *http.Request {
	r, err := http.NewRequestWithContext(WithViewer(b.t.Context(), v), method, v.URL, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header = header(fields...)
	return r
}

var errDown = errors.New("connection refused")

func (b *bed) goesDown() {
	b.does(func(*http.Request) (*http.Response, error) { return nil, errDown })
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened: %s", what)
		}
	}
}
