package export

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
	"sync"
)

// Redacted stands for a value that was redacted.
const Redacted = "[redacted]"

// unreadable stands for a field that could not be redacted, and so is left out whole.
const unreadable = "[redacted: unreadable]"

// Redactor replaces personal data in the JSON of records:
//
//   - e-mail addresses, IP addresses, user agents, queries and the like by the names of their fields, wherever those
//     occur, and the names and addresses of actors;
//   - all values of claims and of recorded headers;
//   - the query of a URL;
//   - what looks like an e-mail or IP address in any other text, so that a person's id stays unless it is an address;
//   - the digest of the input, from which the rest could be guessed.
//
// A value becomes [Redacted]; with a key, "[redacted:" and 16 hexadecimal digits of HMAC-SHA-256 over it in lower case, so
// that equal ones stay equal to whoever does not have the key, and nobody without it can try out addresses. Without a
// key, records correlate by ids: subject, session, request and decision ids stay. Field names, the order of fields and
// everything else stay as they are.
//
// The record gets one more member, "redacted": the paths of the fields that were changed. A field that cannot be read is
// replaced whole and named in "redaction_errors"; the record is never lost.
//
// A Redactor may be used from several goroutines.
type Redactor struct {
	key   []byte
	spare sync.Pool // of *redaction
}

// Redact returns a Redactor; key may be nil.
func Redact(key []byte) *Redactor { return &Redactor{key: key} }

// Append appends the redacted form of a record's JSON.
func (r *Redactor) Append(dst, record []byte) []byte {
	w, ok := r.spare.Get().(*redaction)
	if !ok {
		w = &redaction{Redactor: r}
	}
	dst = w.append(dst, borrowed(record))
	w.text, w.out = "", nil
	clear(w.room[:])
	r.spare.Put(w)
	return dst
}

// append is Append; what the redaction holds is used again.
func (w *redaction) append(dst []byte, record string) []byte {
	w.text, w.at, w.depth, w.out = record, 0, 0, dst
	w.path, w.changed, w.failed = w.room[:0], w.changed[:0], w.failed[:0]
	if !w.record() {
		w.out, w.path, w.changed = append(w.out[:len(dst)], '{'), append(w.room[:0], "*"), w.changed[:0]
		w.failed = w.listed(w.failed[:0])
	}
	w.list(`"redacted":[`, w.changed)
	if len(w.failed) > 0 {
		w.list(`"redaction_errors":[`, w.failed)
	}
	return append(w.out, '}')
}

// withoutPort makes a peer the same address whatever port it came from.
func withoutPort(text string) string {
	if strings.IndexByte(text, ':') < 0 || len(text) > longestAddress {
		return text
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().String()
	}
	return text
}

// longestAddress is more than an IP address with zone and port takes.
const longestAddress = 80

// mark is what a value becomes.
func (r *Redactor) mark(value string) string {
	if len(r.key) == 0 {
		return Redacted
	}
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(strings.ToLower(value)))
	return Redacted[:len(Redacted)-1] + ":" + hex.EncodeToString(mac.Sum(nil)[:8]) + "]"
}

// isMarked reports whether a text is what a redacted value became.
func isMarked(text string) bool {
	return strings.HasPrefix(text, Redacted[:len(Redacted)-1]) && strings.HasSuffix(text, "]")
}
