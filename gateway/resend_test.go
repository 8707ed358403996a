package gateway

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/route"
	"sallyport/gateway/signin"
	"sallyport/policy"
)

// formBed is a wiki that notes what it was sent. The cookies "was ada" and "was old" are of sessions that expired.
type formBed struct {
	*bed
	*keep

	mu   sync.Mutex
	seen []string // of the app: method, target, type, referer and body
}

func newFormBed(t *testing.T) *formBed {
	t.Helper()
	f := &formBed{}
	f.bed = newBed(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.seen = append(f.seen, strings.Join([]string{r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.Header.Get("Referer"), string(body)}, " "))
		io.WriteString(w, "thanks")
	})
	f.keep = f.bed.keep()
	f.serveFresh(t, route.Session{}, 0, "")
	f.bed.sessions.put("bob", "staff")
	f.past["was-ada"] = session.Past{SessionID: "session before", Subject: "corp|ada", Ended: time.Now()}
	return f
}

func (f *formBed) apps() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

const urlencoded = "application/x-www-form-urlencoded"

// form is what a page of the wiki sends.
func (f *formBed) form(t *testing.T, handle, body string) *http.Request {
	t.Helper()
	r := navigation(f.request(t, "POST", "/expenses/new?year=2026", handle, strings.NewReader(body)))
	r.Header.Set("Content-Type", urlencoded)
	r.Header.Set("Origin", "https://"+wikiHost)
	r.Header.Set("Referer", "https://"+wikiHost+"/expenses/form")
	return r
}

// kept sends a form of ada's that is kept, and returns where it is offered.
func (f *formBed) kept(t *testing.T) (page string) {
	t.Helper()
	status, body := answerTo(t, f.client(t, "http/1.1"), f.form(t, "was-ada", "amount=12&note=plover+egg"))
	page = strings.ReplaceAll(between(body, `href="`+signin.ResendPath, `"`), "&amp;", "&")
	if status != 401 || page == "" || strings.Count(body, "Sign in and send it again") != 1 || strings.Contains(body, "plover") {
		t.Fatalf("got %d %s", status, body)
	}
	return signin.ResendPath + page
}

func (f *formBed) press(t *testing.T, handle, page, do string) (int, string) {
	t.Helper()
	r := navigation(f.request(t, "POST", page+"&do="+do, handle, nil))
	r.Header.Set("Origin", "https://"+wikiHost)
	return answerTo(t, f.client(t, "http/1.1"), r)
}

// The whole way of a form: kept, offered to the same person after they signed in, sent as it was by their wish, once.
func TestFormOfAnExpiredSessionIsSentAgain(t *testing.T) {
	f := newFormBed(t)
	page := f.kept(t)
	if len(f.apps()) > 0 {
		t.Fatal("the app was asked by nobody")
	}
	if want := []string{"keep", "record form_kept"}; !slices.Equal(f.did(), want) {
		t.Errorf("did %q, want %q", f.did(), want)
	}
	res := sent(t, f.bed, navigation(f.request(t, "GET", page, "", nil)))
	if res.StatusCode != 302 || !strings.Contains(res.Header.Get("Location"), "rd=%2F.sallyport%2Fresend%3Fform%3D") {
		t.Errorf("a stranger gets %d to %s", res.StatusCode, res.Header.Get("Location"))
	}
	status, body := answerTo(t, f.client(t, "http/1.1"), navigation(f.request(t, "GET", page, "ada", nil)))
	if status != 200 || !strings.Contains(body, "POST /expenses/new, 25 bytes") || !strings.Contains(body, "Send</") || !strings.Contains(body, "Discard</") ||
		strings.Contains(body, "plover") || strings.Contains(body, "2026") {
		t.Fatalf("it is offered with %d %s", status, body)
	}
	if len(f.apps()) > 0 {
		t.Fatal("it was sent before anybody said so")
	}
	if status, body := f.press(t, "ada", page, "send"); status != 200 || body != "thanks" {
		t.Fatalf("got %d %s", status, body)
	}
	want := []string{"POST /expenses/new?year=2026 " + urlencoded + " https://" + wikiHost + "/expenses/form amount=12&note=plover+egg"}
	if got := f.apps(); !slices.Equal(got, want) {
		t.Errorf("the app got %q, want %q", got, want)
	}
	if want := []string{"keep", "record form_kept", "take", "record form_resent"}; !slices.Equal(f.did(), want) {
		t.Errorf("did %q, want %q", f.did(), want)
	}
	decisions := f.log.of(audit.TypeDecision)
	last := decisions[len(decisions)-1]
	if last.Effect != audit.Allow || last.Session != "session of ada" {
		t.Errorf("on record as %s of %s", last.Effect, last.Session)
	}
	in, err := policy.ParseInput(last.Document.AppendJSON(nil))
	if err != nil || in.Resource.Path != "/expenses/new" || in.Action.Method != "POST" || in.Subject.ID != "corp|ada" {
		t.Errorf("decided on %+v, %v", in, err)
	}
	for _, record := range append(f.codes("form_kept"), f.codes("form_resent")...) {
		if strings.Contains(string(record.Detail), "plover") || record.Actor.ID != "corp|ada" {
			t.Errorf("on record with %s by %v", record.Detail, record.Actor)
		}
	}
}

// It is sent as the person whose it is or not at all: also where strangers may send, when the session ends on the way.
func TestKeptFormIsNoStrangers(t *testing.T) {
	f := newFormBed(t)
	page := f.kept(t)
	open := wiki(t, f.origin)
	open.Access = policy.Access{{Public: true}}
	next := snapshot(t, open)
	next.SignIn = f.server.Snapshot().SignIn
	f.server.Swap(next)
	f.server.rechecker = &scriptedProvider{say: fails(session.ErrNoSession)}
	if status, body := f.press(t, "ada", page, "send"); status != 401 || len(f.apps()) > 0 || !strings.Contains(body, "still kept") {
		t.Errorf("got %d, the app got %q: %s", status, f.apps(), body)
	}
	if want := []string{"keep", "record form_kept"}; !slices.Equal(f.did(), want) {
		t.Errorf("did %q, want %q", f.did(), want)
	}
}

// Of any number of tabs and reloads one sends it. A store that gives it away twice, which is the mutant, is found.
func TestKeptFormIsSentOnce(t *testing.T) {
	for _, mutant := range []bool{false, true} {
		f := newFormBed(t)
		page := f.kept(t)
		f.lavish = mutant
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { f.press(t, "ada", page, "send") })
		}
		group.Wait()
		if n := len(f.apps()); (n == 1) == mutant {
			t.Errorf("mutant %v: the app got it %d times", mutant, n)
		}
		if mutant {
			continue
		}
		if status, body := f.press(t, "ada", page, "send"); status != 404 || !strings.Contains(body, "Nothing is kept any more") {
			t.Errorf("a reload gets %d %s", status, body)
		}
	}
}

// Whose form it is not learns that and nothing else, and can do nothing to it. With a form of their own in its place, which
// is the mutant, they see and send it.
func TestKeptFormIsOnlyForWhoseItIs(t *testing.T) {
	for _, mutant := range []bool{false, true} {
		f := newFormBed(t)
		if mutant {
			past := f.past["was-ada"]
			past.Subject = "corp|bob"
			f.past["was-ada"] = past
		}
		page := f.kept(t)
		status, body := answerTo(t, f.client(t, "http/1.1"), navigation(f.request(t, "GET", page, "bob", nil)))
		shown := status == 200 || strings.Contains(body, "expenses") || strings.Contains(body, "bytes") || strings.Contains(body, "Send</")
		sending, _ := f.press(t, "bob", page, "send")
		discarding, _ := f.press(t, "bob", page, "discard")
		if shown != mutant || (sending == 403) == mutant || (discarding == 403) == mutant || (len(f.apps()) > 0) != mutant {
			t.Errorf("mutant %v: shown %v, sending %d, discarding %d, the app got %q", mutant, shown, sending, discarding, f.apps())
		}
		if !mutant && len(f.forms) != 1 {
			t.Error("it is gone")
		}
	}
}

// Only a button of our own page sends or discards. What a page of this host sends, the mutant, is taken.
func TestOtherSitesSendNoKeptForm(t *testing.T) {
	for name, spoil := range map[string]func(*http.Request){
		"another site": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Origin", "https://evil.example")
		},
		"another app": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "same-site")
			r.Header.Set("Origin", "https://mail.corp.test")
		},
		"an old browser":          func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
		"over plain http":         func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "http://"+wikiHost) },
		"a browser says nothing":  func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Del("Origin") },
		"a link":                  func(r *http.Request) { r.Method = "GET" },
		"the address bar":         func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") },
		"mutant: the page itself": func(*http.Request) {},
	} {
		for _, do := range []string{"send", "discard"} {
			f := newFormBed(t)
			page := f.kept(t)
			r := navigation(f.request(t, "POST", page+"&do="+do, "ada", nil))
			r.Header.Set("Origin", "https://"+wikiHost)
			spoil(r)
			status, _ := answerTo(t, f.client(t, "http/1.1"), r)
			if mutant := strings.HasPrefix(name, "mutant"); (len(f.forms) == 0) != mutant || (len(f.apps()) > 0) != (mutant && do == "send") {
				t.Errorf("%s, %s: got %d, %d forms are left, the app got %q", name, do, status, len(f.forms), f.apps())
			}
		}
	}
}

// What is not such a form is refused unread, and nothing is kept; the last one, the mutant, is such a form.
func TestEverythingElseIsRefusedUnread(t *testing.T) {
	for name, spoil := range map[string]func(*http.Request){
		"a cookie that was never ours": func(r *http.Request) { r.Header.Set("Cookie", "__Host-sallyport=somebody") },
		"no cookie":                    func(r *http.Request) { r.Header.Del("Cookie") },
		"two cookies":                  func(r *http.Request) { r.Header.Set("Cookie", "__Host-sallyport=was-ada; __Host-sallyport=x") },
		"another site":                 func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another app": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "same-site")
			r.Header.Set("Origin", "https://mail.corp.test")
		},
		"another origin, an old browser": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
		"a script":                       func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "cors") },
		"a frame":                        func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "iframe") },
		"JSON":                           func(r *http.Request) { r.Header.Set("Content-Type", "application/json") },
		"no type":                        func(r *http.Request) { r.Header.Del("Content-Type") },
		"compressed":                     func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") },
		"PUT":                            func(r *http.Request) { r.Method = "PUT" },
		"with credentials of the app's":  func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") },
		"mutant: a form":                 func(*http.Request) {},
	} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			f := newFormBed(t)
			r := f.form(t, "was-ada", "a=b")
			r.Header.Set("Expect", "100-continue")
			spoil(r)
			status, body := answerTo(t, f.client(t, protocol), r)
			mutant := strings.HasPrefix(name, "mutant")
			if status != 401 || (len(f.forms) == 1) != mutant || strings.Contains(body, "send it again</") != mutant || len(f.apps()) > 0 {
				t.Errorf("%s over %s: got %d, %d forms are kept: %s", name, protocol, status, len(f.forms), body)
			}
		}
	}
}

// 64 KiB are kept, one byte more is not, whether the browser says so before or not.
func TestFormsThatAreKeptAreSmall(t *testing.T) {
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		for _, announced := range []bool{true, false} {
			for _, protocol := range []string{"http/1.1", "h2"} {
				f := newFormBed(t)
				r := f.form(t, "was-ada", strings.Repeat("x", size))
				if !announced {
					r.ContentLength = -1
					r.Body = io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
				}
				res, err := f.client(t, protocol).Do(r)
				if err != nil {
					if size > 64<<10 { // the connection ends under what nobody reads
						continue
					}
					t.Fatalf("%d bytes, announced %v, over %s: %v", size, announced, protocol, err)
				}
				res.Body.Close()
				if res.StatusCode != 401 || (len(f.forms) == 1) != (size <= 64<<10) {
					t.Errorf("%d bytes, announced %v, over %s: got %d, %d forms are kept", size, announced, protocol, res.StatusCode, len(f.forms))
				}
			}
		}
	}
}

// Every kind of form is sent as it was.
func TestFormsOfEveryKindAreKept(t *testing.T) {
	for _, kind := range []string{urlencoded + "; charset=UTF-8", "multipart/form-data; boundary=x", "text/plain"} {
		f := newFormBed(t)
		body := "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\x00\xff\r\n--x--\r\n"
		r := f.form(t, "was-ada", body)
		r.Header.Set("Content-Type", kind)
		answerTo(t, f.client(t, "h2"), r)
		if status, _ := f.press(t, "ada", signin.ResendPath+"?form=FORM1", "send"); status != 200 || len(f.apps()) != 1 || !strings.HasSuffix(f.apps()[0], kind+" https://"+wikiHost+"/expenses/form "+body) {
			t.Errorf("%s: got %d, the app got %q", kind, status, f.apps())
		}
	}
}

// A second form of the session is not kept, and its sender is told; so they are when nothing can be kept or recorded.
func TestWhatIsNotKeptIsSaid(t *testing.T) {
	f := newFormBed(t)
	f.kept(t)
	status, body := answerTo(t, f.client(t, "http/1.1"), f.form(t, "was-ada", "c=d"))
	if status != 401 || len(f.forms) != 1 || !strings.Contains(body, "one form was kept already") {
		t.Errorf("a second one: got %d %s", status, body)
	}
	f = newFormBed(t)
	f.failing = errDisk
	status, body = answerTo(t, f.client(t, "http/1.1"), f.form(t, "was-ada", "c=d"))
	if status != 401 || len(f.forms) != 0 || !strings.Contains(body, "could not be kept") {
		t.Errorf("without a record: got %d, %d forms are kept: %s", status, len(f.forms), body)
	}
	f = newFormBed(t)
	f.down = session.ErrUnavailable
	if status, body = answerTo(t, f.client(t, "http/1.1"), f.form(t, "was-ada", "c=d")); status != 401 || strings.Contains(body, "send it again</") {
		t.Errorf("without a store: got %d %s", status, body)
	}
}

// What the policy, a limit or the log refuses now is not lost, and people are told so.
func TestRefusedFormIsKeptOn(t *testing.T) {
	f := newFormBed(t)
	page := f.kept(t)
	f.bed.sessions.put("ada", "nobody")
	status, body := f.press(t, "ada", page, "send")
	if status != 403 || len(f.forms) != 1 || len(f.apps()) > 0 || !strings.Contains(body, "What you sent is not lost") {
		t.Errorf("got %d, %d forms are left: %s", status, len(f.forms), body)
	}
	decisions := f.log.of(audit.TypeDecision)
	if last := decisions[len(decisions)-1]; last.Effect != audit.Deny {
		t.Errorf("on record as %s", last.Effect)
	}
	f.log.fail(errDisk)
	f.bed.sessions.put("ada", "staff")
	if status, _ := f.press(t, "ada", page, "send"); status != 503 || len(f.forms) != 1 || len(f.apps()) > 0 {
		t.Errorf("without a record: got %d, %d forms are left", status, len(f.forms))
	}
	f.log.fail(nil)
	f.serveFresh(t, route.Session{}, 0, stepUpRego)
	status, body = f.press(t, "ada", page, "send")
	if status != 401 || len(f.forms) != 1 || !strings.Contains(body, "rd=%2F.sallyport%2Fresend%3Fform%3D") || !strings.Contains(body, "still kept") {
		t.Errorf("for a step-up: got %d %s", status, body)
	}
	f.serveFresh(t, route.Session{}, 0, "")
	if status, _ := f.press(t, "ada", page, "send"); status != 200 || len(f.apps()) != 1 {
		t.Errorf("at last: got %d, the app got %q", status, f.apps())
	}
}

// Who discards a form has nothing to send.
func TestDiscardedFormIsGone(t *testing.T) {
	f := newFormBed(t)
	page := f.kept(t)
	if status, _ := f.press(t, "ada", page, "discard"); status != 200 || len(f.forms) != 0 {
		t.Errorf("got %d, %d forms are left", status, len(f.forms))
	}
	if status, _ := f.press(t, "ada", page, "send"); status != 404 || len(f.apps()) > 0 {
		t.Errorf("sent after that: got %d", status)
	}
}

// What was kept is read as it was written, whatever it is.
func FuzzKeptForm(f *testing.F) {
	f.Add("/a", "b=c", urlencoded, []byte("d=e\n"))
	f.Fuzz(func(t *testing.T, path, query, kind string, body []byte) {
		k := &keptForm{id: "x", head: keptHead{Subject: "corp|ada", Path: strings.ToValidUTF8(path, ""), Query: strings.ToValidUTF8(query, ""), Type: strings.ToValidUTF8(kind, "")}, body: body}
		text, ok := k.text()
		if !ok {
			return
		}
		got, err := readKept("x", text)
		if err != nil || got.head != k.head || string(got.body) != string(body) {
			t.Errorf("got %+v, %v; want %+v", got, err, k)
		}
	})
}
