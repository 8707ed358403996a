package policy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Redacted stands for the value of a secret parameter.
const Redacted = "[redacted]"

// Secrets are the names of parameters whose values never enter an input, in lower case.
type Secrets []string

// DefaultSecrets are secret in every app.
var DefaultSecrets = Secrets{"token", "code", "password", "secret", "key", "signature", "access_token", "id_token"}

// With adds an app's own names.
func (s Secrets) With(names ...string) Secrets {
	all := slices.Clone(s)
	for _, n := range names {
		all = append(all, strings.ToLower(n))
	}
	return all
}

// Contains reports whether the parameter's value is secret. Case does not count, and in the spelling of nested
// parameters (user[password], tokens[]) each part is looked at.
func (s Secrets) Contains(name string) bool {
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '[' || r == ']' || r == ' ' }) {
		if slices.ContainsFunc(s, func(secret string) bool { return strings.EqualFold(secret, part) }) {
			return true
		}
	}
	return false
}

// RedactQuery is the query string with the values of secret parameters replaced by Redacted and everything else, order
// and spelling, as it was. Names are compared decoded; a parameter whose name cannot be decoded counts as secret.
// Besides "&" also ";" ends a parameter, for apps that read it so.
func (s Secrets) RedactQuery(query string) string {
	if query == "" {
		return ""
	}
	var b strings.Builder
	b.Grow(len(query))
	for query != "" {
		parameter, separator := query, ""
		if i := strings.IndexAny(query, "&;"); i >= 0 {
			parameter, separator = query[:i], query[i:i+1]
		}
		query = query[len(parameter)+len(separator):]
		raw, value, _ := strings.Cut(parameter, "=")
		name, err := url.QueryUnescape(raw)
		b.WriteString(raw)
		if len(raw) < len(parameter) {
			b.WriteByte('=')
		}
		if value != "" && (err != nil || s.Contains(name)) {
			value = Redacted
		}
		b.WriteString(value)
		b.WriteString(separator)
	}
	return b.String()
}

// Headers picks the allow-listed header fields of a request for Request.Headers: names in lower case, several values
// joined by ", " (RFC 9110 §5.3), secret ones redacted. Credentials are not offered at all.
func (s Secrets) Headers(h http.Header, allowed []string) map[string]string {
	var picked map[string]string
	for _, name := range allowed {
		values := h.Values(name)
		if len(values) == 0 || credential(name) {
			continue
		}
		if picked == nil {
			picked = make(map[string]string, len(allowed))
		}
		value := strings.Join(values, ", ")
		if s.Contains(name) {
			value = Redacted
		}
		picked[strings.ToLower(name)] = value
	}
	return picked
}

// credential reports whether a header field holds one by its definition; no allow-list lets it through.
func credential(name string) bool {
	switch strings.ToLower(name) {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "sallyport-authorization":
		return true
	}
	return false
}
