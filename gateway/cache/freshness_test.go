package cache

import (
	"testing"
	"time"
)

// TestFreshness is RFC 9111 §4.2: whether an answer is used again, so many seconds after it was received. Dates that
// start with + or - are seconds from when it is sent.
func TestFreshness(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		name   string
		status int
		fields []string
		after  time.Duration
		reused bool
	}{
		{"§4.2.1 max-age", 200, []string{"Cache-Control: max-age=3600"}, hour - 1, true},
		{"§4.2 stale at the end of max-age", 200, []string{"Cache-Control: max-age=3600"}, hour, false},
		{"§4.2.1 max-age=0", 200, []string{"Cache-Control: max-age=0"}, 0, false},
		{"§1.2.2 more than 31 bits", 200, []string{"Cache-Control: max-age=99999999999999999999"}, hour, true},
		{"§4.2.1 s-maxage before max-age", 200, []string{"Cache-Control: max-age=1, s-maxage=3600"}, hour - 1, true},
		{"§4.2.1 a shorter s-maxage too", 200, []string{"Cache-Control: s-maxage=1, max-age=3600"}, 2 * time.Second, false},
		{"§5.3 max-age before Expires", 200, []string{"Cache-Control: max-age=3600", "Expires: -3600"}, 1, true},
		{"§5.3 max-age=0 before Expires", 200, []string{"Cache-Control: max-age=0", "Expires: +3600"}, 1, false},
		{"§5.3 Expires", 200, []string{"Expires: +3600"}, hour - 1, true},
		{"§5.3 Expires now", 200, []string{"Expires: +0"}, 0, false},
		{"§5.3 Expires 0", 200, []string{"Expires: 0"}, 0, false},
		{"§4.2 a zone other than GMT", 200, []string{"Expires: Thu, 18 Aug 2050 02:01:18 AEST"}, 0, false},
		{"§4.2 UTC is not GMT either", 200, []string{"Expires: Thu, 18 Aug 2050 02:01:18 UTC"}, 0, false},
		{"§4.2 dates without regard to case", 200, []string{"Expires: thu, 18 AUG 2050 02:01:18 gmt"}, hour, true},
		{"RFC 9110 §5.6.7 RFC 850", 200, []string{"Expires: Thursday, 18-Aug-50 02:01:18 GMT"}, hour, true},
		{"RFC 9110 §5.6.7 asctime", 200, []string{"Expires: Thu Aug 18 02:01:18 2050"}, hour, true},
		{"one digit for the hour", 200, []string{"Expires: Thu, 18 Aug 2050 2:01:18 GMT"}, 0, false},
		{"two digits for the year", 200, []string{"Expires: Thu, 18 Aug 50 02:01:18 GMT"}, 0, false},
		{"dashes", 200, []string{"Expires: Thu, 18-Aug-2050 02:01:18 GMT"}, 0, false},
		{"no comma", 200, []string{"Expires: Thu 18 Aug 2050 02:01:18 GMT"}, 0, false},
		{"more spaces", 200, []string{"Expires: Thu, 18  Aug  2050 02:01:18 GMT"}, 0, false},
		{"full stops", 200, []string{"Expires: Thu, 18 Aug 2050 02.01.18 GMT"}, 0, false},
		{"§4.2.1 two Expires", 200, []string{"Expires: +3600", "Expires: +3600"}, 0, false},
		{"§4.2.3 Expires is relative to Date", 200, []string{"Date: +7200", "Expires: +3600"}, 0, false},
		{"§4.2.3 Age", 200, []string{"Cache-Control: max-age=3600", "Age: 3600"}, 0, false},
		{"§4.2.3 Age leaves something", 200, []string{"Cache-Control: max-age=3600", "Age: 1800"}, hour/2 - 1, true},
		{"§4.2.3 apparent age", 200, []string{"Cache-Control: max-age=3600", "Date: -7200"}, 0, false},
		{"§4.2.3 a clock that is fast", 200, []string{"Cache-Control: max-age=3600", "Date: +7200"}, hour - 1, true},
		{"RFC 9110 §6.6.1 no Date", 200, []string{"Cache-Control: max-age=3600", "Date: none"}, hour - 1, true},
		{"§5.1 Age is no number", 200, []string{"Cache-Control: max-age=3600", "Age: abc"}, 1, true},
		{"§5.1 negative Age", 200, []string{"Cache-Control: max-age=3600", "Age: -7200"}, 1, true},
		{"§5.1 Age with a fraction", 200, []string{"Cache-Control: max-age=3600", "Age: 7200.0"}, 1, true},
		{"§5.1 the first of two Ages", 200, []string{"Cache-Control: max-age=3600", "Age: 7200, 0"}, 1, false},
		{"§5.1 the first of two lines", 200, []string{"Cache-Control: max-age=3600", "Age: 0", "Age: 7200"}, 1, true},
		{"§5.1 a huge Age", 200, []string{"Cache-Control: max-age=3600", "Age: 99999999999"}, 1, false},
		{"§4.2.1 two max-ages that differ", 200, []string{"Cache-Control: max-age=3600, max-age=1800"}, 0, false},
		{"§4.2.1 two max-ages that agree", 200, []string{"Cache-Control: max-age=3600", "Cache-Control: max-age=3600"}, 1, true},
		{"§5.2 names without regard to case", 200, []string{"Cache-Control: MaX-aGe=3600"}, 1, true},
		{"§5.2 a quoted argument", 200, []string{`Cache-Control: max-age="3600"`}, 1, true},
		{"§5.2 quotes of another kind", 200, []string{`Cache-Control: max-age='3600'`}, 0, false},
		{"§4.2.1 a negative max-age", 200, []string{"Cache-Control: max-age=-3600"}, 0, false},
		{"§4.2.1 a fraction", 200, []string{"Cache-Control: max-age=3600.5"}, 0, false},
		{"§4.2.1 trailing letters", 200, []string{"Cache-Control: max-age=3600a"}, 0, false},
		{"§5.2 a space before the equals sign", 200, []string{"Cache-Control: max-age =3600"}, 0, false},
		{"§5.2 a space after it", 200, []string{"Cache-Control: max-age= 3600"}, 0, false},
		{"§5.2.3 unknown directives", 200, []string{`Cache-Control: foo, max-age=3600, bar="x, max-age=1"`}, 1, true},
		{"§5.2 max-age within a quoted string", 200, []string{`Cache-Control: foo="max-age=3600", max-age=1`}, 2 * time.Second, false},
		{"§5.2 a quote that never ends", 200, []string{`Cache-Control: max-age=3600, foo="no-store`}, 0, false},
		{"§5.2 semicolons", 200, []string{"Cache-Control: max-age=3600; no-store"}, 0, false},
		{"§5.2.2.5 no-store", 200, []string{"Cache-Control: max-age=3600, No-Store"}, 0, false},
		{"§5.2.2.4 no-cache", 200, []string{"Cache-Control: max-age=3600, no-cache", `Etag: "a"`}, 0, false},
		{"§5.2.2.7 private", 200, []string{"Cache-Control: private, max-age=3600"}, 0, false},
		{"§5.4 Pragma in an answer", 200, []string{"Cache-Control: max-age=3600", "Pragma: no-cache"}, 1, true},
		{"RFC 8246 immutable ends too", 200, []string{"Cache-Control: max-age=1, immutable"}, 2 * time.Second, false},
		{"§4.2.2 a tenth of the time since the last change", 200, []string{"Last-Modified: -36000"}, hour - 1, true},
		{"§4.2.2 and no more", 200, []string{"Last-Modified: -36000"}, hour, false},
		{"§4.2.2 at most a day", 200, []string{"Last-Modified: -360000000"}, 24 * hour, false},
		{"§4.2.2 a change in the future", 200, []string{"Last-Modified: +36000"}, 0, false},
		{"§4.2.2 404", 404, []string{"Last-Modified: -36000"}, 1, true},
		{"§4.2.2 not 403", 403, []string{"Last-Modified: -36000"}, 0, false},
		{"§4.2.2 not 302", 302, []string{"Last-Modified: -36000"}, 0, false},
		{"§4.2.2 what says public", 599, []string{"Last-Modified: -36000", "Cache-Control: public"}, 1, true},
		{"CACHE-02 nothing said", 200, nil, 0, false},
		{"§3 302 that says so", 302, []string{"Cache-Control: max-age=3600", "Location: /there"}, 1, true},
		{"§3 an unknown status that says so", 299, []string{"Cache-Control: max-age=3600"}, 1, true},
		{"§3 503 that says so", 503, []string{"Cache-Control: max-age=3600"}, 1, true},
		{"§3.3 206 is no whole", 206, []string{"Cache-Control: max-age=3600", "Content-Range: bytes 0-3/100"}, 0, false},
		{"§5.2.2.3 must-understand", 200, []string{"Cache-Control: max-age=3600, must-understand, no-store"}, 1, true},
		{"§5.2.2.3 must-understand what we do not", 599, []string{"Cache-Control: max-age=3600, must-understand"}, 0, false},
		{"§5.2.2.2 must-revalidate while fresh", 200, []string{"Cache-Control: max-age=3600, must-revalidate"}, 1, true},
		{"RFC 9213 §2.2 targeted", 200, []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=3600"}, 1, true},
		{"RFC 9213 §2.2 instead of Expires", 200, []string{"Expires: +3600", "CDN-Cache-Control: max-age=1"}, 2 * time.Second, false},
		{"RFC 9213 §2.2 no-store", 200, []string{"Cache-Control: max-age=3600", "CDN-Cache-Control: no-store"}, 0, false},
		{"RFC 9213 §2.2 private", 200, []string{"Cache-Control: max-age=3600", "CDN-Cache-Control: private"}, 0, false},
		{"RFC 9213 §2.1 what does not parse", 200, []string{"Cache-Control: max-age=3600", "CDN-Cache-Control: max-age =1"}, 10 * time.Second, true},
		{"RFC 9213 §2.1 empty", 200, []string{"Cache-Control: max-age=3600", "CDN-Cache-Control: "}, 1, true},
		{"RFC 9213 §2.1 another type", 200, []string{"Cache-Control: max-age=3600", `CDN-Cache-Control: max-age="3600"`}, 1, false},
		{"RFC 9213 §2.1 a boolean that is false", 200, []string{"CDN-Cache-Control: no-store=?0, max-age=3600"}, 1, true},
		{"text/event-stream", 200, []string{"Cache-Control: max-age=3600", "Content-Type: text/event-stream"}, 0, false},
		{"CACHE-07 Set-Cookie", 200, []string{"Cache-Control: max-age=3600", "Set-Cookie: a=b"}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, Rule{}, Options{})
			b.says(c.status, "body", b.dates(c.fields)...)
			if a := b.get(); a.StatusCode != c.status || a.body != "body" || a.result != Miss {
				t.Fatalf("first answer: %v", a)
			}
			b.wait(c.after)
			a := b.get()
			if reused := a.result == Hit; reused != c.reused || (b.asked() == 1) != c.reused {
				t.Errorf("reused %v after %v, want %v: %v", reused, c.after, c.reused, a)
			}
			if c.reused && (a.StatusCode != c.status || a.body != "body" || a.Header.Get("Age") == "") {
				t.Errorf("the stored answer is %v", a)
			}
		})
	}
}

// dates turns "Expires: +60" into a date.
func (b *bed) dates(fields []string) []string {
	var out []string
	for _, f := range fields {
		for _, name := range []string{"Expires: ", "Date: ", "Last-Modified: "} {
			if rest, ok := cutDate(f, name); ok {
				f = name + formatDate(b.clock().Add(rest))
			}
		}
		out = append(out, f)
	}
	return out
}

func cutDate(f, name string) (time.Duration, bool) {
	if len(f) <= len(name) || f[:len(name)] != name || f[len(name)] != '+' && f[len(name)] != '-' {
		return 0, false
	}
	d, err := time.ParseDuration(f[len(name):] + "s")
	return d, err == nil
}
