package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Answer is what an entry is made of.
type Answer struct {
	Status  int
	Header  http.Header
	Trailer http.Header
	Body    Body
	// Request is the header of the request that was answered, for Vary.
	Request http.Header
	// Asked and Received are when the request left and when the head of the answer came.
	Asked, Received time.Time
}

// Entry is one stored answer. It never changes, and nothing that leaves it can be changed through it: what it was made of
// is copied or read only, and parsed once.
type Entry struct {
	Status int
	fields []field
	lines  int // of all fields
	body   Body
	// trailer are the fields after the body.
	trailer http.Header
	// vary names the request headers that the answer depends on, variant holds the values it was made for.
	vary    []string
	variant string

	policy             directives
	etag, lastModified string
	date, received     time.Time
	initialAge         time.Duration // when it was received
	lifetime           time.Duration // from its making; zero or less is never fresh
	status             string        // such as "200 OK"

	// generation is the URL's when the request left: a later one says that the entry was invalidated.
	generation uint32
	size       int64
}

type field struct {
	name  string
	lines []string
}

// NewEntry makes an entry of an answer. Fields that belong to a connection and fields that the answer wants to be kept
// from others are left out (RFC 9111 §3.1). The header is not kept.
func NewEntry(a Answer) *Entry {
	e := &Entry{Status: a.Status, body: a.Body, trailer: a.Trailer, received: a.Received}
	e.status = strconv.Itoa(a.Status) + " " + http.StatusText(a.Status)
	var targeted bool
	e.policy, targeted = policyOf(a.Header)
	e.vary, _ = varyOf(a.Header)
	e.variant = string(digestLong(appendVariant(nil, e.vary, a.Request)))
	e.etag, e.lastModified = single(a.Header, "Etag"), single(a.Header, "Last-Modified")
	e.date = dateOf(a.Header, a.Received)
	e.keepFields(a.Header)
	e.initialAge = initialAge(a, e.date)
	e.lifetime = lifetime(a, &e.policy, targeted, e.date)
	e.size = e.measure()
	return e
}

// keepFields copies the fields that may be stored, with room for nothing else.
func (e *Entry) keepFields(h http.Header) {
	dropped := connectionFields(h)
	e.fields = make([]field, 0, len(h)+1)
	e.keepField("Date", []string{formatDate(e.date)}) // RFC 9110 §6.6.1: an answer without a valid one gets one
	for name, lines := range h {
		if name == "Date" || !mayStore(name) || slices.Contains(dropped, name) || slices.Contains(e.policy.hidden, name) {
			continue
		}
		e.keepField(name, slices.Clone(lines))
	}
}

func (e *Entry) keepField(name string, lines []string) {
	e.fields = append(e.fields, field{name, lines})
	e.lines += len(lines)
}

// entryOverhead is what an entry costs besides its texts, in this package and in the store, measured and rounded up.
const entryOverhead = 512

// measure counts what an entry holds in memory.
func (e *Entry) measure() int64 {
	n := int64(entryOverhead + len(e.variant) + len(e.etag) + len(e.lastModified))
	for _, f := range e.fields {
		n += fieldSize(f.name, f.lines)
	}
	for name, lines := range e.trailer {
		n += fieldSize(name, lines)
	}
	if e.body != nil {
		n += e.body.Size()
	}
	return n
}

func fieldSize(name string, lines []string) int64 {
	const slice, text = 24, 16
	n := int64(text + len(name) + slice)
	for _, line := range lines {
		n += int64(text + len(line))
	}
	return n
}

// Size is what the entry costs in memory, body included.
func (e *Entry) Size() int64 { return e.size }

// Body is the entry's content.
func (e *Entry) Body() Body { return e.body }

// Header is a copy of the stored fields.
func (e *Entry) Header() http.Header {
	h, _ := e.header(0)
	return h
}

// header is a copy of the stored fields with room for some more, and the lines for those.
func (e *Entry) header(more int) (http.Header, []string) {
	h := make(http.Header, len(e.fields)+more)
	lines := make([]string, 0, e.lines+more)
	for i := range e.fields {
		from := len(lines)
		lines = append(lines, e.fields[i].lines...)
		h[e.fields[i].name] = lines[from:len(lines):len(lines)]
	}
	return h, lines[len(lines):cap(lines)]
}

// Supersedes reports whether the entry answers all requests that the other one answers.
func (e *Entry) Supersedes(other *Entry) bool {
	return len(e.vary) == 0 || e.variant == other.variant && slices.Equal(e.vary, other.vary)
}

// matches reports whether the entry answers a request with this header (RFC 9111 §4.1).
func (e *Entry) matches(h http.Header) bool {
	if len(e.vary) == 0 {
		return true
	}
	var room [2 * maxVariant]byte
	return string(digestLong(appendVariant(room[:0], e.vary, h))) == e.variant
}

// with is a copy of the entry that has changed, measured anew.
func (e *Entry) with(change func(*Entry)) *Entry {
	changed := *e
	change(&changed)
	changed.size = changed.measure()
	return &changed
}

// whole is the entry with the body and the trailer that have arrived since. Its length is known now (RFC 9110 §8.6); only
// a trailer needs a framing without it.
func (e *Entry) whole(body Body, trailer http.Header) *Entry {
	return e.with(func(e *Entry) {
		e.body = body
		if len(trailer) > 0 {
			e.trailer = trailer.Clone()
			return
		}
		if e.Status == http.StatusNoContent || slices.ContainsFunc(e.fields, func(f field) bool { return f.name == "Content-Length" }) {
			return
		}
		e.fields = slices.Clone(e.fields)
		e.keepField("Content-Length", []string{strconv.FormatInt(body.Size(), 10)})
	})
}

// spoiled is a copy that is used only after the app has confirmed it.
func (e *Entry) spoiled() *Entry { return e.with(func(e *Entry) { e.policy.noCache = true }) }

// hasValidator reports whether the app can be asked if the entry still holds.
func (e *Entry) hasValidator() bool { return e.etag != "" || e.lastModified != "" }

// single is the value of a field that occurs once; several lines of such a field are as good as none.
func single(h http.Header, name string) string {
	if lines := h[name]; len(lines) == 1 {
		return strings.TrimSpace(lines[0])
	}
	return ""
}
