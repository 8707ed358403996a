package cache

import (
	"strings"
	"testing"
	"time"
)

// TestWhoSharesAnEntry is the table of what ann's answer is to bob. The app says who asked, so that a shared answer is
// seen to be ann's.
func TestWhoSharesAnEntry(t *testing.T) {
	const anns, bobs = "made for ann", "made for bob"
	for _, c := range []struct {
		name   string
		rule   Rule
		answer string // Cache-Control
		fields []string
		ann    []string // ann's request
		bob    []string
		want   string
	}{
		{"CACHE-03 max-age only", Rule{Shared: true}, "max-age=60", nil, nil, nil, bobs},
		{"public", Rule{Shared: true}, "public, max-age=60", nil, nil, nil, anns},
		{"s-maxage", Rule{Shared: true}, "s-maxage=60", nil, nil, nil, anns},
		{"must-revalidate shares nothing", Rule{Shared: true}, "max-age=60, must-revalidate", nil, nil, nil, bobs},
		{"public where the operator did not vouch", Rule{}, "public, max-age=60", nil, nil, nil, bobs},
		{"CACHE-05 private", Rule{Shared: true}, "private, public, max-age=60", nil, nil, nil, bobs},
		{"CACHE-06 no-store", Rule{Shared: true}, "no-store, public, max-age=60", nil, nil, nil, bobs},
		{"CACHE-02 nothing said", Rule{Shared: true}, "", nil, nil, nil, bobs},
		{"CACHE-07 Set-Cookie", Rule{Shared: true}, "public, max-age=60", []string{"Set-Cookie: sid=ann"}, nil, nil, bobs},
		{"ann's request has a cookie", Rule{Shared: true}, "public, max-age=60", nil, []string{"Cookie: a=b"}, nil, bobs},
		{"bob's request has a cookie", Rule{Shared: true}, "public, max-age=60", nil, nil, []string{"Cookie: a=b"}, bobs},
		{"ann's request has Authorization", Rule{Shared: true}, "public, max-age=60", nil, []string{"Authorization: Basic YTpi"}, nil, bobs},
		{"Vary names who asks", Rule{Shared: true}, "public, max-age=60", []string{"Vary: X-Sallyport-User"}, nil, nil, bobs},
		{"Vary names who asks among others", Rule{Shared: true}, "public, max-age=60", []string{"Vary: Accept,x-sallyport-groups"}, nil, nil, bobs},
		{"Vary names something else", Rule{Shared: true}, "public, max-age=60", []string{"Vary: Accept"}, nil, nil, anns},
		{"targeted public", Rule{Shared: true}, "no-store", []string{"CDN-Cache-Control: public, max-age=60"}, nil, nil, anns},
		{"public, but not for us", Rule{Shared: true}, "public", []string{"CDN-Cache-Control: max-age=60"}, nil, nil, bobs},
		{"identity-free", Rule{IdentityFree: true}, "max-age=60", nil, nil, nil, anns},
		{"identity-free, private all the same", Rule{IdentityFree: true}, "private, max-age=60", nil, nil, nil, bobs},
		{"identity-free, but a cookie got through", Rule{IdentityFree: true}, "max-age=60", nil, []string{"Cookie: a=b"}, nil, bobs},
		{"identity-free, nothing said", Rule{IdentityFree: true}, "", nil, nil, nil, bobs},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, c.rule, Options{})
			fields := append([]string{}, c.fields...)
			if c.answer != "" {
				fields = append(fields, "Cache-Control: "+c.answer)
			}
			b.says(200, anns, fields...)
			if a := b.as("ann", "GET", c.ann...); a.body != anns {
				t.Fatalf("ann got %v", a)
			}
			b.says(200, bobs, fields...)
			if a := b.as("bob", "GET", c.bob...); a.body != c.want {
				t.Errorf("bob got %v, want %q", a, c.want)
			}
		})
	}
}

// CACHE-03: the person who fetched an answer that is not for sharing has it again.
func TestMaxAgeAloneIsForOnePerson(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60")
	b.get()
	if a := b.get(); a.result != Hit {
		t.Errorf("the same person again: %v", a)
	}
}

func TestNewGroupsAreAnotherPartition(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60")
	ask := func(told byte) answer {
		return b.send(&Viewer{App: "wiki", URL: testURL, Person: "ann", Told: [32]byte{told}, Rule: b.rule}, "GET")
	}
	ask(1)
	if a := ask(2); a.result != Miss {
		t.Errorf("the app was told something else about ann, and she got %v", a)
	}
	if a := ask(1); a.result != Hit {
		t.Errorf("as before: %v", a)
	}
}

// CACHE-16: the key holds host and scheme, and the app.
func TestKeyHoldsHostSchemeAndApp(t *testing.T) {
	b := newBed(t, Rule{IdentityFree: true}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60")
	b.get()
	for _, v := range []Viewer{
		{App: "wiki", URL: "https://other.corp.example/page?x=1"},
		{App: "wiki", URL: "http://wiki.corp.example/page?x=1"},
		{App: "wiki", URL: "https://wiki.corp.example/page?x=2"},
		{App: "chat", URL: testURL},
	} {
		v.Person, v.Rule = "ann", b.rule
		if a := b.send(&v, "GET"); a.result != Miss {
			t.Errorf("%s %s: %v", v.App, v.URL, a)
		}
	}
}

// A 304 that was said to bob alone does not change what ann and everyone else are told.
func TestOnePersonsConfirmationDoesNotChangeWhatAllShare(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	b.says(200, "body", "Cache-Control: public, max-age=10", `Etag: "v"`, "X-For: all")
	b.as("ann", "GET")
	b.wait(time.Minute)
	b.says(304, "", "Cache-Control: max-age=600", `Etag: "v"`, "X-For: bob")
	if a := b.as("bob", "GET"); a.result != Revalidated || a.Header.Get("X-For") != "bob" || a.body != "body" {
		t.Errorf("bob: %v", a)
	}
	b.says(304, "", "Cache-Control: public, max-age=600", `Etag: "v"`)
	if a := b.as("cid", "GET"); a.result != Revalidated || a.Header.Get("X-For") != "all" {
		t.Errorf("cid: %v", a)
	}
	if a := b.as("dan", "GET"); a.result != Hit || a.Header.Get("X-For") != "all" {
		t.Errorf("dan: %v", a)
	}
}

func TestQualifiedPrivateKeepsTheFieldToTheOneWhoAsked(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	b.says(200, "body", `Cache-Control: public, max-age=60, private="x-mine, X-Other"`, "X-Mine: ann", "X-Other: ann", "X-All: yes")
	if a := b.as("ann", "GET"); a.Header.Get("X-Mine") != "ann" {
		t.Errorf("ann: %v", a)
	}
	a := b.as("bob", "GET")
	if a.result != Hit || a.Header.Get("X-Mine") != "" || a.Header.Get("X-Other") != "" || a.Header.Get("X-All") != "yes" {
		t.Errorf("bob: %v", a)
	}
}

// RFC 9111 §3.5: an answer to a request with Authorization is used again only where the app says so.
func TestAuthorization(t *testing.T) {
	for answer, want := range map[string]Result{
		"max-age=60": Miss, "max-age=60, public": Hit, "max-age=60, must-revalidate": Hit, "s-maxage=60": Hit,
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "body", "Cache-Control: "+answer)
		b.get("Authorization: Basic YTpi")
		if a := b.get(); a.result != want {
			t.Errorf("%s: %s, want %s", answer, a.result, want)
		}
	}
}

func TestOperatorMayStoreCookies(t *testing.T) {
	b := newBed(t, Rule{StoreSetCookie: true}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60", "Set-Cookie: a=b", "Set-Cookie: c=d")
	b.get()
	if a := b.get(); a.result != Hit || strings.Join(a.Header["Set-Cookie"], ";") != "a=b;c=d" {
		t.Errorf("%v", a)
	}
}

func TestWithoutViewerThereIsNoCache(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60")
	b.get()
	r := b.request(&Viewer{URL: testURL}, "GET").WithContext(t.Context())
	res, err := b.leg.RoundTrip(r)
	if err != nil || res.Header["Cache-Status"] != nil || b.asked() != 2 {
		t.Errorf("%v, %v, asked %d", res, err, b.asked())
	}
	res.Body.Close()
}

func TestCallersCannotChangeEntries(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60", "X-A: 1", "X-A: 2")
	for range 3 {
		a := b.get()
		if strings.Join(a.Header["X-A"], ",") != "1,2" {
			t.Fatalf("%v", a)
		}
		a.Header["X-A"][0] = "spoilt"
		_ = append(a.Header["X-A"], "spoilt")
		a.Header.Set("X-B", "spoilt")
	}
	if b.asked() != 1 {
		t.Errorf("asked %d times", b.asked())
	}
}

// Strangers share a partition, but not what an app may have made for one whom it knows by a cookie.
func TestStrangersWithCookiesShareNothing(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "made for nobody", "Cache-Control: max-age=60")
	b.as("", "GET")
	b.says(200, "made for one", "Cache-Control: max-age=60")
	if a := b.as("", "GET"); a.body != "made for nobody" {
		t.Errorf("a stranger got %v", a)
	}
	for range 2 {
		if a := b.as("", "GET", "Cookie: sid=1"); a.body != "made for one" || a.result != Miss {
			t.Errorf("a stranger with a cookie got %v", a)
		}
	}
	if a := b.as("", "GET"); a.body != "made for nobody" {
		t.Errorf("another stranger got %v", a)
	}
}

// A 304 that does not say how the answer may be used confirms it to the one who asked, and to nobody else.
func TestSilentConfirmationIsForOnePerson(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	b.says(200, "body", "Cache-Control: public, max-age=10", `Etag: "v"`)
	b.as("ann", "GET")
	b.wait(time.Minute)
	b.says(304, "", "X-For: bob")
	for _, want := range []Result{Revalidated, Hit} {
		if a := b.as("bob", "GET"); a.result != want || a.Header.Get("X-For") != "bob" {
			t.Errorf("bob: %v, want a %s", a, want)
		}
	}
	b.says(304, "", "X-For: cid")
	if a := b.as("cid", "GET"); a.result != Revalidated || a.Header.Get("X-For") != "cid" {
		t.Errorf("cid: %v", a)
	}
}

// What was made for one person stays theirs, whatever the app says when it confirms it: others get an answer of their own.
func TestConfirmationSharesNothing(t *testing.T) {
	for _, said := range []string{"public, max-age=60", "s-maxage=60"} {
		b := newBed(t, Rule{Shared: true}, Options{})
		b.says(200, "for ann", "Cache-Control: max-age=10", `Etag: "v"`)
		b.as("ann", "GET")
		b.wait(time.Minute)
		b.says(304, "", "Cache-Control: "+said, `Etag: "v"`)
		for _, want := range []Result{Revalidated, Hit} {
			if a := b.as("ann", "GET"); a.result != want || a.body != "for ann" {
				t.Errorf("%s: ann: %v, want a %s", said, a, want)
			}
		}
		b.says(200, "for bob", "Cache-Control: max-age=10", `Etag: "v"`)
		if a := b.as("bob", "GET"); a.result != Miss || a.body != "for bob" {
			t.Errorf("%s: bob: %v, want a miss", said, a)
		}
	}
}
