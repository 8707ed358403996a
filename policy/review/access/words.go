package access

import (
	"regexp"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

// byAccessRule is the condition that the app's access rules allow.
const byAccessRule = "an access rule of the app admits them"

// sentence says a condition that a partial evaluation left: in words where it is a common one, as Rego otherwise.
func sentence(e *ast.Expr, r *policy.Remainder) string {
	if denied := r.Denies(e); denied != nil {
		return "not (" + alternatives(denied, r) + ")"
	}
	text := readable(r.Text(e))
	said := strings.TrimPrefix(text, "not ")
	for _, p := range phrases {
		if m := p.pattern.FindStringSubmatch(said); m != nil {
			words := p.words
			if len(m) > 1 {
				words = strings.ReplaceAll(words, "$1", m[1])
			}
			if said != text {
				return "not " + words
			}
			return words
		}
	}
	return text
}

// alternatives are bodies of a rule, in words.
func alternatives(bodies []ast.Body, r *policy.Remainder) string {
	said := make([]string, len(bodies))
	for i, body := range bodies {
		parts := make([]string, len(body))
		for j, e := range body {
			parts[j] = sentence(e, r)
		}
		said[i] = strings.Join(parts, " and ")
	}
	return strings.Join(said, ", or ")
}

// phrases are conditions that have plain words.
var phrases = []struct {
	pattern *regexp.Regexp
	words   string
}{
	{regexp.MustCompile(`^data\.sallyport\.authz\.access\.allow( = true)?$`), byAccessRule},
	{regexp.MustCompile(`^input\.subject\.authn\.mfa( = true)?$`), "signed in with more than one factor"},
	{regexp.MustCompile(`^"([^"]*)" (?:=|in) input\.subject\.groups(?:\[_\])?$`), "in the group $1"},
	{regexp.MustCompile(`^net\.cidr_contains\("([^"]*)", input\.context\.client\.ip\)$`), "from $1"},
	{regexp.MustCompile(`^input\.subject\.device\.(managed|compliant|encrypted)( = true)?$`), "on a device that is known to be $1"},
	{regexp.MustCompile(`^input\.subject\.type = "([^"]*)"$`), "as a $1"},
	{regexp.MustCompile(`^input\.action\.method = "([^"]*)"$`), "with the method $1"},
	{regexp.MustCompile(`^input\.subject\.email = "([^"]*)"$`), "with the address $1"},
	{regexp.MustCompile(`^input\.context\.weekday = "([^"]*)"$`), "on a $1"},
}

var (
	comparison = regexp.MustCompile(`^(not )?(lt|lte|gt|gte|neq|eq|equal)\((.*), ([^,]*)\)$`)
	membership = regexp.MustCompile(`^(not )?internal\.member_2\((.*), ([^,]*)\)$`)
	local      = regexp.MustCompile(`__local[0-9]+__[0-9]*|_term_[0-9_]+`)
	iteration  = regexp.MustCompile(`\[_[A-Za-z0-9_]*\]`)
)

// readable writes calls as their operators and forgets the names that the compiler gave.
func readable(text string) string {
	if m := comparison.FindStringSubmatch(text); m != nil {
		sign := map[string]string{"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "neq": "!=", "eq": "=", "equal": "="}[m[2]]
		text = m[1] + m[3] + " " + sign + " " + m[4]
	}
	if m := membership.FindStringSubmatch(text); m != nil {
		text = m[1] + m[2] + " in " + m[3]
	}
	return iteration.ReplaceAllString(local.ReplaceAllString(text, "_"), "[_]")
}
