package export

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// cef writes the ArcSight Common Event Format, version 0: a header of seven parts and a list of keys with values.
//
// In the header "|" and "\" are escaped, in values "=" and "\" (CEF Implementation Standard, section "Character
// encoding"). Line breaks cannot occur: values hold printable characters only.
type cef struct {
	from    *source
	version string // of the product
	table   map[kind]*Event
}

func newCEF(o Options) *cef { return &cef{o.source(), cmp.Or(o.Version, "unknown"), eventTable()} }

// Header implements Encoder.
func (*cef) Header() []byte { return nil }

// Append implements Encoder.
func (f *cef) Append(dst []byte, e audit.Entry) ([]byte, error) {
	r, err := f.from.read(e)
	if err != nil {
		return dst, err
	}
	defer f.from.release(r)
	return append(f.message(dst, &r.row), '\n'), nil
}

// message appends a record without a line break.
func (f *cef) message(dst []byte, r *row) []byte {
	event := r.event(f.table)
	dst = append(dst, "CEF:0"...)
	for _, part := range [...]string{vendor, product, f.version, signature(&r.view), message(&r.view, event)} {
		dst = appendHeader(append(dst, '|'), part)
	}
	dst = append(dst, '|')
	dst = strconv.AppendInt(dst, cefSeverity(r.severity(event)), 10)
	dst = append(dst, '|')
	return f.extension(dst, r, event)
}

// signature is what CEF calls the event class: the type and, where there is one, the code.
func signature(v *view) string {
	if code := shown(v.code); code != "" {
		return shown(v.typ) + ":" + code
	}
	return shown(v.typ)
}

// cefSeverity is the severity from 0 to 10: CEF calls 0 to 3 low, 4 to 6 medium, 7 and 8 high, 9 and 10 very high.
func cefSeverity(s Severity) int64 { return min(10, 2*int64(s)-1) }

// extension writes what is known, under the names of CEF's dictionary; cs1 to cs6 and flexString1 and 2 are labelled.
func (f *cef) extension(dst []byte, r *row, e *Event) []byte {
	x := extension{dst, len(dst)}
	x.put("rt", strconv.FormatInt(milliseconds(r.time), 10))
	x.put("externalId", shown(r.id))
	x.put("cat", shown(r.typ))
	x.put("act", shown(r.effect))
	x.put("outcome", strings.ToLower(statusNames[r.status(e)]))
	x.put("reason", shown(r.reason))
	x.put("destinationServiceName", shown(r.view.app))
	x.user(r)
	x.addressed(r)
	x.put("requestMethod", shown(r.method))
	x.put("dhost", shown(r.host))
	x.put("request", requested(r))
	x.put("requestClientApplication", shown(r.userAgent))
	if r.outcome != "" {
		x.put("in", shown(peek.Member(r.outcome, "bytes_in")))
		x.put("out", shown(peek.Member(r.outcome, "bytes_out")))
		x.labelled("cn2", "status", shown(peek.Member(r.outcome, "status")))
		x.put("msg", shown(peek.Member(r.outcome, "error")))
	}
	x.put("dvchost", shown(r.replica))
	x.labelled("cn1", "seq", shown(r.seq))
	x.labelled("cs1", "log", shown(r.log))
	x.labelled("cs2", "session", shown(r.session))
	x.labelled("cs3", "request id", shown(r.requestID))
	x.labelled("cs4", "policy", shown(peek.Member(r.policy, "digest")))
	x.labelled("cs5", "rules", r.ruleList())
	x.labelled("cs6", "detail", shown(r.detail))
	x.labelled("flexString1", "redacted", joined(r.redacted))
	x.labelled("flexString2", "outcome of", shown(peek.Member(r.outcome, "of")))
	return x.b
}

// requested is path and query.
func requested(r *row) string {
	if query := shown(r.query); query != "" {
		return r.pathOrTarget() + "?" + query
	}
	return r.pathOrTarget()
}

// extension appends keys with values; what is empty is left out.
type extension struct {
	b     []byte
	start int
}

func (x *extension) put(key, value string) {
	if value == "" {
		return
	}
	if len(x.b) > x.start {
		x.b = append(x.b, ' ')
	}
	x.b = append(append(x.b, key...), '=')
	for i := range len(value) {
		switch value[i] {
		case '=', '\\':
			x.b = append(x.b, '\\', value[i])
		case '\n':
			x.b = append(x.b, '\\', 'n')
		case '\r':
			x.b = append(x.b, '\\', 'r')
		default:
			x.b = append(x.b, value[i])
		}
	}
}

func (x *extension) labelled(key, label, value string) {
	if value != "" {
		x.put(key, value)
		x.put(key+"Label", label)
	}
}

// user writes who asked or acted.
func (x *extension) user(r *row) {
	id, name := r.subjectID, r.email
	if id == "" && name == "" {
		id, name = peek.Member(r.actor, "id"), peek.Member(r.actor, "name")
	}
	x.put("suid", shown(id))
	x.put("suser", shown(name))
}

// addressed writes where from: src holds IPv4 addresses only, c6a2 is "source IPv6 address".
func (x *extension) addressed(r *row) {
	from := shown(r.clientIP)
	if from == "" {
		from = shown(peek.Member(r.actor, "address"))
	}
	ip, port, ok := address(from)
	if !ok {
		x.put("shost", from)
		return
	}
	if addr := netip.MustParseAddr(ip).Unmap(); addr.Is4() {
		x.put("src", addr.String())
	} else {
		x.labelled("c6a2", "source IPv6 address", ip)
	}
	if port > 0 {
		x.put("spt", strconv.FormatInt(port, 10))
	}
}

func appendHeader(dst []byte, part string) []byte {
	for i := range len(part) {
		switch part[i] {
		case '|', '\\':
			dst = append(dst, '\\', part[i])
		case '\n', '\r':
			dst = append(dst, ' ')
		default:
			dst = append(dst, part[i])
		}
	}
	return dst
}
