package authn

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// domainForm accepts a domain only in the one spelling that DNS compares: nothing is mapped, so that a full-width dot
// or a ligature is refused rather than turned into the name it imitates (UTS #46 §4, RFC 5891 §4.2).
var domainForm = idna.New(idna.ValidateForRegistration(), idna.VerifyDNSLength(true), idna.StrictDomainName(true))

// EmailDomain is the domain of an e-mail address, lower-case and in A-label form ("xn--…"), ready to be compared byte
// by byte. It is "" for everything but the plain form local@domain: one "@" only, no quoted local part, no comment,
// space or control character, no address literal, no trailing dot. An address that mail software and we might read
// differently belongs to no domain.
func EmailDomain(email string) string {
	local, domain, found := strings.Cut(email, "@")
	if !found || local == "" || len(email) > maxEmail {
		return ""
	}
	if strings.ContainsFunc(email, ambiguousInEmail) || strings.Contains(domain, "@") {
		return ""
	}
	ascii, err := domainForm.ToASCII(strings.ToLower(domain))
	if err != nil || strings.HasSuffix(ascii, ".") || strings.ContainsFunc(ascii, notInHostName) {
		return ""
	}
	return ascii
}

// ambiguousInEmail names the characters that RFC 5322 §3.2.3 gives a meaning of their own or that no mailbox holds.
func ambiguousInEmail(r rune) bool {
	return unicode.IsControl(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar || !unicode.IsPrint(r) ||
		strings.ContainsRune(`"\()<>[]:;,`, r)
}

// notInHostName is everything but the letters, digits and hyphens of RFC 1123 §2.1, and the dots between labels.
func notInHostName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.'
}
