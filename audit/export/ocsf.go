package export

import (
	"cmp"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// ocsfVersion is the version of the schema that the events keep to: schema.ocsf.io/1.8.0.
const ocsfVersion = "1.8.0"

// vendor and product are what CEF, syslog and OCSF call us.
const (
	vendor  = "Sallyport"
	product = "Sallyport"
)

// ocsf writes records as OCSF events, one JSON object a line. Events gives each kind of record its class. What has no
// place in the class goes into unmapped, under the names that the record has for it.
type ocsf struct {
	from    *source
	version string // of the product
	table   map[kind]*Event
	same    string // what is the same in the metadata of all events
}

func newOCSF(o Options) *ocsf {
	f := &ocsf{from: o.source(), version: cmp.Or(o.Version, "unknown"), table: eventTable()}
	m := object{[]byte{'{'}}
	m.word("version", ocsfVersion)
	m.product("product", f.version)
	m.raw("profiles", `["host","security_control"]`)
	f.same = string(m.b)
	return f
}

// Header implements Encoder.
func (*ocsf) Header() []byte { return nil }

// Append implements Encoder.
func (f *ocsf) Append(dst []byte, e audit.Entry) ([]byte, error) {
	r, err := f.from.read(e)
	if err != nil {
		return dst, err
	}
	defer f.from.release(r)
	w := ocsfEvent{row: &r.row, event: r.event(f.table), object: object{append(dst, '{')}}
	w.base(f.same)
	switch w.event.Class {
	case HTTPActivity:
		w.httpActivity()
	case Authentication:
		w.authentication()
	case AuthorizeSession:
		w.authorizeSession()
	case EntityManagement:
		w.entityManagement()
	case APIActivity:
		w.apiActivity()
	case ApplicationLifecycle:
		w.applicationLifecycle(f.version)
	default:
		w.eventLogActivity()
	}
	w.unmapped()
	return append(w.b, '}', '\n'), nil
}

// ocsfEvent is one event in the making.
type ocsfEvent struct {
	*row
	object
	event *Event
	left  [2]string // what the class had no place for: method and host
}

var severityNames = [...]string{"Unknown", "Informational", "Low", "Medium", "High", "Critical"}
var statusNames = [...]string{"Unknown", "Success", "Failure"}

// base writes what all classes have.
func (w *ocsfEvent) base(same string) {
	e := w.event
	activity, word := e.Activity, e.Word
	if e.Class == HTTPActivity && activity != other {
		activity, word = methodActivity(peek.Text(w.method))
	}
	severity, status := w.severity(e), w.status(e)
	w.int("class_uid", int64(e.Class))
	w.word("class_name", e.Class.name())
	w.int("category_uid", int64(e.Class.category()))
	w.int("activity_id", int64(activity))
	w.word("activity_name", word)
	w.int("type_uid", int64(e.Class)*100+int64(activity))
	w.int("severity_id", int64(severity))
	w.word("severity", severityNames[severity])
	w.int("status_id", int64(status))
	w.word("status", statusNames[status])
	w.text("status_code", w.reason)
	if w.reason == "" {
		w.text("status_code", w.code)
	}
	w.int("time", milliseconds(w.time))
	w.int("timezone_offset", 0) // times are UTC
	w.word("message", w.message())
	w.metadata(same)
	w.control()
}

// milliseconds is a record's time since 1970; 0 for what is no time.
func milliseconds(value string) int64 {
	t, err := time.Parse(time.RFC3339Nano, peek.Text(value))
	if err != nil {
		return 0
	}
	return t.UnixMilli()
}

// message is the event's title, and for decisions what was decided.
func (w *ocsfEvent) message() string { return message(&w.view, w.event) }

func message(v *view, e *Event) string {
	if v.effect == "" || e.Type != audit.TypeDecision && e.Type != audit.TypeReevaluated {
		return e.Title
	}
	switch v.effect {
	case `"allow"`:
		return e.Title + ": allowed"
	case `"deny"`:
		return e.Title + ": denied"
	}
	return e.Title + ": rejected"
}

// methodActivity is OCSF's activity for an HTTP method.
func methodActivity(method string) (int, string) {
	switch method {
	case "CONNECT":
		return 1, "Connect"
	case "DELETE":
		return 2, "Delete"
	case "GET":
		return 3, "Get"
	case "HEAD":
		return 4, "Head"
	case "OPTIONS":
		return 5, "Options"
	case "POST":
		return 6, "Post"
	case "PUT":
		return 7, "Put"
	case "TRACE":
		return 8, "Trace"
	case "PATCH":
		return 9, "Patch"
	case "":
		return 0, "Unknown"
	}
	return other, "Other"
}

func (w *ocsfEvent) metadata(same string) {
	m := len(w.b) + len(`,"metadata":`)
	w.raw("metadata", same)
	w.text("uid", w.id)
	w.number("sequence", w.seq)
	w.text("log_name", w.log)
	w.text("event_code", w.code)
	w.text("correlation_uid", w.requestID)
	w.text("original_time", w.time)
	r := w.open("reporter", '{')
	w.text("name", w.replica)
	w.end(r)
	w.close(m)
}

func (o *object) product(name, version string) {
	p := o.open(name, '{')
	o.word("name", product)
	o.word("vendor_name", vendor)
	o.word("version", version)
	o.close(p)
}

// control writes the profile security_control: what the policy did.
func (w *ocsfEvent) control() {
	action, disposition := w.action()
	w.int("action_id", action)
	w.int("disposition_id", disposition)
	w.truth("is_alert", w.severity(w.event) >= High)
	if w.policy != "" || w.effect != "" {
		as := w.open("authorizations", '[')
		a := w.open("", '{')
		w.text("decision", w.effect)
		w.policyObject("policy")
		w.end(a)
		w.end(as)
	}
	w.policyObject("policy")
	if rule := firstRule(w.decision); rule != "" {
		r := w.open("firewall_rule", '{')
		w.text("uid", rule)
		w.end(r)
	}
}

// action is OCSF's action_id and disposition_id: allowed, denied, or merely seen.
func (w *ocsfEvent) action() (action, disposition int64) {
	switch {
	case w.code == `"upstream_cookie_blocked"`:
		return 4, 11 // modified, corrected
	case w.isAllowed():
		return 1, 1
	case w.effect == `"reject"`:
		return 2, 25
	case w.reason == `"unauthenticated"`:
		return 2, 26
	case w.effect == `"deny"`:
		return 2, 2
	case w.event.Status == Failure:
		return 2, 25
	}
	return 3, 17 // observed, logged
}

func (w *ocsfEvent) policyObject(name string) {
	if w.policy == "" {
		return
	}
	p := w.open(name, '{')
	w.text("uid", peek.Member(w.policy, "digest"))
	w.text("version", peek.Member(w.policy, "revision"))
	w.word("name", "access policy")
	w.close(p)
}

// firstRule is the first access rule that a decision names.
func firstRule(decision string) string {
	for reason := range peek.Elements(peek.Member(decision, "reasons")) {
		if rule := peek.Member(reason, "rule"); rule != "" {
			return rule
		}
	}
	return ""
}

// unmapped writes what the class has no place for.
func (w *ocsfEvent) unmapped() {
	u := w.open("unmapped", '{')
	w.raw("boot", w.boot)
	w.text("type", w.typ)
	w.raw("memo", w.memo)
	w.text("input_digest", w.digest)
	w.text("method", w.left[0])
	w.text("host", w.left[1])
	w.raw("decision", w.decision)
	w.raw("outcome", w.outcome)
	w.raw("detail", w.detail)
	w.text("subject_type", w.subjectType)
	w.raw("authn", w.authn)
	w.raw("device", w.device)
	w.raw("labels", w.labels)
	w.text("sensitivity", w.sensitivity)
	w.raw("redacted", w.redacted)
	w.raw("redaction_errors", w.redactionErrors)
	w.end(u)
}

// isListedMethod reports whether a method is one that OCSF lists.
func isListedMethod(method string) bool {
	return strings.Contains(" CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE ", " "+method+" ") && method != ""
}
