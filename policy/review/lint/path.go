package lint

import (
	"path"
	"regexp/syntax"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

const pathField = "input.resource.path"

// findLoosePrefix tells tests of a path that hold for neighbours of the folder that is meant.
func findLoosePrefix(p *pass) {
	p.calls(func(c call) {
		if len(c.args) != 2 || c.field(c.args[0]) != pathField {
			return
		}
		switch c.op {
		case "startswith", "strings.any_prefix_match":
			for _, v := range p.texts(c.branch, c.args[1]) {
				if !strings.HasSuffix(v, "/") {
					p.at(c.at, "write \""+v+"/\", and test the path \""+v+"\" itself with ==", "%q is also the beginning of %q", v, v+"-other")
					return
				}
			}
		case "contains", "endswith", "strings.any_suffix_match":
			for _, v := range p.texts(c.branch, c.args[1]) {
				p.at(c.at, "test where the path begins, or input.resource.segments", "%s(…, %q) holds for paths anywhere in the app", c.op, v)
				return
			}
		}
	})
}

// texts are the constant strings of a term or, if it is a list, in it.
func (p *pass) texts(b *branch, t *ast.Term) (list []string) {
	for _, v := range append(p.values(b, t), p.elements(b, t)...) {
		if s, ok := text(v); ok {
			list = append(list, s)
		}
	}
	return list
}

// findPathForm tells paths that no canonical path is equal to or begins with.
func findPathForm(p *pass) {
	tell := func(c call, v string) {
		if why := pathFault(v); why != "" {
			p.at(c.at, "", "%q %s: no request has such a path", v, why)
		}
	}
	p.comparisons(func(c comparison) {
		for _, v := range c.values {
			if s, ok := text(v); ok && c.field == pathField {
				tell(c.call, s)
			}
		}
	})
	p.calls(func(c call) {
		if len(c.args) == 2 && (c.op == "startswith" || c.op == "strings.any_prefix_match") && c.field(c.args[0]) == pathField {
			for _, v := range p.texts(c.branch, c.args[1]) {
				tell(c, v)
			}
		}
	})
}

// pathFault says why a text is no canonical path; see package gateway/canon.
func pathFault(v string) string {
	switch {
	case !strings.HasPrefix(v, "/"):
		return "does not begin with a slash"
	case strings.Contains(v, "%"):
		return "is encoded, and paths are compared decoded"
	case strings.ContainsAny(v, "?#"):
		return "holds more than a path"
	case strings.ContainsAny(v, "*"):
		return "looks like a pattern, and is compared as it stands"
	case path.Clean(v) != strings.TrimSuffix(v, "/") && v != "/":
		return "is not canonical (" + path.Clean(v) + ")"
	}
	return ""
}

// findLooseRegex tells patterns that need only match somewhere in the text.
func findLooseRegex(p *pass) {
	p.calls(func(c call) {
		if c.op != "regex.match" || len(c.args) != 2 || !strings.HasPrefix(c.field(c.args[1]), "input.") {
			return
		}
		for _, v := range p.values(c.branch, c.args[0]) {
			pattern, _ := text(v)
			parsed, err := syntax.Parse(pattern, syntax.Perl)
			if err != nil {
				p.at(c.at, "", "%q is no pattern: %v", pattern, err)
				continue
			}
			if missing := loose(parsed.Simplify(), c.field(c.args[1]) == pathField); missing != "" {
				p.at(c.at, "begin the pattern with ^ and end it with $, around alternatives in parentheses", "%q matches %s", pattern, missing)
			}
		}
	})
}

// loose says where a pattern leaves room; empty when it does not. A path may go on after a slash.
func loose(re *syntax.Regexp, isPath bool) string {
	switch {
	case !anchored(re, true, isPath) && !anchored(re, false, isPath):
		return "anywhere in a text"
	case !anchored(re, true, isPath):
		return "whatever comes before"
	case !anchored(re, false, isPath):
		return "whatever comes after"
	}
	return ""
}

// anchored reports whether every match lies at the begin or at the end of the text, or whether the pattern says itself
// that anything may be there.
func anchored(re *syntax.Regexp, begin, isPath bool) bool {
	edge := func(list []*syntax.Regexp) *syntax.Regexp {
		if begin {
			return list[0]
		}
		return list[len(list)-1]
	}
	switch re.Op {
	case syntax.OpBeginText:
		return begin
	case syntax.OpEndText:
		return !begin
	case syntax.OpConcat:
		return anchored(edge(re.Sub), begin, isPath)
	case syntax.OpCapture:
		return anchored(re.Sub[0], begin, isPath)
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if !anchored(sub, begin, isPath) {
				return false
			}
		}
		return true
	case syntax.OpStar, syntax.OpPlus:
		return !begin && (re.Sub[0].Op == syntax.OpAnyChar || re.Sub[0].Op == syntax.OpAnyCharNotNL)
	case syntax.OpLiteral:
		return !begin && isPath && re.Rune[len(re.Rune)-1] == '/'
	}
	return false
}

// methods are those of RFC 9110 §9, RFC 5789 and WebDAV (RFC 4918).
var methods = strings.Fields("GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH PURGE QUERY")

// findMethod tells methods that are misspelt.
func findMethod(p *pass) {
	p.comparisons(func(c comparison) {
		if c.field != "input.action.method" {
			return
		}
		for _, v := range c.values {
			if name, ok := text(v); ok {
				if fault := methodFault(name); fault != "" {
					p.at(c.at, suggestion(name, methods), "%q is no method of HTTP%s", name, fault)
				}
			}
		}
	})
	p.eachRule(func(app *policy.App, place int, r *policy.Rule) {
		for _, name := range r.Methods {
			if fault := methodFault(name); fault != "" {
				p.access(app, place, "methods", suggestion(name, methods), "%q is no method of HTTP%s", name, fault)
			}
		}
	})
}

// methodFault says what is wrong with a method; a method that resembles none that is known is its author's own.
func methodFault(name string) string {
	switch {
	case contains(methods, name):
		return ""
	case contains(methods, strings.ToUpper(name)):
		return ": they are written in capitals"
	case nearest(name, methods) != "":
		return " that anybody uses"
	}
	return ""
}
