package export

import (
	"cmp"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// syslog writes RFC 5424 messages of the facility "log audit" (13).
//
//	<110>1 2026-11-02T08:30:00.123456Z gw-1 sallyport 4 decision [sallyport@32473 id="…" log="decision" seq="41" …] {…}
//
// HOSTNAME is the replica, PROCID the number of the gateway's run, MSGID the type and code. What cannot stand in such a
// field is "-". The message is the record as JSON or CEF. JSON is in ASCII, with everything else escaped: receivers that
// hand it to a JSON parser need not know of the byte order mark, which RFC 5424 §6.4 demands in front of UTF-8. CEF gets
// one when it goes beyond ASCII.
//
// A message ends with a line feed (RFC 6587 §3.4.2), or begins with its length and a blank (§3.4.1, RFC 5425 §4.3). It is
// as long as its record, up to some 64 KiB: receivers must be told to accept that, since §6.1 obliges them to 2,048 bytes.
type syslog struct {
	from       *source
	cef        *cef // nil: messages are JSON
	counted    bool
	enterprise string
	table      map[kind]*Event
}

const (
	facility    = 13 // "log audit", RFC 5424 §6.2.1
	documenting = 32473
)

// The longest fields of the header, RFC 5424 §6.
const (
	maxHostname = 255
	maxProcID   = 128
	maxMsgID    = 32
)

func newSyslog(o Options) (*syslog, error) {
	f := &syslog{from: o.source(), counted: o.OctetCounting, table: eventTable(),
		enterprise: strconv.FormatUint(uint64(cmp.Or(o.Enterprise, documenting)), 10)}
	switch o.Message {
	case "", JSONL:
	case CEF:
		f.cef = newCEF(o)
	default:
		return nil, fmt.Errorf("syslog messages are %s or %s, not %q", JSONL, CEF, o.Message)
	}
	return f, nil
}

// Header implements Encoder.
func (*syslog) Header() []byte { return nil }

// countRoom is what the longest length takes, with its blank.
const countRoom = len("1048576 ")

// Append implements Encoder.
func (f *syslog) Append(dst []byte, e audit.Entry) (_ []byte, err error) {
	start := len(dst)
	if f.counted {
		dst = append(dst, "        "[:countRoom]...)
	}
	from := len(dst)
	if dst, err = f.message(dst, e); err != nil {
		return dst[:start], err
	}
	if !f.counted {
		return append(dst, '\n'), nil
	}
	count := append(strconv.AppendInt(make([]byte, 0, countRoom), int64(len(dst)-from), 10), ' ')
	copy(dst[start+copy(dst[start:], count):], dst[from:])
	return dst[:len(dst)-countRoom+len(count)], nil
}

func (f *syslog) message(dst []byte, e audit.Entry) ([]byte, error) {
	r, err := f.from.read(e)
	if err != nil {
		return dst, err
	}
	defer f.from.release(r)
	dst = f.header(dst, &r.view)
	dst = f.data(append(dst, ' '), &r.view)
	dst = append(dst, ' ')
	if f.cef == nil {
		return appendASCII(dst, r.line), nil
	}
	from := len(dst)
	dst = f.cef.message(dst, &r.row)
	for _, b := range dst[from:] {
		if b >= utf8.RuneSelf {
			marked := append([]byte("\ufeff"), dst[from:]...)
			return append(dst[:from], marked...), nil
		}
	}
	return dst, nil
}

// header writes PRI to MSGID.
func (f *syslog) header(dst []byte, v *view) []byte {
	dst = append(dst, '<')
	dst = strconv.AppendInt(dst, facility*8+syslogSeverity(v.severity(v.event(f.table))), 10)
	dst = append(dst, ">1 "...)
	if t, err := time.Parse(time.RFC3339Nano, peek.Text(v.time)); err == nil {
		dst = t.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z") // §6.2.3: at most six digits
	} else {
		dst = append(dst, '-')
	}
	dst = appendName(append(dst, ' '), peek.Text(v.replica), maxHostname)
	dst = append(dst, " sallyport "...)
	dst = appendName(dst, peek.Member(v.boot, "n"), maxProcID)
	return appendName(append(dst, ' '), signature(v), maxMsgID)
}

// syslogSeverity is the severity of RFC 5424 §6.2.1.
func syslogSeverity(s Severity) int64 {
	switch {
	case s >= Critical:
		return 2 // critical
	case s >= High:
		return 3 // error
	case s >= Medium:
		return 4 // warning
	case s >= Low:
		return 5 // notice
	}
	return 6 // informational
}

// appendName appends a field of the header: printable ASCII, not too long, "-" where that leaves nothing.
func appendName(dst []byte, name string, longest int) []byte {
	from := len(dst)
	for i := 0; i < len(name) && len(dst)-from < longest; i++ {
		if name[i] > ' ' && name[i] < 0x7f {
			dst = append(dst, name[i])
		}
	}
	if len(dst) == from {
		return append(dst, '-')
	}
	return dst
}

// data writes the structured data: what receivers route and correlate by.
func (f *syslog) data(dst []byte, v *view) []byte {
	dst = append(append(dst, "[sallyport@"...), f.enterprise...)
	for _, p := range [...][2]string{{"id", v.id}, {"log", v.log}, {"seq", v.seq}, {"type", v.typ}, {"code", v.code}, {"app", v.app},
		{"effect", v.effect}, {"reason", v.reason}, {"request_id", v.requestID}, {"session", v.session}} {
		value := shown(p[1])
		if value == "" {
			continue
		}
		dst = append(append(append(dst, ' '), p[0]...), `="`...)
		for i := range len(value) {
			if b := value[i]; b == '"' || b == '\\' || b == ']' { // §6.3.3
				dst = append(dst, '\\')
			}
			dst = append(dst, value[i])
		}
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

// appendASCII appends JSON with everything beyond ASCII escaped, which can occur in strings only.
func appendASCII(dst []byte, json string) []byte {
	for _, r := range json {
		if r < utf8.RuneSelf {
			dst = append(dst, byte(r))
		} else {
			dst = peek.AppendEscape(dst, r)
		}
	}
	return dst
}
