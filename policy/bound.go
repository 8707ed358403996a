package policy

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// Limits of an input, so that with its decision it always fits one record (60 KiB). Sizes are those of the JSON form:
// a byte that must be escaped counts as long as its escape.
const (
	MaxInput      = 55 << 10 // what the others add up to, with 1 KiB for the names of the fields
	MaxPath       = 4 << 10
	MaxQuery      = 8 << 10
	MaxGroups     = 500
	MaxGroupBytes = 24 << 10
	MaxHeaders    = 4 << 10 // all allow-listed headers together
	maxSegments   = 5 << 10 // a path of many short segments is longer in pieces
	maxClaims     = 3 << 10
	maxLabels     = 1 << 10
	maxGrants     = 1 << 10
	maxSmall      = 4 << 10 // everything else together
	maxCert       = 2 << 10 // of it, a certificate
	maxWord       = 512     // each other string
	maxCut        = 256     // each string that is cut
)

// TooLargeError says that a request cannot be decided because it cannot be recorded.
type TooLargeError struct {
	Field string // the input field; input for all short ones together
	Limit int    // in bytes of JSON
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s is longer than %d bytes", e.Field, e.Limit)
}

// Bound makes the input fit its record and well-formed: bytes that are not UTF-8 become U+FFFD; groups beyond
// MaxGroups or MaxGroupBytes are dropped and groups_incomplete is set; claims, grants and headers beyond their limit
// are dropped whole, in the order of their names, so that a policy finds them undefined; user agent, content type and
// origin are cut. What cannot be shortened without changing its meaning is a *TooLargeError.
//
// The caller's slices and maps are not changed: an identity may be shared by many inputs.
func (in *Input) Bound() error {
	s, r, q := &in.Subject, &in.Resource, &in.Context.Request
	if s.ready() == nil {
		s.Groups, s.GroupsIncomplete = boundGroups(s.Groups, s.GroupsIncomplete)
		s.Claims = boundClaims(s.Claims)
		s.Grants = boundGrants(s.Grants)
	}
	q.Headers = boundMap(q.Headers, MaxHeaders)
	q.UserAgent, q.ContentType, q.Origin = cut(q.UserAgent), cut(q.ContentType), cut(q.Origin)
	r.Path, r.Query = clean(r.Path), clean(r.Query)

	switch {
	case !fits(r.Path, MaxPath):
		return &TooLargeError{Field: "resource.path", Limit: MaxPath}
	case !fits(r.Query, MaxQuery):
		return &TooLargeError{Field: "resource.query", Limit: MaxQuery}
	case sizes(r.Segments) > maxSegments:
		return &TooLargeError{Field: "resource.segments", Limit: maxSegments}
	case mapSize(r.Labels) > maxLabels:
		return &TooLargeError{Field: "resource.labels", Limit: maxLabels}
	}
	return in.boundWords()
}

// boundWords checks what is short by nature, each and all together.
func (in *Input) boundWords() error {
	words := in.words()
	total := 0
	for i := range words {
		if !fits(words[i].value, maxWord) {
			return &TooLargeError{Field: words[i].field, Limit: maxWord}
		}
		total += sizeAtMost(words[i].value)
	}
	if small, known := in.smallAtMost(); known && total+small <= maxSmall {
		return nil // as nearly every input; the rest is measured
	}
	total = 0
	for i := range words {
		total += size(words[i].value)
	}
	var space [maxSmall]byte
	small := in.Subject.appendSmall(space[:0])
	if total+len(in.Context.appendSmall(small)) > maxSmall {
		return &TooLargeError{Field: "input", Limit: maxSmall}
	}
	return nil
}

type word struct{ field, value string }

func (in *Input) words() [21]word {
	s, a, r, c := &in.Subject, &in.Action, &in.Resource, &in.Context
	return [...]word{
		{"subject.type", s.Type}, {"subject.id", s.ID}, {"subject.email", s.Email}, {"subject.cert_problem", s.CertProblem},
		{"action.name", a.Name}, {"action.method", a.Method}, {"action.protocol", a.Protocol}, {"action.upgrade", a.Upgrade},
		{"resource.type", r.Type}, {"resource.id", r.ID}, {"resource.sensitivity", r.Sensitivity},
		{"resource.owner", r.Owner}, {"resource.host", r.Host},
		{"context.client.ip", c.Client.IP}, {"context.client.zone", c.Client.Zone}, {"context.client.country", c.Client.Country},
		{"context.request.id", c.Request.ID}, {"context.request.fetch_site", c.Request.FetchSite},
		{"context.request.user_agent", c.Request.UserAgent}, {"context.request.content_type", c.Request.ContentType},
		{"context.request.origin", c.Request.Origin},
	}
}

// smallAtMost is at least the size of the small documents, where that is told without writing them.
func (in *Input) smallAtMost() (n int, known bool) {
	s, c := &in.Subject, &in.Context
	switch p := s.ready(); {
	case p != nil:
		n = p.small
	case s.Authn != nil || s.Session != nil || s.Token != nil || s.Device != nil || s.Cert != nil:
		return 0, false
	}
	if t := c.TLS; t != nil {
		n += len(`{"version":,"cipher":,"sni":,"alpn":}`) + sizeAtMost(t.Version) + sizeAtMost(t.Cipher) + sizeAtMost(t.SNI) + sizeAtMost(t.ALPN)
	}
	return n, c.Shield == nil
}

// Fits reports whether the certificate fits an input. It cannot be shortened without becoming another one.
func (c *Cert) Fits() bool { return len(c.appendJSON(nil)) <= maxCert }

// appendSmall appends the subject's small documents, to measure them.
func (s *Subject) appendSmall(b []byte) []byte {
	if s.Authn != nil {
		b = s.Authn.appendJSON(b)
	}
	if s.Session != nil {
		b = s.Session.appendJSON(b)
	}
	if s.Token != nil {
		b = s.Token.appendJSON(b)
	}
	if s.Device != nil {
		b = s.Device.appendJSON(b)
	}
	if s.Cert != nil {
		b = s.Cert.appendJSON(b)
	}
	return b
}

// appendSmall appends the context's small documents, to measure them.
func (c *Context) appendSmall(b []byte) []byte {
	if c.TLS != nil {
		b = c.TLS.appendJSON(b)
	}
	if c.Shield != nil {
		b = c.Shield.appendJSON(b)
	}
	return b
}

func boundGroups(groups []string, incomplete bool) ([]string, bool) {
	if len(groups) > MaxGroups {
		groups, incomplete = groups[:MaxGroups], true
	}
	length := 0
	for _, g := range groups {
		length += sizeAtMost(g) + len(",")
	}
	if length <= MaxGroupBytes { // even if every byte needed an escape
		return groups, incomplete
	}
	length = 0
	for i, g := range groups {
		if length += size(g) + len(","); length > MaxGroupBytes {
			return groups[:i], true
		}
	}
	return groups, incomplete
}

func boundClaims(claims map[string]any) map[string]any {
	if len(claims) == 0 || len(appendValue(nil, claims)) <= maxClaims {
		return claims
	}
	kept, length := make(map[string]any), len("{}")
	for _, k := range slices.Sorted(maps.Keys(claims)) {
		if length += size(k) + len(appendValue(nil, claims[k])) + len(":,"); length > maxClaims {
			break
		}
		kept[k] = claims[k]
	}
	return kept
}

func boundGrants(grants []Grant) []Grant {
	length := 0
	for i := range grants {
		if length += len(grants[i].appendJSON(nil)) + len(","); length > maxGrants {
			return grants[:i]
		}
	}
	return grants
}

func boundMap(m map[string]string, limit int) map[string]string {
	if mapSize(m) <= limit {
		return m
	}
	kept, length := make(map[string]string), len("{}")
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if length += size(k) + size(m[k]) + len(":,"); length > limit {
			break
		}
		kept[k] = m[k]
	}
	return kept
}

// cut shortens a string that informs but rarely decides.
func cut(s string) string {
	if fits(s, maxCut) {
		return s
	}
	length := len(`""`)
	for i, r := range s {
		if length += size(string(r)) - len(`""`); length > maxCut {
			return s[:i]
		}
	}
	return s
}

// fits reports whether s takes at most limit bytes as a JSON string.
func fits(s string, limit int) bool { return sizeAtMost(s) <= limit || size(s) <= limit }

// sizeAtMost is the size of s if each of its bytes needed the longest escape.
func sizeAtMost(s string) int { return len(`\uffff`)*len(s) + len(`""`) }

// size is the length of s as a JSON string.
func size(s string) int {
	n := len(s) + len(`""`)
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			n += len(appendEscaped(nil, c)) - 1
			i++
			continue
		}
		r, width := utf8.DecodeRuneInString(s[i:])
		if !shown(r) {
			n += unitSize(r) - width
		}
		i += width
	}
	return n
}

func sizes(ss []string) int {
	n := len("[]")
	for _, s := range ss {
		n += size(s) + len(",")
	}
	return n
}

func mapSize(m map[string]string) int {
	n := len("{}")
	for k, v := range m {
		n += size(k) + size(v) + len(":,")
	}
	return n
}

// clean replaces each byte that is not UTF-8 by U+FFFD.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s)+8)
	for _, r := range s { // ranging yields U+FFFD for each bad byte
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// cleanKeys is m with clean keys. Where two become one, the last in byte order stays.
func cleanKeys[V any](m map[string]V) map[string]V {
	for k := range m {
		if !utf8.ValidString(k) {
			return withCleanKeys(m)
		}
	}
	return m
}

func withCleanKeys[V any](m map[string]V) map[string]V {
	cleaned := make(map[string]V, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		cleaned[clean(k)] = m[k]
	}
	return cleaned
}
