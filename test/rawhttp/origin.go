package rawhttp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sallyport/test/rawserver"
)

// Origin is an app that keeps the exact bytes it received. It answers every request with 200 and its request line,
// unless a scripted answer waits.
type Origin struct {
	URL string // http://127.0.0.1:port

	mu       sync.Mutex
	received []Message
	scripted string
}

// Message is one request as it arrived, or what arrived and was none.
type Message struct {
	Raw     string        // every byte, head and body, before any decoding
	Request *http.Request // nil when Raw is no request
}

func (m Message) String() string { return m.Raw[:min(len(m.Raw), 600)] }

// NewOrigin starts an app for the length of a test.
func NewOrigin(t testing.TB) *Origin {
	t.Helper()
	o := &Origin{}
	o.URL = "http://" + rawserver.Start(t, o.serve)
	return o
}

// Received is everything since the last Forget, in order of arrival.
func (o *Origin) Received() []Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Message(nil), o.received...)
}

// Forget empties the memory.
func (o *Origin) Forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.received = nil
}

// AnswerOnce makes the next request get exactly these bytes.
func (o *Origin) AnswerOnce(raw string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scripted = raw
}

func (o *Origin) serve(conn net.Conn) {
	var raw bytes.Buffer // every byte read off the connection and not yet attributed
	reader := bufio.NewReader(io.TeeReader(conn, &raw))
	for {
		request, err := http.ReadRequest(reader)
		if err == nil {
			_, err = io.Copy(io.Discard, request.Body)
		}
		size := raw.Len() - reader.Buffered()
		message := Message{Raw: string(raw.Next(size)), Request: request}
		if err != nil {
			message.Request = nil
			if message.Raw != "" || !errors.Is(err, io.EOF) && raw.Len() > 0 {
				message.Raw += raw.String()
				o.keep(message)
			}
			return
		}
		if _, err := io.WriteString(conn, o.keep(message)); err != nil {
			return
		}
	}
}

// keep remembers a message and returns its answer.
func (o *Origin) keep(m Message) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.received = append(o.received, m)
	if answer := o.scripted; answer != "" && m.Request != nil {
		o.scripted = ""
		return answer
	}
	line, _, _ := strings.Cut(m.Raw, "\r\n")
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(line))
	if m.Request != nil && m.Request.Method == http.MethodHead {
		return head
	}
	return head + line
}
