package keyd

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Audience is an origin that assertions may be addressed to: exact (`https://wiki.corp.example:8443`), or with one
// leading wildcard label (`https://*.corp.example`) that stands for exactly one label.
type Audience string

// UnmarshalYAML refuses what is not a valid Audience, with its line.
func (a *Audience) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || !Audience(n.Value).valid() {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: audience %q is not an origin such as "+
			"https://wiki.corp.example:8443 or https://*.corp.example", n.Line, n.Value)}}
	}
	*a = Audience(n.Value)
	return nil
}

// valid accepts canonical https origins only: lower case, no default port, no path.
func (a Audience) valid() bool {
	authority, ok := strings.CutPrefix(string(a), "https://")
	host, port, hasPort := strings.Cut(authority, ":")
	return ok && (!hasPort || validPort(port)) && validHost(strings.TrimPrefix(host, "*."))
}

// matches compares bytes, not URLs: an origin spelled in another way is another audience.
func (a Audience) matches(origin string) bool {
	suffix, wild := strings.CutPrefix(string(a), "https://*")
	if !wild {
		return origin == string(a)
	}
	rest, ok := strings.CutPrefix(origin, "https://")
	label, ok2 := strings.CutSuffix(rest, suffix)
	return ok && ok2 && validLabel(label)
}

// validPort accepts 1 to 65535 in canonical decimal, except https's own 443, which an origin leaves out.
func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n != 0 && n != 443 && strconv.FormatUint(n, 10) == s
}

// validHost accepts a lower-case DNS name without a trailing dot.
func validHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

// validLabel accepts letters, digits and inner hyphens: RFC 1123 §2.1.
func validLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
