package filter

import (
	"time"

	"sallyport/audit/filter/peek"
)

// Field is the name of something that a filter can ask of a record.
type Field string

// Kind is the type of a field's value in CEL.
type Kind string

// The kinds of fields.
const (
	Text  Kind = "string"
	Int   Kind = "int"
	Bool  Kind = "bool"
	Time  Kind = "timestamp"    // also compared with strings: "2026-11-01", "2026-11-01T08:00", "2026-11-01T08:00:00+01:00"
	Texts Kind = "list(string)" // "admins" in groups
	Who   Kind = "user"         // compared with strings by ==, != and in
)

// FieldInfo describes a field for people.
type FieldInfo struct {
	Name Field
	Kind Kind
	Doc  string
}

// field is a field and how to get it.
type field struct {
	FieldInfo
	text   func(*facts) string
	number func(*facts) int64
	truth  func(*facts) bool
	moment func(*facts) time.Time
	list   func(*facts) []string
}

// Fields are all fields, in an order for people. A field that a record does not have is empty, 0 or false.
func Fields() []FieldInfo {
	var all []FieldInfo
	for _, f := range fields() {
		all = append(all, f.FieldInfo)
	}
	return all
}

func text(name Field, get func(*facts) string, doc string) field {
	return field{FieldInfo: FieldInfo{name, Text, doc}, text: get}
}

func number(name Field, get func(*facts) int64, doc string) field {
	return field{FieldInfo: FieldInfo{name, Int, doc}, number: get}
}

func truth(name Field, get func(*facts) bool, doc string) field {
	return field{FieldInfo: FieldInfo{name, Bool, doc}, truth: get}
}

func list(name Field, get func(*facts) []string, doc string) field {
	return field{FieldInfo: FieldInfo{name, Texts, doc}, list: get}
}

// The fields that have a meaning of their own in filters.
const (
	fieldTime = "time"
	fieldUser = "user"
)

func fields() []field {
	return append(recordFields(), append(outcomeFields(), inputFields()...)...)
}

func recordFields() []field {
	return []field{
		{FieldInfo: FieldInfo{fieldTime, Time, "when it was recorded"}, moment: func(x *facts) time.Time { return x.record.Time }},
		text("log", func(x *facts) string { return x.record.Log }, "decision or control"),
		number("seq", func(x *facts) int64 { return signed(x.record.Seq) }, "its place in the log, from 0"),
		text("id", func(x *facts) string { return x.record.ID }, "the record's id"),
		text("type", func(x *facts) string { return string(x.record.Type) }, "decision, reevaluated, outcome, control, heartbeat, recovered or window"),
		text("code", func(x *facts) string { return x.record.Code }, "which kind of control or recovered record, such as sign_in"),
		text("app", func(x *facts) string { return x.record.App }, "the app's name"),
		text("effect", func(x *facts) string { return string(x.record.Effect) }, "allow, deny or reject"),
		text("reason", func(x *facts) string { return x.record.Reason }, "why, in a word such as policy or step_up"),
		text("request_id", func(x *facts) string { return x.record.RequestID }, "the request's id, which pages show as their reference"),
		text("session", func(x *facts) string { return x.record.Session }, "the session's public id"),
		text("policy", func(x *facts) string { return x.record.Policy.Digest }, "digest of the policy that decided"),
		text("revision", func(x *facts) string { return x.record.Policy.Revision }, "revision of that policy"),
		truth("memo", func(x *facts) bool { return x.record.Memo }, "the decision was remembered"),
		list("rules", (*facts).rules, "ids of the access rules that the decision names"),
		text("replica", func(x *facts) string { return x.record.Replica }, "which gateway"),
		text("boot", func(x *facts) string { return x.record.Boot.ID }, "id of the gateway's run"),
		number("boot_n", func(x *facts) int64 { return signed(x.record.Boot.N) }, "number of the gateway's run"),
		{FieldInfo: FieldInfo{fieldUser, Who, "who it is about or who did it: provider|subject, e-mail address in any case, or account name"}},
		text("actor", func(x *facts) string { return x.actor().ID }, "id of who did what a control record records"),
		text("actor_kind", func(x *facts) string { return x.actor().Kind }, "user, service, os or gateway"),
		text("actor_name", func(x *facts) string { return x.actor().Name }, "the actor's e-mail address or account name"),
	}
}

func outcomeFields() []field {
	return []field{
		text("of", func(x *facts) string { return x.outcome().Of }, "of an outcome: id of its decision"),
		number("status", func(x *facts) int64 { return int64(x.outcome().Status) }, "of an outcome: HTTP status that was sent, 0 for none"),
		number("bytes_in", func(x *facts) int64 { return x.outcome().BytesIn }, "of an outcome: body bytes from the client"),
		number("bytes_out", func(x *facts) int64 { return x.outcome().BytesOut }, "of an outcome: body bytes to the client"),
		number("duration_ms", func(x *facts) int64 { return x.outcome().DurationNS / int64(time.Millisecond) }, "of an outcome: whole milliseconds from begin to end"),
		text("cache", func(x *facts) string { return x.outcome().Cache }, "of an outcome: hit, miss, stale, revalidated or bypass"),
		text("upstream", func(x *facts) string { return x.outcome().Upstream }, "of an outcome: the app's address"),
		text("error", func(x *facts) string { return x.outcome().Error }, "of an outcome: how it broke off"),
	}
}

func inputFields() []field {
	input := func(path ...string) func(*facts) string {
		return func(x *facts) string { return peek.Text(x.inInput(path...)) }
	}
	return []field{
		text("subject", input("subject", "id"), "of a decision: provider|subject of who asked"),
		text("subject_type", input("subject", "type"), "of a decision: user, service or anonymous"),
		text("email", (*facts).email, "e-mail address of who asked or signed in, as the provider states it"),
		list("groups", (*facts).groups, "of a decision: groups of who asked"),
		text("provider", input("subject", "authn", "provider"), "of a decision: who vouched for the subject"),
		truth("mfa", func(x *facts) bool { return x.inInput("subject", "authn", "mfa") == "true" }, "of a decision: signed in with several factors"),
		text("action", input("action", "name"), "of a decision: read, write, delete or connect"),
		text("method", func(x *facts) string { return x.inputOrDetail("method", "action", "method") }, "HTTP method"),
		text("host", func(x *facts) string { return x.inputOrDetail("host", "resource", "host") }, "host that was asked"),
		text("path", (*facts).path, "canonical path; of a rejected request as it was sent"),
		text("query", input("resource", "query"), "query, without its secrets"),
		text("client_ip", (*facts).clientIP, "address of the client or of the actor"),
		text("zone", input("context", "client", "zone"), "of a decision: the operator's name for the client's network"),
		text("country", input("context", "client", "country"), "of a decision: the client's country"),
		text("user_agent", func(x *facts) string { return x.inputOrDetail("user_agent", "context", "request", "user_agent") }, "the client's software by its own words"),
	}
}
