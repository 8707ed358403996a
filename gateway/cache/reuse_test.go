package cache

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestVary is RFC 9111 §4.1: which requests an answer is for. Each case sends the requests in turn.
func TestVary(t *testing.T) {
	for _, c := range []struct {
		name, vary    string
		first, second []string
		reused        bool
	}{
		{"the same", "Foo", []string{"Foo: 1"}, []string{"Foo: 1"}, true},
		{"another", "Foo", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{"missing later", "Foo", []string{"Foo: 1"}, nil, false},
		{"missing first", "Foo", nil, []string{"Foo: 1"}, false},
		{"missing is not empty", "Foo", nil, []string{"Foo: "}, false},
		{"both missing", "Foo, Bar", nil, nil, true},
		{"one of two differs", "Foo, Bar", []string{"Foo: 1", "Bar: 1"}, []string{"Foo: 1", "Bar: 2"}, false},
		{"names without regard to case", "fOO", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{"spaces around commas", "Foo", []string{"Foo: 1,2"}, []string{"Foo:  1 ,  2 "}, true},
		{"several lines", "Foo", []string{"Foo: 1, 2"}, []string{"Foo: 1", "Foo: 2"}, true},
		{"spaces in quotes", "Foo", []string{`Foo: "1,2"`}, []string{`Foo: "1, 2"`}, false},
		{"order", "Foo", []string{"Foo: 1, 2"}, []string{"Foo: 2, 1"}, false},
		{"case", "Foo", []string{"Foo: a"}, []string{"Foo: A"}, false},
		{"languages: case", "Accept-Language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: EN, De"}, true},
		{"languages: order", "Accept-Language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: de, en"}, true},
		{"languages: weights", "Accept-Language", []string{"Accept-Language: en, de;q=0.5"}, []string{"Accept-Language: de ;q=0.5,en;q=1.0"}, true},
		{"languages: other weights", "Accept-Language", []string{"Accept-Language: en, de;q=0.5"}, []string{"Accept-Language: en;q=0.5, de"}, false},
		{"values cannot run together", "Bar, Foo", []string{"Bar: 1", "Foo: 2"}, []string{"Bar: 12"}, false},
		{"long values", "Foo", []string{"Foo: " + strings.Repeat("x", 9999) + "1"}, []string{"Foo: " + strings.Repeat("x", 9999) + "2"}, false},
		{"long values that agree", "Foo", []string{"Foo: " + strings.Repeat("x", 9999)}, []string{"Foo: " + strings.Repeat("x", 9999)}, true},
		{"star", "*", nil, nil, false},
		{"star among others", "Foo, *", nil, nil, false},
		{"star after nothing", ", *", nil, nil, false},
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "body", "Cache-Control: max-age=60", "Vary: "+c.vary)
		b.get(c.first...)
		if a := b.get(c.second...); (a.result == Hit) != c.reused {
			t.Errorf("%s: reused %v, want %v", c.name, !c.reused, c.reused)
		}
	}
}

func TestSeveralVariantsOfOneURL(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.does(func(r *http.Request) (*http.Response, error) {
		return b.response(r, 200, r.Header.Get("Foo"), "Cache-Control: max-age=60", "Vary: Foo"), nil
	})
	for range 2 {
		for _, foo := range []string{"1", "2", "3"} {
			if a := b.get("Foo: " + foo); a.body != foo {
				t.Errorf("Foo: %s got %v", foo, a)
			}
		}
	}
	if b.asked() != 3 {
		t.Errorf("asked %d times", b.asked())
	}
	if a := b.get("Foo: 4"); !strings.Contains(a.Header.Get("Cache-Status"), "fwd=vary-miss") {
		t.Errorf("%v", a)
	}
}

// TestRequestDirectives is RFC 9111 §5.2.1 for an entry that is 60 s old and good for 600 s, or for 30 s.
func TestRequestDirectives(t *testing.T) {
	for _, c := range []struct {
		answer, request string
		want            Result
	}{
		{"max-age=600", "Foo: bar", Hit},
		{"max-age=600", "Cache-Control: max-age=0", Miss},
		{"max-age=600", "Cache-Control: max-age=59", Miss},
		{"max-age=600", "Cache-Control: max-age=60", Hit},
		{"max-age=600", "Cache-Control: min-fresh=540", Hit},
		{"max-age=600", "Cache-Control: min-fresh=541", Miss},
		{"max-age=600", "Cache-Control: no-cache", Miss},
		{"max-age=600", "Cache-Control: no-store", Bypass},
		{"max-age=600", "Pragma: no-cache", Miss},
		{"max-age=600", "Pragma: foo", Hit},
		{"max-age=600", "Cache-Control: only-if-cached", Hit},
		{"max-age=600", "Cache-Control: max-stale", Hit},
		{"max-age=30", "Foo: bar", Miss},
		{"max-age=30", "Cache-Control: max-stale", Stale},
		{"max-age=30", "Cache-Control: max-stale=30", Stale},
		{"max-age=30", "Cache-Control: max-stale=29", Miss},
		{"max-age=30, must-revalidate", "Cache-Control: max-stale", Miss},
		{"max-age=30, proxy-revalidate", "Cache-Control: max-stale", Miss},
		{"s-maxage=30", "Cache-Control: max-stale", Miss},
		{"max-age=30, no-cache", "Cache-Control: max-stale", Miss},
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "body", "Cache-Control: "+c.answer)
		b.get()
		b.wait(time.Minute)
		if a := b.get(c.request); a.result != c.want {
			t.Errorf("%s, then %s: %s, want %s", c.answer, c.request, a.result, c.want)
		}
	}
}

func TestOnlyIfCachedIs504WhenNothingIs(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	if a := b.get("Cache-Control: only-if-cached"); a.StatusCode != 504 || b.asked() != 0 {
		t.Errorf("%v, asked %d", a, b.asked())
	}
}

// TestClientConditions is RFC 9111 §4.3.2 for a fresh entry.
func TestClientConditions(t *testing.T) {
	const changed = "Fri, 01 May 2026 10:00:00 GMT"
	for _, c := range []struct {
		etag, request string
		status        int
	}{
		{`"abc"`, `If-None-Match: "abc"`, 304},
		{`"abc"`, `If-None-Match: W/"abc"`, 304},
		{`W/"abc"`, `If-None-Match: "abc"`, 304},
		{`"abc"`, `If-None-Match: "x,", "abc", "y"`, 304},
		{`"abc"`, `If-None-Match: *`, 304},
		{`"abc"`, `If-None-Match: "abd"`, 200},
		{`"abc"`, `If-None-Match: abc`, 200},
		{`"abc"`, `If-None-Match: w/"abc"`, 200},
		{`"abc"`, "If-Modified-Since: " + changed, 304},
		{`"abc"`, "If-Modified-Since: Fri, 01 May 2026 10:00:01 GMT", 304},
		{`"abc"`, "If-Modified-Since: Fri, 01 May 2026 09:59:59 GMT", 200},
		{`"abc"`, "If-Modified-Since: Friday, 01-May-26 10:00:00 GMT", 304},
		{`"abc"`, "If-Modified-Since: yesterday", 200},
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "body", "Cache-Control: max-age=60", "Etag: "+c.etag, "Last-Modified: "+changed, "Content-Type: text/plain")
		b.get()
		a := b.get(c.request)
		if a.StatusCode != c.status || a.result != Hit || a.Header.Get("Etag") != c.etag {
			t.Errorf("%s of %s: %v, want %d", c.request, c.etag, a, c.status)
		}
		if c.status == 304 && (a.body != "" || a.Header["Content-Length"] != nil || a.Header["Content-Type"] != nil) {
			t.Errorf("%s: a 304 with content: %v", c.request, a)
		}
	}
}

func TestIfNoneMatchDecidesAlone(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60", `Etag: "a"`, "Last-Modified: Fri, 01 May 2026 10:00:00 GMT")
	b.get()
	if a := b.get(`If-None-Match: "b"`, "If-Modified-Since: Fri, 01 May 2026 11:00:00 GMT"); a.StatusCode != 200 {
		t.Errorf("%v", a)
	}
}

func TestClientConditionsReachTheAppWhenNothingIsStored(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(304, "", `Etag: "a"`)
	if a := b.get(`If-None-Match: "a"`); a.StatusCode != 304 || b.lastSeen().Header.Get("If-None-Match") != `"a"` {
		t.Errorf("%v; the app saw %v", a, b.lastSeen().Header)
	}
	b.says(200, "body", "Cache-Control: max-age=60", `Etag: "a"`)
	if a := b.get(`If-Match: "a"`); a.result != Bypass || b.lastSeen().Header.Get("If-Match") != `"a"` {
		t.Errorf("%v", a)
	}
}

// TestConfirmation is RFC 9111 §4.3: a stale entry is asked about, and what comes back is merged.
func TestConfirmation(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=10", `Etag: W/"a"`, "Last-Modified: Fri, 01 May 2026 10:00:00 GMT", "X-Old: kept", "X-New: old", "Age: 3")
	b.get()
	b.wait(time.Minute)
	b.says(304, "", "Cache-Control: max-age=60", "X-New: new", "Content-Length: 99", "Content-Encoding: br", "Connection: X-Hop", "X-Hop: 1", "Set-Cookie: a=b")
	a := b.get(`If-None-Match: "client's"`, "Range: bytes=0-1")
	if a.result != Revalidated || a.StatusCode != 206 || a.body != "bo" || a.Header.Get("Set-Cookie") != "a=b" {
		t.Errorf("the client got %v", a)
	}
	sent := b.lastSeen().Header
	if sent.Get("If-None-Match") != `W/"a"` || sent.Get("If-Modified-Since") == "" || sent.Get("Range") != "" {
		t.Errorf("the app was asked %v", sent)
	}
	b.wait(30 * time.Second)
	a = b.get()
	h := a.Header
	if a.result != Hit || a.body != "body" || h.Get("X-Old") != "kept" || h.Get("X-New") != "new" || h.Get("Content-Length") != "4" ||
		h.Get("Content-Encoding") != "" || h.Get("X-Hop") != "" || h.Get("Set-Cookie") != "" || h.Get("Age") != "30" {
		t.Errorf("the entry is now %v", a)
	}
}

func TestClientConditionIsJudgedByWhatComesBack(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "one", "Cache-Control: max-age=10", `Etag: "1"`)
	b.get()
	b.wait(time.Minute)
	b.says(200, "two", "Cache-Control: max-age=10", `Etag: "2"`)
	if a := b.get(`If-None-Match: "2"`); a.StatusCode != 304 || a.Header.Get("Etag") != `"2"` {
		t.Errorf("%v", a)
	}
	eventually(t, "the new answer is stored", func() bool { return b.get().body == "two" })
	if b.asked() != 2 {
		t.Errorf("asked %d times", b.asked())
	}
}

func TestA304AboutSomethingElseIsNotUsed(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "one", "Cache-Control: max-age=10", `Etag: "1"`)
	b.get()
	b.wait(time.Minute)
	b.does(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") != "" {
			return b.response(r, 304, "", `Etag: "2"`), nil
		}
		return b.response(r, 200, "two", "Cache-Control: max-age=10", `Etag: "2"`), nil
	})
	if a := b.get(); a.body != "two" || b.asked() != 3 {
		t.Errorf("%v, asked %d", a, b.asked())
	}
}

func TestNoCacheIsStoredAndAskedAbout(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: no-cache", `Etag: "a"`)
	b.get()
	b.says(304, "", "Cache-Control: no-cache", `Etag: "a"`)
	for range 2 {
		if a := b.get(); a.result != Revalidated || a.body != "body" {
			t.Errorf("%v", a)
		}
	}
}

func TestQualifiedNoCacheLeavesTheFieldOut(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", `Cache-Control: max-age=60, no-cache="X-A"`, "X-A: 1", "X-B: 2")
	if a := b.get(); a.Header.Get("X-A") != "1" {
		t.Errorf("%v", a)
	}
	if a := b.get(); a.result != Hit || a.Header.Get("X-A") != "" || a.Header.Get("X-B") != "2" {
		t.Errorf("%v", a)
	}
}

// TestHopByHopFieldsAreNotStored is RFC 9111 §3.1.
func TestHopByHopFieldsAreNotStored(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	hop := []string{"Keep-Alive: 1", "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: a", "Proxy-Authorization: b",
		"Proxy-Connection: close", "Te: trailers", "Transfer-Encoding: chunked", "Upgrade: h2c", "X-Named: 1", "Connection: x-named, close"}
	b.says(200, "body", append(hop, "Cache-Control: max-age=60", "X-Kept: 1")...)
	b.get()
	a := b.get()
	for _, f := range hop {
		name, _, _ := strings.Cut(f, ":")
		if a.Header[name] != nil {
			t.Errorf("%s was stored", name)
		}
	}
	if a.result != Hit || a.Header.Get("X-Kept") != "1" {
		t.Errorf("%v", a)
	}
}

// TestRanges is RFC 9110 §14 over a stored whole of ten bytes.
func TestRanges(t *testing.T) {
	for _, c := range []struct {
		request, body, contentRange string
		status                      int
	}{
		{"bytes=0-0", "0", "bytes 0-0/10", 206},
		{"bytes=2-", "23456789", "bytes 2-9/10", 206},
		{"bytes=-1", "9", "bytes 9-9/10", 206},
		{"bytes=-99", "0123456789", "bytes 0-9/10", 206},
		{"bytes=8-99", "89", "bytes 8-9/10", 206},
		{"Bytes=1-2", "12", "bytes 1-2/10", 206},
		{"bytes=10-", "", "bytes */10", 416},
		{"bytes=-0", "", "bytes */10", 416},
		{"bytes=2-1", "0123456789", "", 200},
		{"bytes=a-b", "0123456789", "", 200},
		{"lines=1-2", "0123456789", "", 200},
		{"bytes=99999999999999999999-", "", "bytes */10", 416},
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "0123456789", "Cache-Control: max-age=60")
		b.get()
		a := b.get("Range: " + c.request)
		if a.StatusCode != c.status || a.body != c.body || a.Header.Get("Content-Range") != c.contentRange || a.result != Hit || a.ContentLength != int64(len(c.body)) {
			t.Errorf("%s: %v", c.request, a)
		}
	}
}

func TestIfRangeWantsTheVerySame(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "0123456789", "Cache-Control: max-age=60", `Etag: "a"`, "Last-Modified: Fri, 01 May 2026 10:00:00 GMT")
	b.get()
	for condition, want := range map[string]int{
		`"a"`: 206, `"b"`: 200, `W/"a"`: 200, "Fri, 01 May 2026 10:00:00 GMT": 206, "Fri, 01 May 2026 10:00:01 GMT": 200, "x": 200,
	} {
		if a := b.get("Range: bytes=0-1", "If-Range: "+condition); a.StatusCode != want {
			t.Errorf("%s: %v", condition, a)
		}
	}
}

// CACHE-12: a part is never taken for the whole.
func TestPartsAreNotStoredAsWholes(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.does(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Range") != "" {
			return b.response(r, 206, "0", "Cache-Control: max-age=60", "Content-Range: bytes 0-0/10"), nil
		}
		return b.response(r, 200, "0123456789", "Cache-Control: max-age=60"), nil
	})
	if a := b.get("Range: bytes=0-0"); a.StatusCode != 206 {
		t.Errorf("%v", a)
	}
	if a := b.get(); a.StatusCode != 200 || a.body != "0123456789" {
		t.Errorf("%v", a)
	}
	if a := b.get("Range: bytes=0-1, 3-4"); a.result != Bypass {
		t.Errorf("several ranges: %v", a)
	}
}

// CACHE-17: HEAD and GET with one key.
func TestHeadIsAnsweredFromGet(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60")
	b.as("ann", "HEAD")
	if a := b.get(); a.body != "body" || a.result != Miss {
		t.Errorf("GET after HEAD: %v", a)
	}
	a := b.as("ann", "HEAD")
	if a.result != Hit || a.body != "" || a.ContentLength != 4 || a.Header.Get("Content-Length") != "4" {
		t.Errorf("HEAD after GET: %v", a)
	}
}

// TestHeadConfirmsOrSpoilsGet is RFC 9111 §4.3.5.
func TestHeadConfirmsOrSpoilsGet(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string // as long as the answer to GET would be
		fields []string
		want   Result
	}{
		{"the same", 200, "body", []string{`Etag: "a"`}, Hit},
		{"no validators", 200, "body", nil, Hit},
		{"another entity tag", 200, "body", []string{`Etag: "b"`}, Miss},
		{"another length", 200, "longer", []string{`Etag: "a"`}, Miss},
		{"gone", 410, "", nil, Miss},
		{"an error", 500, "", nil, Miss}, // the entry stays as stale as it was
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "body", "Cache-Control: max-age=10", `Etag: "a"`)
		b.get()
		b.wait(time.Minute)
		b.says(c.status, c.body, append(c.fields, "Cache-Control: max-age=60", "X-Updated: yes")...)
		b.as("ann", "HEAD")
		b.says(200, "body", "Cache-Control: max-age=10")
		a := b.get()
		if a.result != c.want || a.body != "body" || a.result == Hit && a.Header.Get("X-Updated") != "yes" {
			t.Errorf("%s: %v, want %s", c.name, a, c.want)
		}
	}
}

// TestInvalidation is RFC 9111 §4.4.
func TestInvalidation(t *testing.T) {
	for _, c := range []struct {
		name, method string
		status       int
		fields       []string
		url          string
		want         Result
	}{
		{"POST", "POST", 200, nil, testURL, Miss},
		{"PUT", "PUT", 204, nil, testURL, Miss},
		{"DELETE", "DELETE", 200, nil, testURL, Miss},
		{"an unknown method", "M-SEARCH", 200, nil, testURL, Miss},
		{"a redirect after a change", "POST", 303, []string{"Location: /other"}, testURL, Miss},
		{"a change that was refused", "POST", 403, nil, testURL, Hit},
		{"a change that failed", "POST", 500, nil, testURL, Hit},
		{"a safe method", "OPTIONS", 200, nil, testURL, Hit},
		{"Location", "POST", 201, []string{"Location: /page?x=1"}, "https://wiki.corp.example/form", Miss},
		{"Content-Location", "POST", 201, []string{"Content-Location: https://wiki.corp.example/page?x=1"}, "https://wiki.corp.example/form", Miss},
		{"another host's Location", "POST", 201, []string{"Location: " + testURL}, "https://chat.corp.example/form", Hit},
		{"another scheme's", "POST", 201, []string{"Location: " + testURL}, "http://wiki.corp.example/form", Hit},
		{"another URL", "POST", 200, nil, "https://wiki.corp.example/page?x=2", Hit},
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "body", "Cache-Control: max-age=60")
		b.as("ann", "GET")
		b.says(c.status, "", c.fields...)
		b.send(&Viewer{App: "wiki", URL: c.url, Person: "bob", Rule: b.rule}, c.method) // for all, not for bob alone
		b.says(200, "body", "Cache-Control: max-age=60")
		if a := b.as("ann", "GET"); a.result != c.want {
			t.Errorf("%s: %s, want %s", c.name, a.result, c.want)
		}
	}
}

// TestStaleAnswersInPlaceOfErrors is RFC 5861 §4, and RFC 9111 §4.2.4 where nothing was said.
func TestStaleAnswersInPlaceOfErrors(t *testing.T) {
	for _, c := range []struct {
		answer, request string
		want            Result
	}{
		{"max-age=10, stale-if-error=60", "", Stale},
		{"max-age=10, stale-if-error=50", "", Miss},
		{"max-age=10", "", Miss},
		{"max-age=10", "Cache-Control: stale-if-error=60", Stale},
		{"max-age=10, stale-if-error=60", "Cache-Control: no-cache", Miss},
		{"max-age=10, stale-if-error=60, must-revalidate", "", Miss},
		{"max-age=10, stale-if-error=60, proxy-revalidate", "", Miss},
		{"s-maxage=10, stale-if-error=60", "", Miss},
	} {
		for _, down := range []bool{true, false} {
			b := newBed(t, Rule{}, Options{})
			b.says(200, "body", "Cache-Control: "+c.answer)
			b.get()
			b.wait(time.Minute)
			if down {
				b.goesDown()
			} else {
				b.says(503, "sorry")
			}
			a := b.get(strings.Split(c.request, "\n")...)
			if a.result != c.want || (a.body == "body") != (c.want == Stale) {
				t.Errorf("%s, %s, down %v: %v, want %s", c.answer, c.request, down, a, c.want)
			}
		}
	}
}

// TestStaleWhileRevalidate is RFC 5861 §3.
func TestStaleWhileRevalidate(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "one", "Cache-Control: max-age=10, stale-while-revalidate=60")
	b.get()
	b.wait(time.Minute)
	b.says(200, "two", "Cache-Control: max-age=10, stale-while-revalidate=60")
	if a := b.get(`If-None-Match: "x"`, "Range: bytes=0-1"); a.result != Stale || a.body != "on" {
		t.Errorf("%v", a)
	}
	eventually(t, "the refreshed answer is used", func() bool { a := b.get(); return a.body == "two" && a.result == Hit })
	if h := b.lastSeen().Header; b.asked() != 2 || h["If-None-Match"] != nil || h["Range"] != nil {
		t.Errorf("asked %d times, last with %v", b.asked(), h)
	}
	b.wait(2 * time.Minute)
	if a := b.get(); a.result != Miss {
		t.Errorf("beyond the window: %v", a)
	}
}

func TestSharedLifetimeForbidsStaleness(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "one", "Cache-Control: s-maxage=10, stale-while-revalidate=60") // RFC 9111 §5.2.2.10
	b.get()
	b.wait(11 * time.Second)
	if a := b.get(); a.result != Miss {
		t.Errorf("%v", a)
	}
}

func TestAgeCountsTheWaitForTheAnswer(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.does(func(r *http.Request) (*http.Response, error) {
		b.wait(5 * time.Second)
		return b.response(r, 200, "body", "Cache-Control: max-age=60", "Age: 10"), nil
	})
	if a := b.get(); a.Header.Get("Age") != "10" {
		t.Errorf("the app's own: %v", a)
	}
	b.wait(20 * time.Second)
	if a := b.get(); a.Header.Get("Age") != "35" { // RFC 9111 §4.2.3
		t.Errorf("%v", a)
	}
}

func TestNewerAnswerThatIsNotStoredRemovesTheOlder(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "one", "Cache-Control: max-age=600")
	b.get()
	b.says(200, "two", "Cache-Control: no-store")
	b.get("Cache-Control: no-cache")
	if a := b.get(); a.body != "two" {
		t.Errorf("%v", a)
	}
}

func TestCacheStatus(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60", `Etag: "a"`, "Cache-Status: inner; hit")
	for _, want := range []string{"inner; hit, sallyport; fwd=uri-miss; stored", "sallyport; hit; ttl=60"} {
		if a := b.get(); strings.Join(a.Header["Cache-Status"], ", ") != want {
			t.Errorf("%v, want %s", a.Header["Cache-Status"], want)
		}
	}
	b.wait(2 * time.Minute)
	b.says(304, "")
	if a, want := b.get(), "sallyport; fwd=stale; fwd-status=304; ttl=60; stored"; a.Header.Get("Cache-Status") != want {
		t.Errorf("%v, want %s", a.Header["Cache-Status"], want)
	}
	if a, want := b.get("Cache-Control: no-cache"), "sallyport; fwd=request; fwd-status=304; ttl=60; stored"; a.Header.Get("Cache-Status") != want {
		t.Errorf("%v, want %s", a.Header["Cache-Status"], want)
	}
	if a, want := b.as("ann", "POST"), "sallyport; fwd=method"; a.Header.Get("Cache-Status") != want {
		t.Errorf("%v, want %s", a.Header["Cache-Status"], want)
	}
}

func TestTrailersAreStored(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.does(func(r *http.Request) (*http.Response, error) {
		res := b.response(r, 200, "body", "Cache-Control: max-age=60")
		res.ContentLength = -1
		delete(res.Header, "Content-Length")
		res.Trailer = http.Header{"X-Sum": nil}
		res.Body = io.NopCloser(io.MultiReader(res.Body, atEnd(func() { res.Trailer.Set("X-Sum", "42") })))
		return res, nil
	})
	for _, want := range []Result{Miss, Hit} {
		if a := b.get(); a.result != want || a.Trailer.Get("X-Sum") != "42" || a.ContentLength != -1 || a.body != "body" {
			t.Errorf("%v with trailer %v, want a %s", a, a.Trailer, want)
		}
	}
}

type atEnd func()

func (f atEnd) Read([]byte) (int, error) { f(); return 0, io.EOF }

func TestIncompleteAnswersAreNotStored(t *testing.T) {
	for name, spoil := range map[string]func(*http.Response){
		"shorter than it said":  func(res *http.Response) { res.ContentLength = 99 },
		"an error at the end":   func(res *http.Response) { res.Body = broken{res.Body}; res.ContentLength = -1 },
		"an error, full length": func(res *http.Response) { res.Body = broken{res.Body} },
	} {
		b := newBed(t, Rule{}, Options{})
		b.does(func(r *http.Request) (*http.Response, error) {
			res := b.response(r, 200, "body", "Cache-Control: max-age=60")
			spoil(res)
			return res, nil
		})
		if a := b.get(); a.body != "body" || a.err == nil {
			t.Errorf("%s: %v, error %v", name, a, a.err)
		}
		if a := b.get(); a.result != Miss {
			t.Errorf("%s: %v", name, a)
		}
	}
}

type broken struct{ io.ReadCloser }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestBypasses(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60")
	b.get()
	if a := b.get("Upgrade: websocket"); a.result != Bypass {
		t.Errorf("upgrade: %v", a)
	}
	r := b.request(&Viewer{App: "wiki", URL: testURL, Person: "ann", Rule: b.rule}, "GET")
	r.Body = io.NopCloser(strings.NewReader("x"))
	res, err := b.leg.RoundTrip(r)
	if err != nil || b.asked() != 3 {
		t.Errorf("a GET with a body: %v, %v", res, err)
	}
	res.Body.Close()
	v := &Viewer{App: "wiki", URL: testURL, Person: "ann"}
	if a := b.send(v, "GET"); a.result != Bypass {
		t.Errorf("not enabled: %v", a)
	}
}
