package verify

import (
	"bytes"
	"strconv"
	"time"

	"sallyport/audit"
)

// fields are what is looked at in every record.
type fields struct {
	ours bool // it is of the log and the run that it should be of; else these are here:
	log  string
	boot audit.Boot
	id   []byte // of the record, 36 bytes
	seq  uint64
	kind []byte // type
	code []byte
	unix int64 // time in nanoseconds since 1970
}

const uuidLen = 36

// fieldScanner reads the fields that begin every record. It relies on their order and on plain text in them, which every
// line of ours has (Record in package audit); where that does not hold, or the line is decoded anyway, DecodeRecord says
// whether it is a record. Records of one segment have much in common, and it remembers what.
type fieldScanner struct {
	log   string // what must follow the id of a record of that log
	boot  string // what must follow the seq of a record of that run
	id    string // of the run
	n     uint64
	clock []byte // the last time read, up to its seconds
	unix  int64  // what that is
}

// timeLen is the length of 2006-01-02T15:04:05.000000000Z, secondsLen that of its part up to the seconds.
const (
	timeLen    = len("2006-01-02T15:04:05.000000000Z")
	secondsLen = len("2006-01-02T15:04:05")
)

// begin says which log and run the next records should be of.
func (s *fieldScanner) begin(log, boot string, n uint64) {
	if s.id == boot && s.n == n && s.log != "" {
		return
	}
	s.log = `","log":"` + log + `","seq":`
	s.boot = `,"boot":{"id":"` + boot + `","n":` + strconv.FormatUint(n, 10) + `},"type":"`
	s.id, s.n = boot, n
}

// scan reads the fields of a line.
func (s *fieldScanner) scan(line []byte) (f fields, err error) {
	r := lineScanner{rest: line, ok: true}
	r.skip(`{"v":1,"id":"`)
	f.id = r.take(uuidLen)
	r.skip(s.log)
	f.seq = r.number()
	r.skip(s.boot)
	f.kind = r.until('"')
	if r.has(`,"code":"`) {
		f.code = r.until('"')
	}
	r.skip(`,"time":"`)
	f.unix = s.time(&r)
	r.skip(`","replica":"`)
	if r.ok && line[len(line)-1] == '}' {
		f.ours = true
		return f, nil
	}
	return slowFields(line)
}

// slowFields are the fields of a record of another log or run, or that is none.
func slowFields(line []byte) (fields, error) {
	r, err := audit.DecodeRecord(line)
	if err != nil {
		return fields{}, err
	}
	return fields{id: []byte(r.ID), log: r.Log, seq: r.Seq, boot: r.Boot, kind: []byte(r.Type), code: []byte(r.Code), unix: r.Time.UnixNano()}, nil
}

// time reads a time; most records are of the same second as the one before.
func (s *fieldScanner) time(r *lineScanner) int64 {
	if len(r.rest) < timeLen {
		r.ok = false
		return 0
	}
	b := r.rest[:timeLen]
	r.rest = r.rest[timeLen:]
	if string(b[:secondsLen]) != string(s.clock) {
		s.unix = r.seconds(b)
		s.clock = append(s.clock[:0], b[:secondsLen]...)
		if !r.ok {
			s.clock = s.clock[:0]
			return 0
		}
	}
	if b[secondsLen] != '.' || b[timeLen-1] != 'Z' {
		r.ok = false
	}
	return s.unix*int64(time.Second) + r.digits(b[secondsLen+1:timeLen-1])
}

// lineScanner reads a line from the left; ok stays false once something else was there.
type lineScanner struct {
	rest []byte
	ok   bool
}

func (s *lineScanner) has(text string) bool {
	if len(s.rest) < len(text) || string(s.rest[:len(text)]) != text {
		return false
	}
	s.rest = s.rest[len(text):]
	return true
}

func (s *lineScanner) skip(text string) {
	if !s.has(text) {
		s.ok = false
	}
}

// take reads n bytes of plain text.
func (s *lineScanner) take(n int) []byte {
	if len(s.rest) < n {
		s.ok = false
		return nil
	}
	text := s.rest[:n]
	s.rest = s.rest[n:]
	if bytes.IndexByte(text, '"') >= 0 || bytes.IndexByte(text, '\\') >= 0 {
		s.ok = false
	}
	return text
}

// until reads up to a quote, which must come soon; escapes are not for here.
func (s *lineScanner) until(end byte) []byte {
	const longest = 64
	n := bytes.IndexByte(s.rest[:min(len(s.rest), longest)], end)
	if n < 0 {
		s.ok = false
		return nil
	}
	text := s.rest[:n]
	s.rest = s.rest[n+1:]
	if bytes.IndexByte(text, '\\') >= 0 {
		s.ok = false
	}
	return text
}

func (s *lineScanner) number() (n uint64) {
	digits := 0
	for digits < len(s.rest) && s.rest[digits] >= '0' && s.rest[digits] <= '9' && digits < 19 {
		n = 10*n + uint64(s.rest[digits]-'0')
		digits++
	}
	if digits == 0 || digits > 1 && s.rest[0] == '0' {
		s.ok = false
	}
	s.rest = s.rest[digits:]
	return n
}

// seconds reads the part of a time up to its seconds, as seconds since 1970.
func (s *lineScanner) seconds(b []byte) int64 {
	if b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		s.ok = false
		return 0
	}
	year, month, day := s.digits(b[0:4]), s.digits(b[5:7]), s.digits(b[8:10])
	hour, minute, second := s.digits(b[11:13]), s.digits(b[14:16]), s.digits(b[17:19])
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59 {
		s.ok = false
		return 0
	}
	return daysSince1970(year, month, day)*86400 + hour*3600 + minute*60 + second
}

func (s *lineScanner) digits(b []byte) (n int64) {
	for _, d := range b {
		if d < '0' || d > '9' {
			s.ok = false
		}
		n = 10*n + int64(d-'0')
	}
	return n
}

// daysSince1970 counts in the Gregorian calendar: a year begins in March, so that the leap day is its last.
func daysSince1970(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	of := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return era*146097 + of*365 + of/4 - of/100 + dayOfYear - 719468
}
