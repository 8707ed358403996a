package export

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// scrub replaces what looks like an e-mail or IP address in a text. It would rather take a version number for an address
// than an address for something else.
func (r *Redactor) scrub(text string) string {
	if strings.IndexByte(text, '@') >= 0 || strings.Contains(text, "%40") {
		text = r.scrubEmails(text)
	}
	if strings.Count(text, ".") >= 3 || strings.Count(text, ":") >= 2 {
		text = r.scrubAddresses(text)
	}
	return text
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

// scrubRun looks at characters that all may be of an address: for an address with what a sentence puts behind it, one
// with a port, or a dotted one behind letters.
func (r *Redactor) scrubRun(run string) string {
	trimmed := strings.TrimRight(run, ".:")
	if addr, err := netip.ParseAddr(trimmed); err == nil {
		return r.mark(addr.String()) + run[len(trimmed):]
	}
	if at, err := netip.ParseAddrPort(trimmed); err == nil {
		return r.mark(at.Addr().String()) + run[strings.LastIndexByte(trimmed, ':'):]
	}
	if unled := strings.TrimLeft(run, ".:"); len(unled) < len(run) && strings.Count(unled, ".") >= 3 {
		return run[:len(run)-len(unled)] + r.scrubRun(unled)
	}
	for i := range len(run) {
		if isDigit(run[i]) && (i > 0 && !isDotted(run[i-1])) && strings.Count(run[i:], ".") >= 3 {
			return run[:i] + r.scrubRun(run[i:])
		}
	}
	return run
}

func isAddress(b byte) bool {
	return isDigit(b) || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F' || b == ':' || b == '.'
}

func isDotted(b byte) bool { return isDigit(b) || b == '.' }

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
