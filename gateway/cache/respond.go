package cache

import (
	"net/http"
	"strconv"
	"time"
)

// reply is an answer under construction.
type reply struct {
	*http.Response
	entry *Entry
	from  *reader // where the body comes from while it arrives; nil when it is all there
}

// respond makes an answer of an entry: the whole, a part of it, or that the client has it already. from is closed if its
// body is not wanted. header, where it is not nil, is what this client alone is told.
func (x *exchange) respond(e *Entry, from *reader, header http.Header, how served) *http.Response {
	now := x.cache.opts.Now()
	age, status := e.age(now), how.cacheStatus(e, now)
	if header == nil {
		var lines []string
		header, lines = e.header(2)
		lines[0], lines[1] = status, strconv.FormatInt(int64(age/time.Second), 10)
		header["Cache-Status"], header["Age"] = lines[0:1:1], lines[1:2:2] // RFC 9111 §5.1
	} else {
		header["Cache-Status"] = append(header["Cache-Status"], status)
		if how.result != Miss {
			header["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
		}
	}
	r := reply{&http.Response{Status: e.status, StatusCode: e.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Request: x.r}, e, from}
	switch {
	case isConditional(x.r.Header) && e.notModified(x.r.Header, now):
		r.unchanged()
	case x.r.Method == http.MethodHead:
		r.headOnly()
	default:
		r.content(x, now)
	}
	if how.result != Miss && r.ContentLength > 0 && r.Body != http.NoBody {
		x.app.bytesServed.Add(r.ContentLength)
	}
	return r.Response
}

// unchanged makes it a 304, which describes no content (RFC 9110 §15.4.5).
func (r *reply) unchanged() {
	r.Status, r.StatusCode = "304 Not Modified", http.StatusNotModified
	for _, name := range [...]string{"Content-Length", "Content-Type", "Content-Encoding", "Content-Language", "Content-Range"} {
		delete(r.Header, name)
	}
	r.noBody()
}

func (r *reply) noBody() {
	r.Body = http.NoBody
	if r.from != nil {
		r.from.Close()
	}
}

func (r *reply) headOnly() {
	r.ContentLength = r.size()
	r.noBody()
}

// size is how long the whole body is, or -1.
func (r *reply) size() int64 {
	if r.from != nil {
		return r.from.fill.size
	}
	return r.entry.body.Size()
}

// content gives the whole body or the part that was asked for (RFC 9110 §14.2).
func (r *reply) content(x *exchange, now time.Time) {
	size := r.size()
	if want := x.r.Header.Get("Range"); want != "" && r.StatusCode == http.StatusOK && size >= 0 && r.entry.inRange(x.r.Header, now) {
		switch part, verdict := parseRange(want, size); verdict {
		case rangeSatisfiable:
			r.part(x, part, size)
			return
		case rangeUnsatisfiable:
			r.unsatisfiable(size)
			return
		}
	}
	r.whole(x, size)
}

func (r *reply) whole(x *exchange, size int64) {
	r.ContentLength = size
	if r.from != nil {
		r.Trailer = announced(r.from.fill.announced)
		r.Body = r.from.open(x.r.Context(), byteRange{0, -1}, r.Response)
		return
	}
	if r.entry.trailer != nil { // a length would leave no room for it in HTTP/1.1
		r.Trailer = r.entry.trailer.Clone()
		r.ContentLength = -1
		delete(r.Header, "Content-Length")
	}
	r.Body = r.entry.body.Open(0, size)
}

func (r *reply) part(x *exchange, part byteRange, size int64) {
	r.Status, r.StatusCode = "206 Partial Content", http.StatusPartialContent
	r.ContentLength = part.n
	r.Header["Content-Length"] = []string{strconv.FormatInt(part.n, 10)}
	r.Header["Content-Range"] = []string{"bytes " + strconv.FormatInt(part.from, 10) + "-" +
		strconv.FormatInt(part.from+part.n-1, 10) + "/" + strconv.FormatInt(size, 10)}
	if r.from != nil {
		r.Body = r.from.open(x.r.Context(), part, nil)
		return
	}
	r.Body = r.entry.body.Open(part.from, part.n)
}

func (r *reply) unsatisfiable(size int64) {
	r.Status, r.StatusCode = "416 Range Not Satisfiable", http.StatusRequestedRangeNotSatisfiable
	for _, name := range [...]string{"Content-Type", "Content-Encoding", "Content-Language", "Etag", "Last-Modified"} {
		delete(r.Header, name)
	}
	r.Header["Content-Length"] = []string{"0"}
	r.Header["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
	r.noBody()
}

// announced are the names of trailer fields, whose values come after the body.
func announced(names []string) http.Header {
	if len(names) == 0 {
		return nil
	}
	h := make(http.Header, len(names))
	for _, name := range names {
		h[name] = nil
	}
	return h
}
