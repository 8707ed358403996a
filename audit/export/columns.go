package export

import (
	"fmt"
	"strconv"
	"strings"

	"sallyport/audit/filter/peek"
)

// Column is a column of CSV.
type Column struct {
	Name string
	Doc  string
	cell func(*row) string
}

// shown makes a cell of a field's value: text in printable characters, anything else as it is spelled.
func shown(value string) string {
	if peek.IsString(value) {
		return peek.Shown(value)
	}
	if value == "null" {
		return ""
	}
	return value
}

func plain(name string, get func(*row) string, doc string) Column {
	return Column{name, doc, func(r *row) string { return shown(get(r)) }}
}

func outcomeColumn(name, doc string) Column {
	return plain(name, func(r *row) string { return peek.Member(r.outcome, name) }, doc)
}

// Columns are all columns, in the order in which they are written unless Options.Columns says otherwise. A cell of a field
// that the record does not have is empty.
func Columns() []Column {
	all := []Column{
		plain("time", func(r *row) string { return r.time }, "when it was recorded, RFC 3339 in UTC with nanoseconds"),
		plain("log", func(r *row) string { return r.log }, "decision or control"),
		plain("seq", func(r *row) string { return r.seq }, "its place in the log, from 0"),
		plain("id", func(r *row) string { return r.id }, "the record's id"),
		plain("type", func(r *row) string { return r.typ }, "decision, reevaluated, outcome, control, heartbeat, recovered or window"),
		plain("code", func(r *row) string { return r.code }, "which kind of control or recovered record"),
		plain("effect", func(r *row) string { return r.effect }, "allow, deny or reject"),
		plain("reason", func(r *row) string { return r.reason }, "why, in a word"),
		plain("app", func(r *row) string { return r.view.app }, "the app's name"),
	}
	all = append(all, requestColumns()...)
	all = append(all, outcomeColumn("of", "of an outcome: id of its decision"), outcomeColumn("status", "of an outcome: HTTP status that was sent, 0 for none"),
		outcomeColumn("bytes_in", "of an outcome: body bytes from the client"), outcomeColumn("bytes_out", "of an outcome: body bytes to the client"),
		Column{"duration_ms", "of an outcome: milliseconds from begin to end", (*row).duration},
		outcomeColumn("cache", "of an outcome: hit, miss, stale, revalidated or bypass"), outcomeColumn("upstream", "of an outcome: the app's address"),
		outcomeColumn("error", "of an outcome: how it broke off"))
	return append(all, recordColumns()...)
}

func requestColumns() []Column {
	return []Column{
		plain("subject", func(r *row) string { return r.subjectID }, "provider|subject of who asked"),
		plain("email", func(r *row) string { return r.email }, "e-mail address of who asked"),
		plain("subject_type", func(r *row) string { return r.subjectType }, "user, service or anonymous"),
		{"groups", "groups of who asked, separated by blanks", (*row).groupList},
		plain("session", func(r *row) string { return r.session }, "the session's public id"),
		plain("request_id", func(r *row) string { return r.requestID }, "the request's id, which pages show as their reference"),
		plain("method", func(r *row) string { return r.method }, "HTTP method"),
		plain("host", func(r *row) string { return r.host }, "host that was asked"),
		{"path", "canonical path; of a rejected request as it was sent", (*row).pathOrTarget},
		plain("query", func(r *row) string { return r.query }, "query, without its secrets"),
		plain("client_ip", func(r *row) string { return r.clientIP }, "address of the client; of a rejected request with its port"),
		plain("country", func(r *row) string { return r.country }, "the client's country"),
		plain("user_agent", func(r *row) string { return r.userAgent }, "the client's software by its own words"),
	}
}

func recordColumns() []Column {
	member := func(object func(*row) string, name string) func(*row) string {
		return func(r *row) string { return peek.Member(object(r), name) }
	}
	policy, actor, boot := func(r *row) string { return r.policy }, func(r *row) string { return r.actor }, func(r *row) string { return r.boot }
	return []Column{
		plain("policy", member(policy, "digest"), "digest of the policy that decided"),
		plain("revision", member(policy, "revision"), "revision of that policy"),
		{"rules", "ids of the access rules that the decision names, separated by blanks", (*row).ruleList},
		plain("memo", func(r *row) string { return r.memo }, "true when the decision was remembered"),
		plain("actor_kind", member(actor, "kind"), "user, service, os or gateway: who did what a control record records"),
		plain("actor_id", member(actor, "id"), "that one's id"),
		plain("actor_name", member(actor, "name"), "that one's e-mail address or account name"),
		plain("actor_address", member(actor, "address"), "where from"),
		plain("replica", func(r *row) string { return r.replica }, "which gateway"),
		plain("boot", member(boot, "id"), "id of the gateway's run"),
		plain("boot_n", member(boot, "n"), "number of the gateway's run"),
		plain("detail", func(r *row) string { return r.detail }, "what the kind of record needs beyond these, as JSON"),
		{"redacted", "the fields that were redacted, separated by blanks", func(r *row) string { return joined(r.redacted) }},
	}
}

func (r *row) duration() string {
	if r.outcome == "" {
		return ""
	}
	return strconv.FormatFloat(float64(peek.Int(peek.Member(r.outcome, "duration_ns")))/1e6, 'f', 3, 64)
}

func (r *row) groupList() string { return joined(r.groups) }

func (r *row) pathOrTarget() string {
	if r.path != "" {
		return shown(r.path)
	}
	return shown(r.target)
}

func (r *row) ruleList() string {
	var rules []string
	for reason := range peek.Elements(peek.Member(r.decision, "reasons")) {
		if rule := peek.Member(reason, "rule"); rule != "" {
			rules = append(rules, shown(rule))
		}
	}
	return strings.Join(rules, " ")
}

// joined is the texts of an array, separated by blanks.
func joined(array string) string {
	var all []string
	for value := range peek.Elements(array) {
		all = append(all, shown(value))
	}
	return strings.Join(all, " ")
}

// chosen are the columns of these names.
func chosen(names []string) ([]Column, error) {
	all := Columns()
	if names == nil {
		return all, nil
	}
	var columns []Column
	for _, name := range names {
		found := false
		for _, c := range all {
			if c.Name == name {
				columns, found = append(columns, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no column %q: they are %s", name, columnNames(all))
		}
	}
	return columns, nil
}

func columnNames(columns []Column) string {
	var names []string
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
