package rfc9111

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/rawserver"
)

// Origin is an app behind the cache that answers as the case says which the request's path names, byte for byte.
type Origin struct {
	URL string // http://127.0.0.1:port

	mu    sync.Mutex
	plays map[string]*performance
}

// performance is a case being played.
type performance struct {
	id    string // the segment of the path that names it
	began time.Time
	base  string
	steps []Step

	mu   sync.Mutex
	step int               // the exchange that the client is in
	seen [][]*http.Request // what the app was asked, by exchange
}

// NewOrigin starts an app for the length of a test.
func NewOrigin(t testing.TB) *Origin {
	t.Helper()
	o := &Origin{plays: map[string]*performance{}}
	o.URL = "http://" + rawserver.Start(t, o.serve)
	return o
}

func (o *Origin) perform(p *performance) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.plays[p.id] = p
}

func (o *Origin) serve(conn net.Conn) {
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		raw, goOn := o.answer(request)
		if _, err := io.WriteString(conn, raw); err != nil || !goOn {
			return
		}
	}
}

// answer is what the case that the path names says, and whether the connection goes on.
func (o *Origin) answer(r *http.Request) (raw string, goOn bool) {
	for segment := range strings.SplitSeq(r.URL.Path, "/") {
		o.mu.Lock()
		p := o.plays[segment]
		o.mu.Unlock()
		if p != nil {
			return p.answer(r)
		}
	}
	return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true
}

func (p *performance) answer(r *http.Request) (raw string, goOn bool) {
	p.mu.Lock()
	step := p.step
	p.seen[step] = append(p.seen[step], r)
	p.mu.Unlock()
	a := p.steps[step].App
	if a.Close {
		return "", false
	}
	if a.Status == http.StatusNotModified && !conditional(r) {
		a.Status = http.StatusOK
	}
	var b strings.Builder
	for _, interim := range a.Interim {
		fmt.Fprintf(&b, "HTTP/1.1 %d Interim\r\n%s: %s\r\n\r\n", interim.Status, interim.Name, interim.Value)
	}
	fmt.Fprintf(&b, "HTTP/1.1 %d Status\r\n", a.Status)
	if !a.Undated {
		fmt.Fprintf(&b, "Date: %s\r\n", time.Now().UTC().Format(http.TimeFormat))
	}
	for _, line := range a.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", line.Name, p.fill(line.Value))
	}
	p.writeBody(&b, a, r.Method, p.body(step))
	return b.String(), !a.Cut
}

func (p *performance) writeBody(b *strings.Builder, a Answer, method, body string) {
	if bodiless(a.Status) {
		b.WriteString("\r\n")
		return
	}
	sent := body
	if a.Cut {
		sent = body[:len(body)/2]
	}
	if method == http.MethodHead {
		sent = ""
	}
	if !a.Chunked {
		fmt.Fprintf(b, "Content-Length: %d\r\n\r\n%s", len(body), sent)
		return
	}
	b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
	if method == http.MethodHead {
		return
	}
	fmt.Fprintf(b, "%x\r\n%s", len(body), sent)
	if a.Cut {
		return
	}
	b.WriteString("\r\n0\r\n")
	for _, line := range a.Trailer {
		fmt.Fprintf(b, "%s: %s\r\n", line.Name, p.fill(line.Value))
	}
	b.WriteString("\r\n")
}

// body is the body of an exchange's answer, if it may have one.
func (p *performance) body(step int) string {
	if body := p.steps[step].App.Body; body != nil {
		return p.fill(*body)
	}
	return fmt.Sprintf("answer %d of %s", step+1, p.id)
}

// asked are the requests that reached the app in an exchange.
func (p *performance) asked(step int) []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.seen[step]...)
}

// fill replaces what a script leaves open until it is played.
func (p *performance) fill(text string) string {
	text = strings.NewReplacer("$url", "/"+p.id, "$id", p.id, "$base", p.base).Replace(text)
	for {
		before, rest, found := strings.Cut(text, "{")
		offset, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return text
		}
		text = before + p.date(offset) + after
	}
}

// date writes "-60", "+60 rfc850" or "+60 asctime".
func (p *performance) date(offset string) string {
	seconds, form, _ := strings.Cut(offset, " ")
	d, err := time.ParseDuration(seconds + "s")
	if err != nil {
		panic("BUG: a script names the date " + offset)
	}
	layout := map[string]string{"": http.TimeFormat, "rfc850": "Monday, 02-Jan-06 15:04:05 GMT", "asctime": time.ANSIC}[form]
	return p.began.Add(d).UTC().Format(layout)
}

func bodiless(status int) bool {
	return status == http.StatusNotModified || status == http.StatusNoContent
}

func conditional(r *http.Request) bool {
	return r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != ""
}
