package policy

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendJSON appends the input's one JSON form to b: the fields in the order of their types, map keys sorted, bytes that
// are not UTF-8 replaced by U+FFFD. Strings are escaped where encoding/json escapes them and where a record does, so that
// the bytes stay the same in both: a record's input is what was decided on, and can be decided on again. It does not
// reflect; equal inputs give equal bytes.
func (in *Input) AppendJSON(b []byte) []byte {
	b = append(b, `{"subject":`...)
	if p := in.Subject.ready(); p != nil {
		b = append(b, p.json...)
	} else {
		b = in.Subject.appendJSON(b)
	}
	b = append(b, `,"action":`...)
	b = in.Action.appendJSON(b)
	b = append(b, `,"resource":`...)
	b = in.Resource.appendJSON(b)
	b = append(b, `,"context":`...)
	b = in.Context.appendJSON(b)
	return append(b, '}')
}

func (s *Subject) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"type":`...), s.Type)
	b = appendKnown(b, `,"id":`, s.ID)
	b = appendKnown(b, `,"email":`, s.Email)
	b = strconv.AppendBool(append(b, `,"email_verified":`...), s.EmailVerified)
	b = appendStrings(append(b, `,"groups":`...), s.Groups)
	b = strconv.AppendBool(append(b, `,"groups_incomplete":`...), s.GroupsIncomplete)
	b = appendValue(append(b, `,"claims":`...), s.Claims)
	if s.Authn != nil {
		b = s.Authn.appendJSON(append(b, `,"authn":`...))
	}
	if s.Session != nil {
		b = s.Session.appendJSON(append(b, `,"session":`...))
	}
	if s.Token != nil {
		b = s.Token.appendJSON(append(b, `,"token":`...))
	}
	if s.Device != nil {
		b = s.Device.appendJSON(append(b, `,"device":`...))
	}
	if s.Cert != nil {
		b = s.Cert.appendJSON(append(b, `,"cert":`...))
	}
	b = appendKnown(b, `,"cert_problem":`, s.CertProblem)
	b = append(b, `,"grants":[`...)
	for i := range s.Grants {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.Grants[i].appendJSON(b)
	}
	return append(b, `]}`...)
}

func (a *Authn) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"provider":`...), a.Provider)
	b = appendKnown(b, `,"acr":`, a.ACR)
	b = appendStrings(append(b, `,"amr":`...), a.AMR)
	b = appendKnown(b, `,"time":`, a.Time)
	b = appendAge(b, `,"age_s":`, a.AgeS)
	b = strconv.AppendBool(append(b, `,"mfa":`...), a.MFA)
	return append(b, '}')
}

func (s *Session) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), s.ID)
	b = appendAge(b, `,"age_s":`, s.AgeS)
	b = appendAge(b, `,"idle_s":`, s.IdleS)
	return append(b, '}')
}

func (t *Token) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), t.ID)
	b = appendString(append(b, `,"kind":`...), t.Kind)
	b = appendString(append(b, `,"name":`...), t.Name)
	b = appendStrings(append(b, `,"apps":`...), t.Apps)
	b = appendStrings(append(b, `,"methods":`...), t.Methods)
	b = appendStrings(append(b, `,"scopes":`...), t.Scopes)
	b = appendString(append(b, `,"expires":`...), t.Expires)
	return append(b, '}')
}

func (d *Device) appendJSON(b []byte) []byte {
	start := len(b) + 1
	b = append(b, '{')
	b = appendKnown(b, `,"id":`, d.ID)
	b = appendKnown(b, `,"platform":`, d.Platform)
	b = appendKnown(b, `,"version":`, d.Version)
	b = appendFact(b, `,"managed":`, d.Managed)
	b = appendFact(b, `,"compliant":`, d.Compliant)
	b = appendFact(b, `,"encrypted":`, d.Encrypted)
	b = appendKnown(b, `,"source":`, d.Source)
	b = appendAge(b, `,"age_s":`, d.AgeS)
	if len(b) > start { // every field is optional: the first one's comma goes
		b = slices.Delete(b, start, start+1)
	}
	return append(b, '}')
}

func (c *Cert) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"fingerprint":`...), c.Fingerprint)
	b = appendString(append(b, `,"subject":`...), c.Subject)
	b = appendString(append(b, `,"issuer":`...), c.Issuer)
	b = appendString(append(b, `,"serial":`...), c.Serial)
	b = appendStrings(append(b, `,"dns_names":`...), c.DNSNames)
	b = appendStrings(append(b, `,"emails":`...), c.Emails)
	b = appendStrings(append(b, `,"uris":`...), c.URIs)
	b = appendString(append(b, `,"not_after":`...), c.NotAfter)
	return append(b, '}')
}

func (g *Grant) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), g.ID)
	b = appendString(append(b, `,"app":`...), g.App)
	b = appendString(append(b, `,"name":`...), g.Name)
	b = appendKnown(b, `,"expires":`, g.Expires)
	return append(b, '}')
}

func (a *Action) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"name":`...), a.Name)
	b = appendString(append(b, `,"method":`...), a.Method)
	b = appendString(append(b, `,"protocol":`...), a.Protocol)
	b = appendString(append(b, `,"upgrade":`...), a.Upgrade)
	return append(b, '}')
}

func (r *Resource) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"type":`...), r.Type)
	b = appendString(append(b, `,"id":`...), r.ID)
	b = appendStringMap(append(b, `,"labels":`...), r.Labels)
	b = appendString(append(b, `,"sensitivity":`...), r.Sensitivity)
	b = appendString(append(b, `,"owner":`...), r.Owner)
	b = appendString(append(b, `,"host":`...), r.Host)
	b = appendString(append(b, `,"path":`...), r.Path)
	b = appendStrings(append(b, `,"segments":`...), r.Segments)
	b = appendString(append(b, `,"query":`...), r.Query)
	return append(b, '}')
}

func (c *Context) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"time_ns":`...), c.TimeNS, 10)
	b = appendString(append(b, `,"time":`...), c.Time)
	b = appendString(append(b, `,"weekday":`...), c.Weekday)
	b = strconv.AppendInt(append(b, `,"hour":`...), int64(c.Hour), 10)
	b = c.Client.appendJSON(append(b, `,"client":`...))
	if c.TLS != nil {
		b = c.TLS.appendJSON(append(b, `,"tls":`...))
	}
	b = c.Request.appendJSON(append(b, `,"request":`...))
	if c.Shield != nil {
		b = c.Shield.appendJSON(append(b, `,"shield":`...))
	}
	return append(b, '}')
}

func (c *Client) appendJSON(b []byte) []byte {
	start := len(b) + 1
	b = append(b, '{')
	b = appendKnown(b, `,"ip":`, c.IP)
	b = appendKnown(b, `,"zone":`, c.Zone)
	b = appendKnown(b, `,"country":`, c.Country)
	if len(b) > start {
		b = slices.Delete(b, start, start+1)
	}
	return append(b, '}')
}

func (t *TLS) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"version":`...), t.Version)
	b = appendString(append(b, `,"cipher":`...), t.Cipher)
	b = appendString(append(b, `,"sni":`...), t.SNI)
	b = appendString(append(b, `,"alpn":`...), t.ALPN)
	return append(b, '}')
}

func (r *Request) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), r.ID)
	b = appendString(append(b, `,"content_type":`...), r.ContentType)
	if r.ContentLength != nil {
		b = strconv.AppendInt(append(b, `,"content_length":`...), *r.ContentLength, 10)
	}
	b = appendString(append(b, `,"user_agent":`...), r.UserAgent)
	b = appendString(append(b, `,"origin":`...), r.Origin)
	b = appendString(append(b, `,"fetch_site":`...), r.FetchSite)
	b = strconv.AppendBool(append(b, `,"cross_origin":`...), r.CrossOrigin)
	b = appendFact(b, `,"cross_site_unsafe":`, r.CrossSiteUnsafe)
	b = appendStringMap(append(b, `,"headers":`...), r.Headers)
	return append(b, '}')
}

func (s *Shield) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"score":`...), int64(s.Score), 10)
	b = append(b, `,"rules":[`...)
	for i, id := range s.Rules {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id, 10)
	}
	b = appendString(append(b, `],"body":`...), s.Body)
	b = strconv.AppendBool(append(b, `,"timeout":`...), s.Timeout)
	return append(b, '}')
}

// appendKnown appends key and s unless s is not known. The key brings its comma.
func appendKnown(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(append(b, key...), s)
}

func appendAge(b []byte, key string, a Age) []byte {
	if !a.known {
		return b
	}
	return strconv.AppendInt(append(b, key...), a.seconds, 10)
}

func appendFact(b []byte, key string, fact *bool) []byte {
	if fact == nil {
		return b
	}
	return strconv.AppendBool(append(b, key...), *fact)
}

func appendStrings(b []byte, ss []string) []byte {
	b = append(b, '[')
	for i, s := range ss {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

func appendStringMap(b []byte, m map[string]string) []byte {
	b = append(b, '{')
	var space [16]string
	keys := sortedKeys(space[:0], m)
	if !slices.ContainsFunc(keys, isNotUTF8) {
		return append(appendPairs(b, keys, m), '}')
	}
	m = withCleanKeys(m)
	return append(appendPairs(b, sortedKeys(space[:0], m), m), '}')
}

func isNotUTF8(s string) bool { return !utf8.ValidString(s) }

func appendPairs(b []byte, keys []string, m map[string]string) []byte {
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		b = appendString(b, m[k])
	}
	return b
}

// sortedKeys appends m's keys to space in order; in most inputs that costs no allocation.
func sortedKeys[V any](space []string, m map[string]V) []string {
	for k := range m {
		space = append(space, k)
	}
	slices.Sort(space)
	return space
}

// appendValue appends a claim's value. Types that are no JSON values become null.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return appendString(b, v)
	case []string:
		return appendStrings(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, e)
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		if len(v) > 0 {
			v = cleanKeys(v)
			var space [16]string
			for i, k := range sortedKeys(space[:0], v) {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendString(b, k)
				b = append(b, ':')
				b = appendValue(b, v[k])
			}
		}
		return append(b, '}')
	}
	if n, ok := number(v); ok {
		return append(b, n...)
	}
	return append(b, "null"...)
}

// number is the JSON form of a number claim.
func number(v any) (string, bool) {
	switch v := v.(type) {
	case json.Number:
		return string(v), isNumber(string(v))
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "", false
		}
		if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
			return strconv.FormatFloat(v, 'e', -1, 64), true
		}
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// isNumber reports whether s is a number of RFC 8259 §6.
func isNumber(s string) bool {
	if s == "" || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
		return false
	}
	return json.Valid([]byte(s))
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string (RFC 8259 §7). Besides what must be escaped it escapes <, > and &, as
// encoding/json does, and what is not printable or does not say what it was: records hold neither, and would spell it so.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			b = appendEscaped(b, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if !shown(r) {
			b = append(b, s[start:i]...)
			b = appendUnit(b, r)
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '\\', '"':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return appendUnit(b, rune(c))
}

// appendUnit escapes a character by number, those beyond the first plane as two UTF-16 surrogates.
func appendUnit(b []byte, r rune) []byte {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return appendUnit(appendUnit(b, high), low)
	}
	return append(b, '\\', 'u', hexDigits[r>>12], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}

// unitSize is the length of what appendUnit appends.
func unitSize(r rune) int { return len(`\uffff`) * max(1, utf16.RuneLen(r)) }

// shown reports whether a character beyond ASCII stands for itself. U+FFFD does not: it may have been anything.
func shown(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }

// plain are the ASCII characters that stand for themselves.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c < 0x7f && !bytes.ContainsRune([]byte(`"\<>&`), rune(c))
	}
	return t
}()
