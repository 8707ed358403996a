package cache

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzDirectives: whatever else a Cache-Control field holds, what is plainly said in an element of its own counts, and
// numbers stay within bounds.
func FuzzDirectives(f *testing.F) {
	for _, s := range []string{"max-age=60", `private="a, b", no-cache`, `foo="bar\"", max-age="1"`, "max-age =1", "a=b=c, public;", `"`, "no-store, ,", "max-age=99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := parseDirectives([]string{s})
		for _, n := range []seconds{d.maxAge, d.sMaxAge, d.minFresh, d.maxStale, d.staleWhileRevalidate, d.staleIfError} {
			if n < absent || n > forever {
				t.Errorf("%q: %d seconds", s, n)
			}
		}
		for _, before := range []string{s + ",", ""} {
			strict := parseDirectives([]string{before + "no-store", "private"})
			if !strict.private || !strict.noStore && !strict.malformed {
				t.Errorf("%q hides what follows it: %+v", s, strict)
			}
		}
		if longer := parseDirectives([]string{"max-age=0", s}); longer.maxAge != 0 {
			t.Errorf("%q makes max-age=0 longer: %d", s, longer.maxAge)
		}
		if d.malformed {
			return
		}
		// What is well-formed means the same on one line as on several.
		again := parseDirectives([]string{s, "", s})
		if again.maxAge != d.maxAge || again.noStore != d.noStore || again.private != d.private || again.public != d.public {
			t.Errorf("%q twice: %+v, once: %+v", s, again, d)
		}
	})
}

// FuzzTargeted: a dictionary that is valid stays so with another member, whose last value counts; one that is not, is
// ignored however it goes on.
func FuzzTargeted(f *testing.F) {
	for _, s := range []string{"max-age=60", "max-age=60;foo=bar, no-store", `private="a"`, "a=(1 2);b, c=?0", "max-age =1", "a=:YQ==:, b=@1", "a,", `a=%"x"`, "x=1.5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseTargeted([]string{s})
		if !ok {
			if strings.Trim(s, " \t") == "" {
				return
			}
			if more, ok := parseTargeted([]string{s, "public"}); ok && strings.TrimRight(s, " \t,") == s && strings.Trim(s, " ") != "" {
				// Only what ended within a string can be mended by more.
				if !strings.ContainsAny(s, `"(:`) {
					t.Errorf("%q is invalid and mended by another member: %+v", s, more)
				}
			}
			return
		}
		if d.maxAge < absent || d.maxAge > forever {
			t.Errorf("%q: max-age %d", s, d.maxAge)
		}
		more, ok := parseTargeted([]string{s, "no-store, max-age=7"})
		if !ok || !more.noStore || more.maxAge != 7 {
			t.Errorf("%q and no-store, max-age=7: %v, %+v", s, ok, more)
		}
	})
}

// FuzzVary: a request selects its own variant; a name more never merges what was apart.
func FuzzVary(f *testing.F) {
	f.Add("Foo, Bar", "1, 2", "1,2")
	f.Add("Accept-Language", "en, de;q=0.5", "de")
	f.Add("foo", `"a, b`, `\`)
	f.Add("*", "", "\t")
	f.Fuzz(func(t *testing.T, vary, a, b string) {
		names, any := varyOf(http.Header{"Vary": {vary}})
		if any {
			return
		}
		e := NewEntry(Answer{Status: 200, Header: http.Header{"Vary": {vary}}, Body: Bytes(nil), Request: all(names, a), Received: time.Now()})
		if !e.matches(all(names, a)) {
			t.Errorf("%q: %q does not select what was made for it", vary, a)
		}
		if len(names) == 0 || strings.ContainsAny(a+b, ", \t\n\"\\") || strings.EqualFold(strings.ReplaceAll(a, ";q=1", ""), strings.ReplaceAll(b, ";q=1", "")) {
			return
		}
		if slices.ContainsFunc(names, isPreference) {
			return
		}
		if e.matches(all(names, b)) {
			t.Errorf("%q: %q selects what was made for %q", vary, b, a)
		}
	})
}

func all(names []string, value string) http.Header {
	h := http.Header{}
	for _, name := range names {
		h[name] = []string{value}
	}
	return h
}

// FuzzRange: a part lies within the whole.
func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1", int64(10))
	f.Add("bytes=-5", int64(3))
	f.Add("bytes=99999999999999999999-", int64(1))
	f.Add("bytes = 1-", int64(0))
	f.Fuzz(func(t *testing.T, field string, size int64) {
		if size < 0 {
			return
		}
		part, verdict := parseRange(field, size)
		if verdict == rangeSatisfiable && (part.from < 0 || part.n <= 0 || part.from+part.n > size) {
			t.Errorf("%q of %d: %+v", field, size, part)
		}
	})
}

// FuzzTags: the list of entity tags is read to its end, and a tag that is in it is found.
func FuzzTags(f *testing.F) {
	f.Add(`"a", W/"b"`, "c")
	f.Add(`W/"`, "x,y")
	f.Fuzz(func(t *testing.T, list, tag string) {
		if strings.ContainsAny(tag, `"`) {
			return
		}
		etag := `"` + tag + `"`
		if !matchesAny([]string{list, etag}, etag) || !matchesAny([]string{"W/" + etag}, etag) {
			t.Errorf("%s is not found after %q", etag, list)
		}
	})
}

// FuzzDate: what is read as a date is written like one.
func FuzzDate(f *testing.F) {
	for _, s := range []string{"Thu, 18 Aug 2050 02:01:18 GMT", "thursday, 18-aug-50 02:01:18 gmt", "Thu Aug 18 02:01:18 2050", "0", " GMT"} {
		f.Add(s)
	}
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := parseDate(s, now)
		if !ok {
			return
		}
		if again, ok := parseDate(formatDate(at), now); at.Year() > 0 && (!ok || !again.Equal(at)) {
			t.Errorf("%q is %v and then %v", s, at, again)
		}
	})
}
