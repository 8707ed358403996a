package http1

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

// FuzzAnswer sends arbitrary bytes to both: what http1 accepts, http.Transport accepts with the same outcome.
func FuzzAnswer(f *testing.F) {
	for _, c := range answerCases {
		if len(c.raw) < 2000 {
			f.Add([]byte(c.raw), c.method == "HEAD", byte(0))
			f.Add([]byte(c.raw), false, byte(7))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, head bool, size byte) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		answered := func(rt func(dial func(context.Context) (net.Conn, error)) http.RoundTripper) (outcome, error) {
			mem := newMemConn(bytes.NewReader(raw))
			defer mem.Close()
			return outcomeOf(rt(split(mem.dial, int(size))), request(t, method, "/", ""))
		}
		lean, err := answered(func(dial func(context.Context) (net.Conn, error)) http.RoundTripper { return &Transport{Dial: dial} })
		if err != nil {
			return
		}
		standard, _ := answered(func(dial func(context.Context) (net.Conn, error)) http.RoundTripper {
			return standardTransport(t, dial)
		})
		agree(t, lean, standard, "")
	})
}

// FuzzEndOfHead: a head that is looked at as it arrives ends where it ends when it is looked at as a whole.
func FuzzEndOfHead(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", 10)
	f.Add("a\n\nb", 2)
	f.Add("a\r\n\rb\n\r\n", 4)
	f.Fuzz(func(t *testing.T, head string, at int) {
		if at < 0 || at > len(head) {
			return
		}
		whole := endOfHead([]byte(head), 0)
		first := endOfHead([]byte(head[:at]), 0)
		if first == 0 {
			first = endOfHead([]byte(head), at)
		}
		if first != whole {
			t.Errorf("%d in two looks, %d in one", first, whole)
		}
		if whole > 0 && !strings.HasSuffix(head[:whole], "\n\n") && !strings.HasSuffix(head[:whole], "\n\r\n") {
			t.Errorf("a head ends with %q", head[:whole])
		}
	})
}
