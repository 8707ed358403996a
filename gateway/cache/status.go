package cache

import (
	"net/http"
	"strconv"
	"time"
)

// Why a request went to the app, in the words of RFC 9211 §2.2.
const (
	fwdBypass   = "bypass"
	fwdMethod   = "method"
	fwdURIMiss  = "uri-miss"
	fwdVaryMiss = "vary-miss"
	fwdRequest  = "request"
	fwdStale    = "stale"
)

// served says how an answer came about.
type served struct {
	result    Result
	fwd       string // why the app was asked; empty for a hit
	fwdStatus int    // what it said, where the client is told something else
	stored    bool
	collapsed bool
}

// cacheStatus is the Cache-Status member of an answer (RFC 9211); e is nil for what is not stored.
func (s served) cacheStatus(e *Entry, now time.Time) string {
	var room [96]byte
	b := append(room[:0], "sallyport"...)
	if s.fwd == "" {
		b = append(b, "; hit"...)
	} else {
		b = append(append(b, "; fwd="...), s.fwd...)
	}
	if s.fwdStatus != 0 {
		b = strconv.AppendInt(append(b, "; fwd-status="...), int64(s.fwdStatus), 10)
	}
	if e != nil && s.result != Miss {
		b = strconv.AppendInt(append(b, "; ttl="...), int64((e.lifetime-e.age(now))/time.Second), 10)
	}
	if s.stored {
		b = append(b, "; stored"...)
	}
	if s.collapsed {
		b = append(b, "; collapsed"...)
	}
	return string(b)
}

// tell adds how an answer of the app came about. Caches nearer to the app have written before (RFC 9211 §2).
func (s served) tell(h http.Header, now time.Time) {
	h["Cache-Status"] = append(h["Cache-Status"][:len(h["Cache-Status"]):len(h["Cache-Status"])], s.cacheStatus(nil, now))
}
