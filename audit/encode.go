package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// timeFormat is RFC 3339 in UTC with all nine digits, so that times also sort as text.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

// maxSeqDigits is the room that the longest seq takes in a record.
const maxSeqDigits = 20

// stamp is what the log adds to a caller's record, all but seq.
type stamp struct {
	id      string
	log     string
	boot    Boot
	time    time.Time
	replica string
}

// appendRecord appends r's JSON without its seq, which only the committer knows, and returns where that goes. It uses
// no reflection and holds no lock. An error is ErrInvalid.
func appendRecord(dst []byte, r *Record, s *stamp) (line []byte, seqAt int, err error) {
	if !r.Type.known() {
		return dst, 0, fmt.Errorf("%w: type %q", ErrInvalid, r.Type)
	}
	start := len(dst)
	e := encoder{buf: dst}
	e.buf = append(e.buf, `{"v":1,"id":`...)
	e.buf = appendString(e.buf, s.id)
	e.string(`,"log":`, s.log)
	e.buf = append(e.buf, `,"seq":`...)
	seqAt = len(e.buf)
	e.string(`,"boot":{"id":`, s.boot.ID)
	e.uint(`,"n":`, s.boot.N)
	e.string(`},"type":`, string(r.Type))
	e.optional(`,"code":`, r.Code)
	e.buf = appendTime(append(e.buf, `,"time":"`...), s.time)
	e.string(`","replica":`, s.replica)
	e.optional(`,"request_id":`, r.RequestID)
	e.optional(`,"session":`, r.Session)
	e.optional(`,"app":`, r.App)
	e.optional(`,"effect":`, string(r.Effect))
	e.optional(`,"reason":`, r.Reason)
	if input := e.input(r); input != nil {
		e.digest(`,"input_digest":"`, input)
	}
	if r.Policy != (Policy{}) {
		e.string(`,"policy":{"digest":`, r.Policy.Digest)
		e.optional(`,"revision":`, r.Policy.Revision)
		e.buf = append(e.buf, '}')
	}
	e.raw(`,"decision":`, r.Decision)
	if r.Memo {
		e.buf = append(e.buf, `,"memo":true`...)
	}
	e.outcome(r.Outcome)
	e.actor(r.Actor)
	e.raw(`,"detail":`, r.Detail)
	e.buf = append(e.buf, '}')
	if e.err != nil {
		return dst, 0, fmt.Errorf("%w: %w", ErrInvalid, e.err)
	}
	if size := len(e.buf) - start + maxSeqDigits; size > MaxRecord {
		return dst, 0, fmt.Errorf("%w: %d bytes, more than %d", ErrInvalid, size, MaxRecord)
	}
	return e.buf, seqAt, nil
}

// encoder appends fields; each method takes the punctuation and name that come before the value. The first error stays.
type encoder struct {
	buf []byte
	err error
}

func (e *encoder) string(name, value string) {
	e.buf = appendString(append(e.buf, name...), value)
}

func (e *encoder) optional(name, value string) {
	if value != "" {
		e.string(name, value)
	}
}

func (e *encoder) int(name string, value int64) {
	e.buf = strconv.AppendInt(append(e.buf, name...), value, 10)
}

func (e *encoder) uint(name string, value uint64) {
	e.buf = strconv.AppendUint(append(e.buf, name...), value, 10)
}

// raw appends a JSON value and returns its bytes as they stand in the record; nil when there are none.
func (e *encoder) raw(name string, value json.RawMessage) []byte {
	if len(value) == 0 || e.err != nil {
		return nil
	}
	e.buf = append(e.buf, name...)
	from := len(e.buf)
	e.buf, e.err = appendRaw(e.buf, value)
	if e.err != nil {
		e.err = fmt.Errorf("%s is %w", name[2:len(name)-2], e.err)
		return nil
	}
	return e.buf[from:]
}

// input appends the input, which writes itself or is there as JSON, and returns its bytes as they stand in the record.
func (e *encoder) input(r *Record) []byte {
	const name = `,"input":`
	if r.Document == nil {
		return e.raw(name, r.Input)
	}
	before := len(e.buf)
	e.buf = append(e.buf, name...)
	from := len(e.buf)
	e.buf = r.Document.AppendJSON(e.buf)
	if input := e.buf[from:]; len(input) > 0 && isPlain(input) {
		return input
	}
	input := bytes.Clone(e.buf[from:])
	e.buf = e.buf[:before]
	if len(input) == 0 {
		e.err = fmt.Errorf("input is %w", errMalformed)
	}
	return e.raw(name, input)
}

func (e *encoder) digest(name string, of []byte) {
	sum := sha256.Sum256(of)
	e.buf = append(append(e.buf, name...), "sha256:"...)
	e.buf = hex.AppendEncode(e.buf, sum[:])
	e.buf = append(e.buf, '"')
}

func (e *encoder) outcome(o *Outcome) {
	if o == nil {
		return
	}
	e.string(`,"outcome":{"of":`, o.Of)
	e.int(`,"status":`, int64(o.Status))
	e.int(`,"bytes_in":`, o.BytesIn)
	e.int(`,"bytes_out":`, o.BytesOut)
	e.int(`,"duration_ns":`, o.DurationNS)
	e.optional(`,"cache":`, o.Cache)
	e.optional(`,"upstream":`, o.Upstream)
	if o.Attempts > 1 {
		e.int(`,"attempts":`, int64(o.Attempts))
	}
	e.optional(`,"error":`, o.Error)
	e.buf = append(e.buf, '}')
}

func (e *encoder) actor(a *Actor) {
	if a == nil {
		return
	}
	e.string(`,"actor":{"kind":`, a.Kind)
	e.string(`,"id":`, a.ID)
	e.optional(`,"name":`, a.Name)
	e.optional(`,"address":`, a.Address)
	e.buf = append(e.buf, '}')
}

// appendLine appends a record's line with its seq in place.
func appendLine(dst, record []byte, seqAt int, seq uint64) []byte {
	dst = append(dst, record[:seqAt]...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, record[seqAt:]...)
	return append(dst, '\n')
}

// appendTime appends t in timeFormat. RFC 3339 without a fraction is the one layout that package time writes fast.
func appendTime(dst []byte, t time.Time) []byte {
	dst = t.UTC().AppendFormat(dst, time.RFC3339)
	dst = append(dst[:len(dst)-len("Z")], ".000000000Z"...)
	ns := t.Nanosecond()
	for i := len(dst) - len("0Z"); ns > 0; i-- {
		dst[i] = byte('0' + ns%10)
		ns /= 10
	}
	return dst
}
