package export

import (
	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// httpActivity writes HTTP Activity, 4002.
func (w *ocsfEvent) httpActivity() {
	w.actorOfRequest()
	w.source("src_endpoint")
	w.app4002()
	w.httpRequest()
	w.tlsObject()
	if w.outcome != "" {
		w.completed()
	}
	if w.event.Type == audit.TypeWindow {
		w.counted()
	}
}

// app4002 writes the app as the destination.
func (w *ocsfEvent) app4002() {
	d := w.open("dst_endpoint", '{')
	w.text("svc_name", w.view.app)
	if host, port := splitPort(peek.Text(w.host)); isHostname(host) {
		w.word("hostname", host)
		if port > 0 {
			w.int("port", port)
		}
	} else {
		w.left[1] = w.host
	}
	w.upstream()
	if w.b[len(w.b)-1] == '{' {
		w.word("name", "unknown")
	}
	w.end(d)
}

// upstream writes the address of the app that answered.
func (w *ocsfEvent) upstream() {
	upstream := peek.Member(w.outcome, "upstream")
	if ip, port, ok := address(peek.Text(upstream)); ok {
		w.word("ip", ip)
		if port > 0 && w.host == "" {
			w.int("port", port)
		}
		return
	}
	w.text("name", upstream)
}

func (w *ocsfEvent) httpRequest() {
	r := w.open("http_request", '{')
	w.text("uid", w.view.requestID)
	if method := peek.Text(w.method); isListedMethod(method) {
		w.text("http_method", w.method)
	} else {
		w.left[0] = w.method
	}
	w.text("user_agent", w.userAgent)
	w.text("version", w.protocol)
	w.url()
	w.close(r) // one of http_request and http_response must be there
}

func (w *ocsfEvent) url() {
	path := w.path
	if path == "" {
		path = w.target
	}
	if len(path) <= 2 || path[0] != '"' {
		return
	}
	u := w.open("url", '{')
	if host, port := splitPort(peek.Text(w.host)); isHostname(host) {
		w.word("hostname", host)
		if port > 0 {
			w.int("port", port)
		}
	}
	w.text("path", path)
	w.text("query_string", w.query)
	w.end(u)
}

func (w *ocsfEvent) tlsObject() {
	version := peek.Member(w.tls, "version")
	if len(version) <= 2 || version[0] != '"' {
		return
	}
	t := w.open("tls", '{')
	w.text("version", version)
	w.text("cipher", peek.Member(w.tls, "cipher"))
	w.text("sni", peek.Member(w.tls, "sni"))
	w.end(t)
}

// completed writes how a request ended.
func (w *ocsfEvent) completed() {
	in, out := peek.Int(peek.Member(w.outcome, "bytes_in")), peek.Int(peek.Member(w.outcome, "bytes_out"))
	if status := peek.Int(peek.Member(w.outcome, "status")); status > 0 {
		r := w.open("http_response", '{')
		w.int("code", status)
		w.int("body_length", out)
		w.end(r)
	}
	t := w.open("traffic", '{')
	w.int("bytes", in+out)
	w.int("bytes_in", in)
	w.int("bytes_out", out)
	w.end(t)
	w.int("duration", peek.Int(peek.Member(w.outcome, "duration_ns"))/1e6)
	w.text("status_detail", peek.Member(w.outcome, "error"))
}

// counted writes how many requests a window counts, and from when to when.
func (w *ocsfEvent) counted() {
	count := peek.Int(peek.Member(w.detail, "other"))
	for row := range peek.Elements(peek.Member(w.detail, "rows")) {
		count += peek.Int(peek.Member(row, "count"))
	}
	w.int("count", count)
	for _, m := range [...][2]string{{"start_time", "from"}, {"end_time", "to"}} {
		if at := milliseconds(peek.Member(w.detail, m[1])); at != 0 {
			w.int(m[0], at)
		}
	}
}

// actorOfRequest writes who asked, as far as the record says.
func (w *ocsfEvent) actorOfRequest() {
	a := w.open("actor", '{')
	if w.hasInput {
		w.userObject("user", w.subjectID, w.email, peek.Text(w.subjectType), w.groups, peek.Member(w.authn, "mfa"))
	}
	w.sessionObject(peek.Member(w.authn, "mfa"))
	if provider := peek.Member(w.authn, "provider"); provider != "" {
		p := w.open("idp", '{')
		w.text("name", provider)
		w.end(p)
	}
	w.end(a)
}

// userObject writes a user, who has a name or an id: anonymous has the name of nobody else.
func (w *ocsfEvent) userObject(name, id, email, kind, groups, mfa string) {
	u := w.open(name, '{')
	w.text("uid", id)
	text := peek.Text(email)
	switch {
	case text != "":
		w.text("name", email)
	case peek.Text(id) == "" && kind != "":
		w.word("name", kind)
	case peek.Text(id) == "":
		w.word("name", "unknown")
	}
	if isEmail(text) {
		w.text("email_addr", email)
	}
	w.int("type_id", userType(kind))
	if mfa == "true" || mfa == "false" {
		w.raw("has_mfa", mfa)
	}
	g := w.open("groups", '[')
	for group := range peek.Elements(groups) {
		if len(group) <= 2 || group[0] != '"' {
			continue
		}
		one := w.open("", '{')
		w.text("name", group)
		w.end(one)
	}
	w.end(g)
	w.end(u)
}

// userType is OCSF's type_id of a user.
func userType(kind string) int64 {
	switch kind {
	case "user":
		return 1
	case "os":
		return 2 // who may operate the gateway
	case "gateway":
		return 3
	case "service":
		return 4
	}
	return 0
}

// isEmail is true of what OCSF takes for an e-mail address.
func isEmail(text string) bool {
	at := -1
	for i := range len(text) {
		switch {
		case text[i] <= ' ' || text[i] >= 0x7f || text[i] == '"' || text[i] == '\\':
			return false
		case text[i] == '@' && at >= 0:
			return false
		case text[i] == '@':
			at = i
		}
	}
	return at > 0 && isHostname(text[at+1:])
}

func (w *ocsfEvent) sessionObject(mfa string) {
	s := w.open("session", '{')
	w.text("uid", w.session)
	if w.session != "" && (mfa == "true" || mfa == "false") {
		w.raw("is_mfa", mfa)
	}
	w.end(s)
}

// source writes where from.
func (w *ocsfEvent) source(name string) {
	s := w.open(name, '{')
	if ip, port, ok := address(peek.Text(w.clientIP)); ok {
		w.word("ip", ip)
		if port > 0 {
			w.int("port", port)
		}
	} else {
		w.text("name", w.clientIP)
	}
	if w.b[len(w.b)-1] != '{' {
		w.text("zone", w.zone)
		if len(w.country) > 2 && w.country[0] == '"' {
			l := w.open("location", '{')
			w.text("country", w.country)
			w.end(l)
		}
	}
	w.end(s)
}
