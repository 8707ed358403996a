// Package condition takes access rules apart: what a rule demands of a request, one condition at a time, in words and as
// a question that a request answers. It says what the shipped Rego says (policies/sallyport/lib/condition.rego), which
// alone decides; a test holds the two together.
package condition

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy"
)

// Kind is what a condition is about.
type Kind string

// The kinds, in the order in which a rule asks: Path and Method say which requests the rule decides, Who names whom it
// admits, the others restrict them.
const (
	Path    Kind = "path"
	Method  Kind = "method"
	Who     Kind = "who"
	Hours   Kind = "hours"
	Network Kind = "network"
	MFA     Kind = "mfa"
	ACR     Kind = "acr"
	MaxAge  Kind = "max_age"
)

// Condition is one demand of a rule.
type Condition struct {
	Kind Kind
	Text string // in words: "in the group staff"
	rule *policy.Rule
}

// Scope reports whether the condition says which requests the rule decides.
func (c Condition) Scope() bool { return c.Kind == Path || c.Kind == Method }

// Of are the conditions of a rule; Who is always among them. timezone is where the rule's hours are meant.
func Of(r *policy.Rule, timezone string) []Condition {
	var list []Condition
	add := func(there bool, kind Kind, text string) {
		if there {
			list = append(list, Condition{kind, text, r})
		}
	}
	add(len(r.Paths) > 0, Path, "the path is "+paths(r.Paths))
	add(len(r.Methods) > 0, Method, "the method is "+or(r.Methods))
	add(true, Who, who(r))
	if r.Hours != nil {
		add(true, Hours, "at "+r.Hours.String()+" ("+timezone+")")
	}
	add(len(r.Networks) > 0, Network, "from "+networks(r.Networks))
	add(r.MFA, MFA, "signed in with more than one factor")
	add(len(r.ACR) > 0, ACR, "signed in with the assurance "+or(r.ACR))
	add(r.MaxAge > 0, MaxAge, "signed in less than "+minutes(r.MaxAge)+" ago")
	return list
}

// Holds reports whether a request meets the condition.
func (c Condition) Holds(in *policy.Input) bool {
	authn := in.Subject.Authn
	if authn == nil {
		authn = new(policy.Authn)
	}
	switch c.Kind {
	case Path:
		return slices.ContainsFunc(c.rule.Paths, func(p string) bool { return covers(p, in.Resource.Path) })
	case Method:
		return slices.ContainsFunc(c.rule.Methods, func(m string) bool {
			return m == in.Action.Method || m == "GET" && in.Action.Method == "HEAD"
		})
	case Who:
		return Admits(c.rule, &in.Subject)
	case Hours:
		return c.rule.Hours.Open(in.Context.Weekday, minuteOf(&in.Context))
	case Network:
		return slices.ContainsFunc(c.rule.Networks, func(n netip.Prefix) bool { return contains(n, in.Context.Client.IP) })
	case MFA:
		return authn.MFA
	case ACR:
		return slices.Contains(c.rule.ACR, authn.ACR)
	case MaxAge:
		age, known := authn.AgeS.Seconds()
		return known && time.Duration(age)*time.Second < c.rule.MaxAge
	}
	panic("BUG: condition of kind " + string(c.Kind))
}

// Admits reports whether a rule names somebody, or everybody.
func Admits(r *policy.Rule, s *policy.Subject) bool {
	if r.Public || slices.ContainsFunc(r.Groups, func(g string) bool { return slices.Contains(s.Groups, g) }) {
		return true
	}
	if !s.EmailVerified || s.Email == "" {
		return false
	}
	email := strings.ToLower(s.Email)
	return slices.ContainsFunc(r.Emails, func(e string) bool { return strings.ToLower(e) == email }) ||
		slices.ContainsFunc(r.Domains, func(d string) bool { return strings.HasSuffix(email, "@"+strings.ToLower(d)) })
}

// Decides reports whether the rule's paths and methods match a request.
func Decides(r *policy.Rule, in *policy.Input) bool {
	for _, c := range Of(r, "") {
		if c.Scope() && !c.Holds(in) {
			return false
		}
	}
	return true
}

// covers tells whether a path of a rule covers that of a request: "/a/b/" is also "/a/b".
func covers(rule, path string) bool {
	trimmed, folder := strings.CutSuffix(rule, "/")
	return path == rule || folder && (strings.HasPrefix(path, rule) || trimmed != "" && path == trimmed)
}

func contains(n netip.Prefix, ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && n.Contains(addr.Unmap())
}

// minuteOf is the minute of the day.
func minuteOf(c *policy.Context) int {
	minute := 0
	if len(c.Time) >= len("2006-01-02T15:04") {
		minute, _ = strconv.Atoi(c.Time[14:16]) // none: the full hour
	}
	return c.Hour*60 + minute
}

// Fact is a field of the input with its value in words; without a value the input does not have it.
type Fact struct {
	Field string `json:"field"`
	Value string `json:"value,omitempty"`
}

// Got is what a request has to show for the condition.
func (c Condition) Got(in *policy.Input) []Fact {
	s := &in.Subject
	authn := s.Authn
	if authn == nil {
		authn = new(policy.Authn)
	}
	switch c.Kind {
	case Path:
		return []Fact{{"resource.path", in.Resource.Path}}
	case Method:
		return []Fact{{"action.method", in.Action.Method}}
	case Who:
		return gotWho(c.rule, s)
	case Hours:
		return []Fact{{"context.time", in.Context.Weekday + " " + clock(minuteOf(&in.Context))}}
	case Network:
		return []Fact{{"context.client.ip", in.Context.Client.IP}}
	case MFA:
		return []Fact{{"subject.authn.mfa", strconv.FormatBool(authn.MFA)}}
	case ACR:
		return []Fact{{"subject.authn.acr", authn.ACR}}
	case MaxAge:
		age := Fact{Field: "subject.authn.age_s"}
		if seconds, known := authn.AgeS.Seconds(); known {
			age.Value = minutes(time.Duration(seconds) * time.Second)
		}
		return []Fact{age}
	}
	panic("BUG: condition of kind " + string(c.Kind))
}

func gotWho(r *policy.Rule, s *policy.Subject) []Fact {
	var facts []Fact
	if r.Public {
		return nil
	}
	if s.Type == policy.TypeAnonymous {
		return []Fact{{"subject.type", s.Type}}
	}
	if len(r.Groups) > 0 {
		facts = append(facts, Fact{"subject.groups", some(s.Groups)})
	}
	if len(r.Emails)+len(r.Domains) > 0 {
		email := Fact{"subject.email", s.Email}
		if s.Email != "" && !s.EmailVerified {
			email.Value += " (not verified)"
		}
		facts = append(facts, email)
	}
	return facts
}
