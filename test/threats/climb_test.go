package threats

import (
	"fmt"
	"net/http"
	"testing"

	"sallyport/test/harness"
	"sallyport/test/rawhttp"
)

// PATH-01 to PATH-34: each way up with each way on, over both protocols, with and without a session. None of them is
// served, and the connections go on.
func TestNoSpellingClimbsOut(t *testing.T) {
	origin := rawhttp.NewOrigin(t)
	s := harness.New(t, replaceRaw(guarded, origin.URL), unlimited)
	s.Start(t)
	to := target(t, s, origin)
	origin.Forget()
	climbs := rawhttp.Climbs()
	for _, cookie := range []string{"__Host-sallyport=" + to.Session, "visitor=1"} {
		one, err := to.Dial("wiki." + harness.Domain)
		if err != nil {
			t.Fatal(err)
		}
		two, err := to.DialH2("wiki." + harness.Domain)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range climbs {
			one.Send(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", path, to.Host, cookie)) // an error is seen when reading
			answer := one.Receive(http.MethodGet, patience)
			refuses(t, "HTTP/1.1 "+path, answer, cookie)
			if answer.Close { // net/http could not parse the target
				one.Close()
				one, err = to.Dial("wiki." + harness.Domain)
				if err != nil {
					t.Fatal(err)
				}
			}
			refuses(t, "HTTP/2 "+path, two.Do([]rawhttp.Field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: to.Host}, {Name: ":path", Value: path},
				{Name: "cookie", Value: cookie}}, nil), cookie)
			if t.Failed() {
				return
			}
		}
		one.Close()
		two.Close()
	}
	if got := origin.Received(); len(got) > 0 {
		t.Errorf("the app was asked: %.1000q", got)
	}
	t.Logf("%d spellings", len(climbs))
}

func refuses(t *testing.T, what string, a rawhttp.Answer, cookie string) {
	t.Helper()
	stranger := a.Status == http.StatusUnauthorized && cookie == "visitor=1"
	unread := a.Ended == "RST_STREAM PROTOCOL_ERROR" // net/http does not open a stream whose path it cannot parse
	if a.Status != http.StatusBadRequest && a.Status != http.StatusForbidden && !stranger && !unread {
		t.Errorf("%q got %v", what, a)
	}
}
