// Package export writes audit records for other programs: as JSON lines, CSV, OCSF events, CEF and syslog.
//
// A format is an [Encoder]: a pure function from one record to its bytes. [New] makes a [Writer] of it, which is also
// what a format implements that needs more than one record at a time (Parquet). [Run] writes a sequence of records with
// several workers, in order. Identical records and options give identical bytes: nothing here looks at the clock.
//
// Unless Options.Disclose is set, e-mail addresses, IP addresses, user agents and queries are redacted before any format
// sees the record, see [Redact]. Only JSON lines that disclose hold the record's own bytes, which proofs are about.
package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"sallyport/audit"
)

// Writer takes records one after another and writes them. It is used by one goroutine at a time.
//
// Write may keep what it writes to itself until Close, which must be called once, also after an error, and does not close
// what is written to. Of an entry only Raw is used: Record may be nil. After an error nothing more is written.
type Writer interface {
	Write(audit.Entry) error
	Close() error
}

// Encoder turns one record into bytes. It keeps no state, so that records can be encoded at the same time and in any order.
type Encoder interface {
	// Header is what comes before the first record; nil in most formats.
	Header() []byte
	// Append appends one record and what ends it. It fails where the record is not JSON or exceeds a limit of the format.
	Append(dst []byte, e audit.Entry) ([]byte, error)
}

// The formats.
const (
	JSONL  = "jsonl"  // one JSON object a line; with Disclose the record's own bytes
	CSV    = "csv"    // RFC 4180, columns of Options.Columns
	OCSF   = "ocsf"   // one OCSF 1.8.0 event a line
	CEF    = "cef"    // ArcSight Common Event Format, one event a line
	Syslog = "syslog" // RFC 5424, one message a line or octet-counted
)

// Formats are the names of the formats, sorted.
func Formats() []string { return []string{CEF, CSV, JSONL, OCSF, Syslog} }

// Options are what a format can be told. The zero value redacts.
type Options struct {
	// Disclose writes e-mail addresses, IP addresses, user agents, queries and claims instead of redacting them.
	Disclose bool
	// Key makes redacted values comparable: equal values under one key become equal pseudonyms. Without a key every value
	// becomes the same word. See [Redact].
	Key []byte
	// Version is the product version that OCSF, CEF and syslog state; empty is "unknown".
	Version string
	// Columns are the columns of CSV; nil are all of them, see [Columns].
	Columns []string
	// Message is what a syslog message holds: JSONL (the default) or CEF.
	Message string
	// OctetCounting frames syslog messages as RFC 6587 §3.4.1 and RFC 5425 §4.3 do, by their length, instead of by lines.
	OctetCounting bool
	// Enterprise is the private enterprise number in the names of syslog's structured data; 0 is 32473, which RFC 5612
	// sets aside for documentation.
	Enterprise uint32
}

// ErrNotJSON says that what should be a record is not a JSON object.
var ErrNotJSON = errors.New("record is not a JSON object")

// NewEncoder returns the encoder of a format.
func NewEncoder(format string, o Options) (Encoder, error) {
	switch format {
	case JSONL:
		return newJSONL(o), nil
	case OCSF:
		return newOCSF(o), nil
	case CSV:
		return newCSV(o)
	case CEF:
		return newCEF(o), nil
	case Syslog:
		return newSyslog(o)
	}
	return nil, fmt.Errorf("unknown export format %q: it is one of %q", format, Formats())
}

// New returns a writer of a format.
func New(format string, w io.Writer, o Options) (Writer, error) {
	encoder, err := NewEncoder(format, o)
	if err != nil {
		return nil, err
	}
	return NewWriter(w, encoder), nil
}

// NewWriter returns a writer of an encoder's bytes. Its header is written also when no record is.
func NewWriter(w io.Writer, encoder Encoder) Writer {
	return &stream{out: bufio.NewWriterSize(w, streamBuffer), encoder: encoder}
}

const streamBuffer = 256 << 10

// stream is a Writer of records one after another.
type stream struct {
	out     *bufio.Writer
	encoder Encoder
	begun   bool
	buf     []byte
	err     error
}

// Write implements Writer.
func (s *stream) Write(e audit.Entry) error {
	if s.err != nil {
		return s.err
	}
	buf, err := s.encoder.Append(s.buf[:0], e)
	if err != nil {
		s.err = fmt.Errorf("exporting record: %w", err)
		return s.err
	}
	s.buf = buf
	return s.put(buf)
}

// put writes bytes of whole records.
func (s *stream) put(b []byte) error {
	if s.err == nil && !s.begun {
		s.begun = true
		_, s.err = s.out.Write(s.encoder.Header())
	}
	if s.err == nil {
		_, s.err = s.out.Write(b)
	}
	return s.err
}

// Close implements Writer.
func (s *stream) Close() error {
	if err := s.put(nil); err != nil {
		return err
	}
	s.err = s.out.Flush()
	return s.err
}
