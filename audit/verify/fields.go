package verify

import (
	"bytes"
	"time"

	"sallyport/audit"
)

// fields are what is looked at in every record.
type fields struct {
	id     []byte // of the record, 36 bytes
	log    []byte
	seq    uint64
	boot   []byte // id of the boot, 36 bytes
	bootN  uint64
	kind   []byte // type
	code   []byte
	unix   int64 // time in nanoseconds since 1970
	opaque bool  // the fast way did not apply
}

const uuidLen = 36

// scanFields reads the fields that begin every record. It relies on their order and on plain text in them, which every
// line of ours has (Record in package audit); where that does not hold, or the line is decoded anyway, DecodeRecord says
// whether it is a record.
func scanFields(line []byte) (f fields, err error) {
	s := lineScanner{rest: line, ok: true}
	s.skip(`{"v":1,"id":"`)
	f.id = s.take(uuidLen)
	s.skip(`","log":"`)
	f.log = s.until('"')
	s.skip(`,"seq":`)
	f.seq = s.number()
	s.skip(`,"boot":{"id":"`)
	f.boot = s.take(uuidLen)
	s.skip(`","n":`)
	f.bootN = s.number()
	s.skip(`},"type":"`)
	f.kind = s.until('"')
	if s.has(`,"code":"`) {
		f.code = s.until('"')
	}
	s.skip(`,"time":"`)
	f.unix = s.time()
	s.skip(`","replica":"`)
	if s.ok && line[len(line)-1] == '}' {
		return f, nil
	}
	r, err := audit.DecodeRecord(line)
	if err != nil {
		return fields{}, err
	}
	return fields{
		id: []byte(r.ID), log: []byte(r.Log), seq: r.Seq, boot: []byte(r.Boot.ID), bootN: r.Boot.N, kind: []byte(r.Type),
		code: []byte(r.Code), unix: r.Time.UnixNano(), opaque: true,
	}, nil
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

// take reads n bytes of hexadecimal digits and hyphens.
func (s *lineScanner) take(n int) []byte {
	if len(s.rest) < n {
		s.ok = false
		return nil
	}
	text := s.rest[:n]
	s.rest = s.rest[n:]
	for _, b := range text {
		if b != '-' && (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			s.ok = false
		}
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

// time reads 2006-01-02T15:04:05.000000000Z.
func (s *lineScanner) time() int64 {
	const length = len("2006-01-02T15:04:05.000000000Z")
	if len(s.rest) < length {
		s.ok = false
		return 0
	}
	b := s.rest[:length]
	s.rest = s.rest[length:]
	if b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[19] != '.' || b[29] != 'Z' {
		s.ok = false
		return 0
	}
	year, month, day := s.digits(b[0:4]), s.digits(b[5:7]), s.digits(b[8:10])
	hour, minute, second, ns := s.digits(b[11:13]), s.digits(b[14:16]), s.digits(b[17:19]), s.digits(b[20:29])
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59 {
		s.ok = false
		return 0
	}
	return (daysSince1970(year, month, day)*86400+hour*3600+minute*60+second)*int64(time.Second) + ns
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
