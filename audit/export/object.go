package export

import (
	"net/netip"
	"strconv"
	"strings"

	"sallyport/audit/filter/peek"
)

// object appends JSON. Its methods leave out what is empty; those that take foreign values take them as they are spelled
// in the record, and leave them out where they are of another type.
type object struct{ b []byte }

// name begins a member.
func (o *object) name(name string) {
	if last := o.b[len(o.b)-1]; last != '{' && last != '[' {
		o.b = append(o.b, ',', '"')
	} else {
		o.b = append(o.b, '"')
	}
	o.b = append(o.b, name...)
	o.b = append(o.b, '"', ':')
}

// open begins an object or array; end ends it, and takes it back if nothing is in it.
func (o *object) open(name string, bracket byte) (start int) {
	start = len(o.b)
	if name == "" {
		if last := o.b[len(o.b)-1]; last != '{' && last != '[' {
			o.b = append(o.b, ',')
		}
	} else {
		o.name(name)
	}
	o.b = append(o.b, bracket)
	return start
}

func (o *object) end(start int) {
	switch o.b[len(o.b)-1] {
	case '{', '[':
		o.b = o.b[:start]
	default:
		o.close(start)
	}
}

// close ends an object or array that stays when it is empty.
func (o *object) close(start int) {
	bracket := start
	for o.b[bracket] != '{' && o.b[bracket] != '[' {
		bracket++
	}
	o.b = append(o.b, o.b[bracket]+2)
}

// raw appends a value as it is.
func (o *object) raw(name, value string) {
	if value != "" {
		o.name(name)
		o.b = append(o.b, value...)
	}
}

// text appends a value that is a string and not empty.
func (o *object) text(name, value string) {
	if len(value) > 2 && value[0] == '"' {
		o.raw(name, value)
	}
}

// word appends a text of our own.
func (o *object) word(name, text string) {
	if text != "" {
		o.name(name)
		o.b = peek.AppendString(o.b, text)
	}
}

func (o *object) int(name string, n int64) {
	o.name(name)
	o.b = strconv.AppendInt(o.b, n, 10)
}

// number appends a value that is an integer.
func (o *object) number(name, value string) {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		o.int(name, n)
	}
}

func (o *object) truth(name string, is bool) {
	o.name(name)
	o.b = strconv.AppendBool(o.b, is)
}

// isHostname reports whether a text is a name that OCSF takes for a hostname: labels of letters, digits and inner hyphens.
func isHostname(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isAlphanumeric(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

// splitPort is a host without its port, and the port or 0.
func splitPort(host string) (string, int64) {
	name, port, ok := strings.Cut(host, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil {
		return host, 0
	}
	return name, int64(n)
}

// address is an IP address with or without a port, in its one spelling; not ok for anything else.
func address(text string) (ip string, port int64, ok bool) {
	if text == "" || len(text) > longestAddress || isMarked(text) {
		return "", 0, false
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.WithZone("").String(), 0, true
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().WithZone("").String(), int64(at.Port()), true
	}
	return "", 0, false
}
