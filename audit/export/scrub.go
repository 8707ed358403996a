package export

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Text is a text that people wrote, without what looks like an e-mail or IP address.
func (r *Redactor) Text(text string) string { return r.scrub(text) }

// scrub replaces what looks like an e-mail or IP address in a text. It would rather take a version number for an address
// than an address for something else.
func (r *Redactor) scrub(text string) string {
	if strings.IndexByte(text, '@') >= 0 || strings.Contains(text, "%40") {
		text = r.scrubEmails(text)
	}
	if mayHoldAddress(text) {
		text = r.scrubAddresses(text)
	}
	return text
}

// mayHoldAddress is a cheap look: four numbers have three dots, and eight groups seven colons where none are left out.
func mayHoldAddress(text string) bool {
	return strings.Count(text, ".") >= 3 || strings.Contains(text, "::") || strings.Count(text, ":") >= 7
}

// scrubEmails replaces every "local@domain", also with the "@" percent-encoded.
func (r *Redactor) scrubEmails(text string) string {
	var b strings.Builder
	for {
		at, size := strings.IndexByte(text, '@'), 1
		if encoded := strings.Index(text, "%40"); encoded >= 0 && (at < 0 || encoded < at) {
			at, size = encoded, 3
		}
		if at < 0 {
			break
		}
		from, to := at, at+size
		for from > 0 && isLocal(text[from-1]) {
			from--
		}
		for to < len(text) && isDomain(text[to]) {
			to++
		}
		if from == at || to == at+size {
			b.WriteString(text[:at+size])
			text = text[at+size:]
			continue
		}
		b.WriteString(text[:from])
		b.WriteString(r.mark(text[from:at] + "@" + text[at+size:to]))
		text = text[to:]
	}
	b.WriteString(text)
	return b.String()
}

// isLocal is true of what RFC 5322 §3.2.3 allows in a local part without quotes, but for what separates values in our own
// texts and in URLs ("|", "=", "&", "?", "/"), and of everything beyond ASCII (RFC 6531).
func isLocal(b byte) bool {
	return b >= utf8.RuneSelf || isAlphanumeric(b) || strings.IndexByte("!#$%'*+-^_`{}~.", b) >= 0
}

func isDomain(b byte) bool { return b >= utf8.RuneSelf || isAlphanumeric(b) || b == '.' || b == '-' }

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// scrubAddresses replaces every IP address, with or without a port.
func (r *Redactor) scrubAddresses(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if !isAddress(text[i]) {
			b.WriteByte(text[i])
			i++
			continue
		}
		end := i
		for end < len(text) && isAddress(text[end]) {
			end++
		}
		b.WriteString(r.scrubRun(text[i:end]))
		i = end
	}
	return b.String()
}

// scrubRun looks at characters that all may be of an address: for an address, one with a port, one at the end of a
// sentence, one that touches other letters.
func (r *Redactor) scrubRun(run string) string {
	if !mayHoldAddress(run) {
		return run
	}
	for _, candidate := range [...]string{run, strings.TrimRight(run, "."), strings.TrimRight(run, ".:")} {
		if addr, err := netip.ParseAddr(candidate); err == nil {
			return r.mark(addr.String()) + run[len(candidate):]
		}
		if at, err := netip.ParseAddrPort(candidate); err == nil {
			return r.mark(at.Addr().String()) + run[strings.LastIndexByte(candidate, ':'):]
		}
	}
	if from, to := ipv6In(run); from < to {
		return run[:from] + r.mark(run[from:to]) + run[to:]
	}
	return r.scrubIPv4(run)
}

// ipv6In finds an IPv6 address between letters that count as hexadecimal digits: without those of its first and last
// group that are too many for one.
func ipv6In(run string) (from, to int) {
	first, last := strings.IndexByte(run, ':'), strings.LastIndexByte(run, ':')
	if first < 0 || strings.IndexByte(run, '.') >= 0 {
		return 0, 0
	}
	from, to = max(0, first-4), min(len(run), last+5)
	if addr, err := netip.ParseAddr(run[from:to]); err != nil || !addr.Is6() {
		return 0, 0
	}
	return from, to
}

// scrubIPv4 replaces every four numbers with dots between them, whatever they touch.
func (r *Redactor) scrubIPv4(run string) string {
	var b strings.Builder
	for i := 0; i < len(run); {
		n := ipv4At(run[i:])
		if n == 0 {
			b.WriteByte(run[i])
			i++
			continue
		}
		b.WriteString(r.mark(run[i : i+n]))
		i += n
	}
	return b.String()
}

// ipv4At is the length of the IPv4 address that a text begins with, or 0.
func ipv4At(text string) (n int) {
	for part := range 4 {
		value, digits := 0, 0
		for n < len(text) && digits < 3 && isDigit(text[n]) && value*10+int(text[n]-'0') <= 255 {
			value, digits, n = value*10+int(text[n]-'0'), digits+1, n+1
		}
		if digits == 0 {
			return 0
		}
		if part == 3 {
			return n
		}
		if n == len(text) || text[n] != '.' {
			return 0
		}
		n++
	}
	return 0
}

func isAddress(b byte) bool {
	return isDigit(b) || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F' || b == ':' || b == '.'
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
