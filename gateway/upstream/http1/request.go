package http1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxKept bounds the buffers that are lent again; a rare large one is left to the garbage collector.
const maxKept = 32 << 10

// message is a request as it is sent: head and body in one piece.
type message struct{ buf []byte }

// compose writes a request down. Whatever could be read as something else than was meant is refused, never repaired:
// RFC 9112 §11.1. The request's body is read and closed in any case.
func (t *Transport) compose(req *http.Request) (*message, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	m, _ := t.messages.Get().(*message)
	if m == nil {
		m = &message{buf: make([]byte, 0, 4<<10)}
	}
	if err := m.compose(req); err != nil {
		t.release(m)
		return nil, err
	}
	return m, nil
}

func (t *Transport) release(m *message) {
	if cap(m.buf) <= maxKept {
		m.buf = m.buf[:0]
		t.messages.Put(m)
	}
}

func (m *message) compose(req *http.Request) error {
	switch {
	case req.URL == nil:
		return errors.New("the request has no URL")
	case !Fits(req):
		return errors.New("the request is not a plain one")
	}
	if err := m.requestLine(req); err != nil {
		return err
	}
	if err := m.host(req); err != nil {
		return err
	}
	if err := m.header(req.Header); err != nil {
		return err
	}
	m.length(req)
	m.buf = append(m.buf, "\r\n"...)
	return m.body(req)
}

// requestLine: RFC 9112 §3. The target has the form net/http writes.
func (m *message) requestLine(req *http.Request) error {
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
	if !httpguts.ValidHeaderFieldName(method) { // a token too: RFC 9110 §9.1
		return fmt.Errorf("invalid method %q", method)
	}
	m.buf = append(append(m.buf, method...), ' ')
	start := len(m.buf)
	m.target(req.URL)
	if target := m.buf[start:]; !isTarget(target) || target[0] != '/' && (string(target) != "*" || method != http.MethodOptions) {
		return fmt.Errorf("invalid request target %q", target)
	}
	m.buf = append(m.buf, " HTTP/1.1\r\n"...)
	return nil
}

// target is URL.RequestURI without making strings.
func (m *message) target(u *url.URL) {
	if u.Opaque != "" {
		m.buf = append(m.buf, u.RequestURI()...)
		return
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	m.buf = append(m.buf, path...)
	if u.ForceQuery || u.RawQuery != "" {
		m.buf = append(append(m.buf, '?'), u.RawQuery...)
	}
}

// isTarget holds for visible ASCII without a fragment. net/http would write the rest of ASCII too: a space ends the target
// early, a fragment is cut off by some servers and not by others.
func isTarget(target []byte) bool {
	for _, b := range target {
		if b <= ' ' || b >= 0x7f || b == '#' {
			return false
		}
	}
	return true
}

// host: RFC 9112 §3.2. net/http sends an empty Host in place of an invalid one.
func (m *message) host(req *http.Request) error {
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	host, err := httpguts.PunycodeHostPort(host)
	if err != nil {
		return fmt.Errorf("invalid host %q: %w", host, err)
	}
	if host == "" || !httpguts.ValidHostHeader(host) {
		return fmt.Errorf("invalid host %q", host)
	}
	m.field("Host", withoutZone(host))
	return nil
}

// withoutZone removes what is of this machine only (RFC 6874 §4): [fe80::1%25eth0]:80 becomes [fe80::1]:80.
func withoutZone(host string) string {
	end := strings.LastIndexByte(host, ']')
	if host[0] != '[' || end < 0 {
		return host
	}
	if zone := strings.LastIndexByte(host[:end], '%'); zone >= 0 {
		return host[:zone] + host[end:]
	}
	return host
}

func (m *message) header(h http.Header) error {
	for name, values := range h {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return fmt.Errorf("invalid header name %q", name)
		case isOurs(name):
			continue
		case isReserved(name):
			return fmt.Errorf("header %q is not for the caller to set", name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return fmt.Errorf("invalid value of header %q", name) // the value may be a secret
			}
			m.field(name, textproto.TrimString(value))
		}
	}
	// User-Agent is the caller's, and never made up; present and empty means none, as for http.Transport.
	if agent := textproto.TrimString(h.Get("User-Agent")); agent != "" {
		if !httpguts.ValidHeaderFieldValue(agent) {
			return errors.New(`invalid value of header "User-Agent"`)
		}
		m.field("User-Agent", agent)
	}
	return nil
}

func (m *message) field(name, value string) {
	m.buf = append(append(m.buf, name...), ": "...)
	m.buf = append(append(m.buf, value...), "\r\n"...)
}

// notPlain are the fields of requests that are not plain, or that are of the connection (RFC 9110 §7.6.1).
var notPlain = [...]string{"Connection", "Upgrade", "Expect", "Te", "Trailer", "Transfer-Encoding", "Keep-Alive", "Proxy-Connection"}

// isOurs holds for fields that say what the request says elsewhere: like net/http, we write them from there.
func isOurs(name string) bool {
	return name == "Host" || name == "User-Agent" || name == "Content-Length"
}

// isReserved holds for fields that frame a message or rule a connection, and for ours, in any spelling.
func isReserved(name string) bool {
	switch len(name) {
	case 2, 4, 6, 7, 10, 14, 16, 17: // the lengths of those below
	default:
		return false
	}
	for _, reserved := range notPlain {
		if strings.EqualFold(name, reserved) {
			return true
		}
	}
	return strings.EqualFold(name, "Host") || strings.EqualFold(name, "User-Agent") || strings.EqualFold(name, "Content-Length")
}

// length: RFC 9110 §8.6, for the methods for which servers expect it even without a body.
func (m *message) length(req *http.Request) {
	switch req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		if !hasBody(req) {
			return
		}
	}
	m.buf = append(m.buf, "Content-Length: "...)
	m.buf = strconv.AppendInt(m.buf, req.ContentLength, 10)
	m.buf = append(m.buf, "\r\n"...)
}

// body reads the whole body. One that is not as long as it said is refused while nothing was sent.
func (m *message) body(req *http.Request) error {
	if !hasBody(req) {
		return nil
	}
	head, length := len(m.buf), int(req.ContentLength)
	m.buf = append(m.buf, make([]byte, length+1)...) // one more than there may be
	n, err := io.ReadFull(req.Body, m.buf[head:])
	m.buf = m.buf[:head+min(n, length)]
	switch {
	case err == nil:
		return fmt.Errorf("the body is longer than its %d bytes", length)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return fmt.Errorf("reading the request's body: %w", err)
	case n < length:
		return fmt.Errorf("the body has %d bytes of %d: %w", n, length, io.ErrUnexpectedEOF)
	}
	return nil
}
