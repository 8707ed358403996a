package export

import "sallyport/audit/filter/peek"

// The classes of control records, and of what the log itself writes.

// actorMember is what a control record says of its actor.
func (w *ocsfEvent) actorMember(name string) string { return peek.Member(w.actor, name) }

// actorObject writes who did it; without one it was the gateway.
func (w *ocsfEvent) actorObject() {
	a := w.open("actor", '{')
	if w.actor == "" {
		w.word("app_name", product)
	} else {
		w.userObject("user", w.actorMember("id"), w.actorMember("name"), peek.Text(w.actorMember("kind")), "", "")
		w.sessionObject("")
	}
	w.end(a)
}

// from writes where from, which is the actor's address, or the machine itself.
func (w *ocsfEvent) from() {
	if address := w.actorMember("address"); address != "" {
		w.clientIP = address
	}
	if len(w.clientIP) <= 2 || w.clientIP[0] != '"' {
		w.clientIP = `"localhost"`
	}
	w.source("src_endpoint")
}

// authentication writes Authentication, 3002.
func (w *ocsfEvent) authentication() {
	w.actorObject()
	mfa := peek.Member(w.detail, "mfa")
	w.userObject("user", w.actorMember("id"), w.actorMember("name"), peek.Text(w.actorMember("kind")), "", mfa)
	w.sessionObject(mfa)
	w.from()
	s := w.open("service", '{')
	w.word("name", product)
	w.end(s)
	w.app4002()
	w.int("auth_protocol_id", 4)
	w.word("auth_protocol", "OpenID")
	w.int("logon_type_id", 3)
	w.word("logon_type", "Network")
	w.truth("is_remote", true)
	w.truth("is_mfa", mfa == "true")
	w.text("status_detail", w.reason)
}

// authorizeSession writes Authorize Session, 3003: a session that now holds for an app as well.
func (w *ocsfEvent) authorizeSession() {
	w.actorObject()
	mfa := peek.Member(w.detail, "mfa")
	w.userObject("user", w.actorMember("id"), w.actorMember("name"), peek.Text(w.actorMember("kind")), "", mfa)
	w.sessionObject(mfa)
	w.from()
	p := w.open("privileges", '[')
	app := w.view.app
	if len(app) <= 2 || app[0] != '"' {
		app = `"app"`
	}
	w.b = append(w.b, app...)
	w.end(p)
	w.text("status_detail", w.reason)
}

// entityManagement writes Entity Management, 3004: sessions, reviewed access, and the configuration with its policy.
func (w *ocsfEvent) entityManagement() {
	w.actorObject()
	w.from()
	e := w.open("entity", '{')
	switch w.event.Code {
	case "config_changed", "config_refused":
		w.word("name", "configuration")
		w.text("uid", peek.Member(w.detail, "config"))
		w.int("type_id", 5)
		w.word("type", "Policy")
		if digest := peek.Member(w.detail, "policy"); len(digest) > 2 && digest[0] == '"' {
			p := w.open("policy", '{')
			w.word("name", "access policy")
			w.text("uid", digest)
			w.end(p)
		}
	case "access_reviewed":
		w.text("uid", peek.Member(w.detail, "person"))
		w.word("name", "access")
		w.int("type_id", 2)
		w.word("type", "User")
	case "token_created", "token_revoked":
		w.text("uid", peek.Member(w.detail, "id"))
		w.word("name", "personal token")
		w.int("type_id", other)
		w.word("type", "Token")
	default:
		w.text("uid", peek.Member(w.detail, "id"))
		w.word("name", "sessions")
		w.int("type_id", other)
		w.word("type", "Session")
	}
	w.end(e)
	w.word("comment", w.event.Title)
	w.text("status_detail", peek.Member(w.detail, "error"))
}

// apiActivity writes API Activity, 6003: what operators ask of the gateway.
func (w *ocsfEvent) apiActivity() {
	w.actorObject()
	w.from()
	a := w.open("api", '{')
	w.text("operation", w.code)
	s := w.open("service", '{')
	w.word("name", "admin")
	w.end(s)
	w.close(a)
	d := w.open("dst_endpoint", '{')
	w.word("svc_name", product)
	w.end(d)
	rs := w.open("resources", '[')
	r := w.open("", '{')
	w.text("name", firstOf(w.detail, "app", "url", "prefix", "path"))
	w.end(r)
	w.end(rs)
	w.text("status_detail", peek.Member(w.detail, "error"))
}

// firstOf is the first of these members that there is.
func firstOf(object string, names ...string) string {
	for _, name := range names {
		if value := peek.Member(object, name); value != "" {
			return value
		}
	}
	return ""
}

// applicationLifecycle writes Application Lifecycle, 6002.
func (w *ocsfEvent) applicationLifecycle(version string) {
	if stated := peek.Text(peek.Member(w.detail, "version")); stated != "" {
		version = stated
	}
	w.product("app", version)
	w.actorObject()
	w.text("status_detail", peek.Member(w.detail, "keys"))
}

// eventLogActivity writes Event Log Activity, 1008: what happens to the audit log itself, and what has no other class.
func (w *ocsfEvent) eventLogActivity() {
	w.actorObject()
	w.from()
	name := peek.Member(w.detail, "log")
	if len(name) <= 2 || name[0] != '"' {
		name = w.log
	}
	w.text("log_name", name)
	w.word("log_provider", product)
	w.int("log_type_id", other)
	w.word("log_type", "Audit")
	f := w.open("file", '{')
	if file := peek.Member(w.detail, "file"); len(file) > 2 && file[0] == '"' {
		w.text("name", file)
		w.int("type_id", 1)
	}
	w.end(f)
	w.text("status_detail", firstOf(w.detail, "error", "cause", "why"))
}
