package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// maxInformational bounds the 1xx answers before the one that counts; apps send one or two.
const maxInformational = 8

var (
	errHeadTooLarge      = errors.New("the head is too large")
	errInformational     = errors.New("too many 1xx answers")
	errNotHTTP           = errors.New("not an HTTP/1.x answer")
	errSwitched          = errors.New("the app switched protocols without being asked")
	errSpaceInName       = errors.New("white space in or after a header's name")
	errMalformedStatus   = errors.New("malformed status line")
	errMalformedTrailers = errors.New("malformed trailers")
)

// answer reads heads until the one that counts.
func (x *exchange) answer(req *http.Request) (*http.Response, *Error) {
	budget := x.t.maxHead()
	for range maxInformational + 1 {
		head, err := x.head(budget)
		if err != nil {
			return nil, err
		}
		budget -= len(head)
		framing, failed := inspect(head)
		if failed != nil {
			return nil, &Error{Broken, failed}
		}
		res, failed := http.ReadResponse(x.c.br, req)
		if failed == nil {
			failed = checkStatus(res)
		}
		if failed != nil {
			return nil, &Error{Broken, failed}
		}
		if res.StatusCode >= 200 {
			x.begin(res, framing)
			return res, nil
		}
	}
	return nil, &Error{Broken, errInformational}
}

// head reads until a whole head is buffered, of at most limit bytes, and does not consume it.
func (x *exchange) head(limit int) ([]byte, *Error) {
	seen := 0
	for {
		buffered, _ := x.c.br.Peek(x.c.br.Buffered())
		if !startsLikeHTTP(buffered) {
			return nil, &Error{Broken, errNotHTTP}
		}
		end := endOfHead(buffered, seen)
		if end > limit || end == 0 && len(buffered) >= limit {
			return nil, &Error{Broken, errHeadTooLarge}
		}
		if end > 0 {
			return buffered[:end], nil
		}
		seen = len(buffered)
		if seen == x.c.br.Size() {
			x.c.grow(x.t.maxHead())
		}
		if _, err := x.c.br.Peek(seen + 1); err != nil {
			return nil, x.noHead(seen, limit, err)
		}
	}
}

// noHead says what it means that reading failed after so many bytes of a head.
func (x *exchange) noHead(seen, limit int, err error) *Error {
	if seen > 0 || limit < x.t.maxHead() { // part of this head, or 1xx answers before it
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return &Error{Broken, err}
	}
	if timed, ok := errors.AsType[net.Error](err); x.c.used && !(ok && timed.Timeout()) {
		return &Error{Stale, err}
	}
	return &Error{Unanswered, err}
}

// startsLikeHTTP refuses something else at its first bytes, rather than waiting for an end of its head.
func startsLikeHTTP(head []byte) bool {
	const version = "HTTP/1."
	n := min(len(head), len(version))
	return string(head[:n]) == version[:n]
}

// endOfHead is the length of the head that b begins with, or 0 if it is not whole. It ends where http.ReadResponse ends
// it, which takes a bare LF for the end of a line: RFC 9112 §2.2. The first bytes were looked at before.
func endOfHead(b []byte, seen int) int {
	for at := max(seen-2, 0); ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		switch rest := b[at:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return at + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return at + 2
		}
	}
}

// framing is what a head says about its body's length.
type framing struct{ length, encoding bool }

// inspect looks for what http.ReadResponse does not tell or lets pass: both framings at once, and names with spaces,
// which would make "Content-Length : 5" say nothing here and something to others (RFC 9112 §5.1).
func inspect(head []byte) (f framing, err error) {
	_, rest, _ := bytes.Cut(head, []byte{'\n'}) // the status line
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' {
			continue // the end, or more of the value before
		}
		name, _, _ := bytes.Cut(line, []byte{':'})
		switch {
		case bytes.IndexByte(name, ' ') >= 0:
			return f, errSpaceInName
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			f.length = true
		case len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			f.encoding = true
		}
	}
	return f, nil
}

// checkStatus refuses what http.ReadResponse lets pass in a status line, and a switch of protocols: no plain request asks
// for one. RFC 9112 §4: three digits; a reason of text.
func checkStatus(res *http.Response) error {
	switch {
	case res.StatusCode < 100:
		return errMalformedStatus
	case strings.ContainsFunc(res.Status, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return errMalformedStatus
	case res.StatusCode == http.StatusSwitchingProtocols:
		return errSwitched
	}
	return nil
}

// begin hands the body over to the exchange.
func (x *exchange) begin(res *http.Response, f framing) {
	res.TLS = x.c.state
	// Both framings at once are a sign of smuggling: one of them counts, chunked, and the connection ends with the
	// answer. RFC 9112 §6.3.
	x.reuse = res.ProtoMinor == 1 && !res.Close && !(f.length && f.encoding)
	switch {
	case res.Body == http.NoBody:
		x.settle()
		return
	case len(res.TransferEncoding) == 0 && res.ContentLength > 0:
		x.left = res.ContentLength
	default:
		x.src, x.res = res.Body, res
	}
	x.c.body = x
	res.Body = x
}

// checkTrailers refuses trailers that say what only a head may say: RFC 9110 §6.5.1.
func checkTrailers(trailer http.Header) error {
	for name := range trailer {
		if strings.IndexByte(name, ' ') >= 0 || isReserved(name) {
			return fmt.Errorf("%w: %q", errMalformedTrailers, name)
		}
	}
	return nil
}
