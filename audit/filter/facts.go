package filter

import (
	"math"
	"net"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// facts is a record as a filter sees it. What lies inside its JSON fields is looked up when it is asked for.
type facts struct {
	record *audit.Record

	input, decision, detail document
}

// document is a JSON field of a record; its text is made when it is first asked for.
type document struct {
	text string
	made bool
}

func (d *document) of(raw []byte) string {
	if !d.made {
		d.text, d.made = string(raw), true
	}
	return d.text
}

// whole is the record with its JSON fields.
func (x *facts) whole() *audit.Record {
	r := *x.record
	r.Input, r.Decision, r.Detail = raw(r.Input, x.input), raw(r.Decision, x.decision), raw(r.Detail, x.detail)
	return &r
}

func raw(have []byte, d document) []byte {
	if len(have) == 0 && d.text != "" {
		return []byte(d.text)
	}
	return have
}

func (x *facts) inInput(path ...string) string {
	return peek.At(x.input.of(x.record.Input), path...)
}

func (x *facts) inDetail(path ...string) string {
	return peek.At(x.detail.of(x.record.Detail), path...)
}

func (x *facts) outcome() audit.Outcome {
	if x.record.Outcome == nil {
		return audit.Outcome{}
	}
	return *x.record.Outcome
}

func (x *facts) actor() audit.Actor {
	if x.record.Actor == nil {
		return audit.Actor{}
	}
	return *x.record.Actor
}

// inputOrDetail is a text of the input or, where a request was refused before there was one, of the detail.
func (x *facts) inputOrDetail(detail string, input ...string) string {
	if value := x.inInput(input...); value != "" {
		return peek.Text(value)
	}
	return peek.Text(x.inDetail(detail))
}

func (x *facts) path() string {
	if value := x.inInput("resource", "path"); value != "" {
		return peek.Text(value)
	}
	path, _, _ := strings.Cut(peek.Text(x.inDetail("target")), "?")
	return path
}

// clientIP is where a request came from, or where from someone did what a control record records.
func (x *facts) clientIP() string {
	if value := x.inInput("context", "client", "ip"); value != "" {
		return peek.Text(value)
	}
	if a := x.actor(); a.Address != "" {
		return a.Address
	}
	if value := x.inDetail("address"); value != "" {
		return peek.Text(value)
	}
	peer := peek.Text(x.inDetail("peer"))
	if host, _, err := net.SplitHostPort(peer); err == nil {
		return host
	}
	return peer
}

func (x *facts) email() string {
	if value := x.inInput("subject", "email"); value != "" {
		return peek.Text(value)
	}
	if a := x.actor(); a.Kind == "user" {
		return a.Name
	}
	return ""
}

// who is what `user` compares with: exact, any case, exact, any case.
func (x *facts) who() []string {
	a := x.actor()
	subject := x.inInput("subject")
	return []string{peek.Text(peek.Member(subject, "id")), peek.Text(peek.Member(subject, "email")), a.ID, a.Name}
}

// isUser reports whether the record is about a decision on that user, or about what that user did. As in audit.Filter,
// nobody is called "".
func (x *facts) isUser(user string) bool {
	a := x.actor()
	if isWho(user, a.ID, a.Name) {
		return true
	}
	subject := x.inInput("subject")
	return subject != "" && isWho(user, peek.Text(peek.Member(subject, "id")), peek.Text(peek.Member(subject, "email")))
}

func isWho(user, id, name string) bool {
	return user != "" && (id == user || strings.EqualFold(name, user))
}

// rules are the ids of the access rules that a decision names.
func (x *facts) rules() []string {
	var rules []string
	for reason := range peek.Elements(peek.Member(x.decision.of(x.record.Decision), "reasons")) {
		if rule := peek.Text(peek.Member(reason, "rule")); rule != "" {
			rules = append(rules, rule)
		}
	}
	return rules
}

func (x *facts) groups() []string { return peek.Texts(x.inInput("subject", "groups")) }

// inGroup is groups without making the list.
func (x *facts) inGroup(group string) bool {
	for value := range peek.Elements(x.inInput("subject", "groups")) {
		if peek.Text(value) == group {
			return true
		}
	}
	return false
}

// signed is n as CEL's int has it; there is no seq beyond.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// shallow reads the plain fields of a record's JSON; input, decision and detail stay as they are. All of it shares the
// line's memory.
func shallow(line string) (*facts, bool) {
	r := new(audit.Record)
	x := &facts{record: r}
	whole := peek.EachMember(line, func(name, value string) bool {
		switch name {
		case "v":
			r.V = int(peek.Int(value))
		case "id":
			r.ID = peek.Text(value)
		case "log":
			r.Log = peek.Text(value)
		case "seq":
			r.Seq = peek.Uint(value)
		case "boot":
			r.Boot = audit.Boot{ID: peek.Text(peek.Member(value, "id")), N: peek.Uint(peek.Member(value, "n"))}
		case "type":
			r.Type = audit.Type(peek.Text(value))
		case "code":
			r.Code = peek.Text(value)
		case "time":
			r.Time, _ = time.Parse(time.RFC3339Nano, peek.Text(value))
		case "replica":
			r.Replica = peek.Text(value)
		case "request_id":
			r.RequestID = peek.Text(value)
		case "session":
			r.Session = peek.Text(value)
		case "app":
			r.App = peek.Text(value)
		case "effect":
			r.Effect = audit.Effect(peek.Text(value))
		case "reason":
			r.Reason = peek.Text(value)
		case "input":
			x.input = document{value, true}
		case "input_digest":
			r.InputDigest = peek.Text(value)
		case "policy":
			r.Policy = audit.Policy{Digest: peek.Text(peek.Member(value, "digest")), Revision: peek.Text(peek.Member(value, "revision"))}
		case "decision":
			x.decision = document{value, true}
		case "memo":
			r.Memo = value == "true"
		case "outcome":
			r.Outcome = shallowOutcome(value)
		case "actor":
			r.Actor = &audit.Actor{Kind: peek.Text(peek.Member(value, "kind")), ID: peek.Text(peek.Member(value, "id")),
				Name: peek.Text(peek.Member(value, "name")), Address: peek.Text(peek.Member(value, "address"))}
		case "detail":
			x.detail = document{value, true}
		}
		return true
	})
	// Fields that are not there are known to be empty.
	x.input.made, x.decision.made, x.detail.made = true, true, true
	return x, whole
}

func shallowOutcome(value string) *audit.Outcome {
	o := new(audit.Outcome)
	for name, value := range peek.Members(value) {
		switch name {
		case "of":
			o.Of = peek.Text(value)
		case "status":
			o.Status = int(peek.Int(value))
		case "bytes_in":
			o.BytesIn = peek.Int(value)
		case "bytes_out":
			o.BytesOut = peek.Int(value)
		case "duration_ns":
			o.DurationNS = peek.Int(value)
		case "cache":
			o.Cache = peek.Text(value)
		case "upstream":
			o.Upstream = peek.Text(value)
		case "attempts":
			o.Attempts = int(peek.Int(value))
		case "error":
			o.Error = peek.Text(value)
		}
	}
	return o
}
