package report

import (
	"fmt"
	"slices"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// event is what reports read of a record. Its strings share the record's memory: what is kept is cloned.
type event struct {
	id, log, seq string
	kind         audit.Type
	code         string
	time         time.Time
	app          string
	effect       audit.Effect
	reason       string
	input        string // JSON
	decision     string // JSON
	actor        string // JSON
	detail       string // JSON
}

func readEvent(raw []byte) (event, error) {
	var e event
	var clock string
	for name, value := range peek.Members(string(raw)) {
		switch name {
		case "id":
			e.id = peek.Text(value)
		case "log":
			e.log = peek.Text(value)
		case "seq":
			e.seq = value
		case "type":
			e.kind = audit.Type(peek.Text(value))
		case "code":
			e.code = peek.Text(value)
		case "time":
			clock = peek.Text(value)
		case "app":
			e.app = peek.Text(value)
		case "effect":
			e.effect = audit.Effect(peek.Text(value))
		case "reason":
			e.reason = peek.Text(value)
		case "input":
			e.input = value
		case "decision":
			e.decision = value
		case "actor":
			e.actor = value
		case "detail":
			e.detail = value
		}
	}
	var err error
	if e.time, err = time.Parse(time.RFC3339, clock); err != nil {
		return e, fmt.Errorf("record %s of the %s log has no time: %w", e.seq, e.log, err)
	}
	return e, nil
}

// rules are the ids of the rules that a decision names, each once.
func (e *event) rules() []string {
	var ids []string
	for reason := range peek.Elements(peek.Member(e.decision, "reasons")) {
		id := peek.Text(peek.Member(reason, "rule"))
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
