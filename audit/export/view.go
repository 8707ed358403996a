package export

import (
	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// view is a record's JSON taken apart: each field as it is spelled, empty where it is absent.
type view struct {
	id, log, seq, boot, typ, code, time, replica      string
	requestID, session, app, effect, reason           string
	digest, policy, decision, memo                    string
	outcome, actor, detail, redacted, redactionErrors string
}

// take takes the current member.
func (v *view) take(p *peek.Parser) {
	field := v.field(p.Name)
	value := p.Value()
	if field != nil {
		*field = value
	}
}

func (v *view) field(name string) *string {
	switch name {
	case "id":
		return &v.id
	case "log":
		return &v.log
	case "seq":
		return &v.seq
	case "boot":
		return &v.boot
	case "type":
		return &v.typ
	case "code":
		return &v.code
	case "time":
		return &v.time
	case "replica":
		return &v.replica
	case "request_id":
		return &v.requestID
	case "session":
		return &v.session
	case "app":
		return &v.app
	case "effect":
		return &v.effect
	case "reason":
		return &v.reason
	case "input_digest":
		return &v.digest
	case "policy":
		return &v.policy
	case "decision":
		return &v.decision
	case "memo":
		return &v.memo
	case "outcome":
		return &v.outcome
	case "actor":
		return &v.actor
	case "detail":
		return &v.detail
	case "redacted":
		return &v.redacted
	case "redaction_errors":
		return &v.redactionErrors
	}
	return nil
}

// event is the row of the table that the record belongs to.
func (v *view) event(table map[kind]*Event) *Event {
	k := kind{audit.Type(peek.Text(v.typ)), peek.Text(v.code)}
	if e := table[k]; e != nil {
		return e
	}
	// The code of a decision says more about it and makes it nothing else.
	if e := table[kind{Type: k.Type}]; e != nil && k.Type != audit.TypeControl {
		return e
	}
	return unknownEvent(k.Type, k.Code)
}

// severity is the event's, and for decisions what their effect makes of it.
func (v *view) severity(e *Event) Severity {
	switch {
	case v.isAllowed() || v.effect == "" || e.Severity > Low:
		return e.Severity
	}
	return Low
}

func (v *view) isAllowed() bool { return v.effect == `"allow"` }

// status is the event's, and for decisions and outcomes their own.
func (v *view) status(e *Event) Status {
	switch {
	case e.Status != Unknown:
		return e.Status
	case v.isAllowed():
		return Success
	case v.effect != "":
		return Failure
	case v.outcome != "" && (peek.Member(v.outcome, "error") != "" || peek.Int(peek.Member(v.outcome, "status")) >= 500):
		return Failure
	case v.outcome != "":
		return Success
	}
	return Unknown
}

// request is what a record says of the request, taken from its input or, where it was refused before, from its detail.
type request struct {
	hasInput bool

	subjectID, subjectType, email, groups   string
	authn, device                           string
	method, protocol                        string
	host, path, query, labels, sensitivity  string
	clientIP, zone, country, tls, userAgent string
	target                                  string // of what was refused
}

// take takes the input.
func (q *request) take(p *peek.Parser) {
	for p.Enter(); p.Next(); {
		if !p.IsObject() {
			p.Value()
			continue
		}
		switch p.Name {
		case "subject":
			q.takeSubject(p)
		case "action":
			q.takeAction(p)
		case "resource":
			q.takeResource(p)
		case "context":
			q.takeContext(p)
		default:
			p.Value()
		}
	}
}

func (q *request) takeSubject(p *peek.Parser) {
	for p.Enter(); p.Next(); {
		switch name, value := p.Name, p.Value(); name {
		case "type":
			q.subjectType = value
		case "id":
			q.subjectID = value
		case "email":
			q.email = value
		case "groups":
			q.groups = value
		case "authn":
			q.authn = value
		case "device":
			q.device = value
		}
	}
}

func (q *request) takeAction(p *peek.Parser) {
	for p.Enter(); p.Next(); {
		switch name, value := p.Name, p.Value(); name {
		case "method":
			q.method = value
		case "protocol":
			q.protocol = value
		}
	}
}

func (q *request) takeResource(p *peek.Parser) {
	for p.Enter(); p.Next(); {
		switch name, value := p.Name, p.Value(); name {
		case "host":
			q.host = value
		case "path":
			q.path = value
		case "query":
			q.query = value
		case "labels":
			q.labels = value
		case "sensitivity":
			q.sensitivity = value
		}
	}
}

func (q *request) takeContext(p *peek.Parser) {
	for p.Enter(); p.Next(); {
		switch name, value := p.Name, p.Value(); name {
		case "client":
			q.clientIP, q.zone, q.country = peek.Member(value, "ip"), peek.Member(value, "zone"), peek.Member(value, "country")
		case "tls":
			q.tls = value
		case "request":
			q.userAgent = peek.Member(value, "user_agent")
		}
	}
}

// ofDetail takes what a rejected request or a control record says in its detail.
func (q *request) ofDetail(detail string) {
	peek.EachMember(detail, func(name, value string) bool {
		switch name {
		case "method":
			q.method = value
		case "host":
			q.host = value
		case "target", "path":
			q.target = value
		case "peer", "address":
			q.clientIP = value
		case "user_agent":
			q.userAgent = value
		}
		return true
	})
}
