package rawhttp

import "strings"

const sessionCookie = "__Host-sallyport"

// cookies are the session's among others, in spellings that parsers take apart differently.
func cookies() (all []Case) {
	field := func(values ...string) (fields []Field) {
		for _, v := range values {
			fields = append(fields, Field{"Cookie", v})
		}
		return fields
	}
	add := func(c Case, values ...string) { all = append(all, both(c, ask{cookie: field(values...)})...) }
	others := []string{"\r\nCookie: a=1; b=2\r\n"}
	whole := func(id, name string, values ...string) {
		add(Case{ID: id, Name: name, Want: served, Seen: others}, values...)
	}
	whole("COOK-01", "between", "a=1; {cookie}; b=2")
	whole("COOK-01", "first", "{cookie}; a=1; b=2")
	whole("COOK-01", "last", "a=1; b=2; {cookie}")
	whole("COOK-01", "without blanks", "a=1;{cookie};b=2")
	whole("COOK-01", "empty pairs", "; a=1;; {cookie} ;; b=2;")
	whole("COOK-01", "a sign-in's too", "a=1; "+sessionCookie+"-flow-x=secret; {cookie}; b=2")
	whole("COOK-05", "three fields", "a=1", "{cookie}", "b=2")
	whole("COOK-05", "two fields", "a=1; {cookie}", "b=2")
	whole("H2-30", "crumbs", "a=1", "{cookie}", "b=2")
	whole("H2-30", "session first", "{cookie}", "a=1", "b=2")
	whole("H2-30", "session last", "a=1", "b=2", "{cookie}")
	whole("COOK-06", "other case", "a=1; __host-SALLYPORT={value}; {cookie}; b=2")
	whole("COOK-06", "the same twice", "a=1; {cookie}; {cookie}; b=2")
	whole("COOK-06", "in a name", "a=1; x"+sessionCookie+"={value}; {cookie}; b=2")
	whole("COOK-06", "in a value", "a=1; c="+sessionCookie+"={value}; {cookie}; b=2")
	whole("COOK-06", "nameless", "a=1; ="+sessionCookie+"={value}; {cookie}; b=2")
	whole("COOK-06", "without a value", "a=1; "+sessionCookie+"; {cookie}; b=2")
	add(Case{ID: "COOK-02", Name: "quoted", Want: []Class{Served | SignIn}, Stranger: []Class{SignIn}}, "a=1; "+sessionCookie+`="{value}"; b=2`)
	add(Case{ID: "COOK-02", Name: "half a quote", Want: []Class{Served | SignIn}, Stranger: []Class{SignIn}}, "a=1; "+sessionCookie+`="{value}; b=2`)
	add(Case{ID: "COOK-02", Name: "quotes around all", Want: []Class{Served | SignIn}, Stranger: []Class{SignIn}}, `a="1; {cookie}; b=2"`)
	add(Case{ID: "COOK-02", Name: "escaped quotes", Want: []Class{Served | SignIn}, Stranger: []Class{SignIn}}, `a="\"; {cookie}; b=\""`)
	add(Case{ID: "COOK-02", Name: "version", Want: []Class{Served | SignIn}, Stranger: []Class{SignIn}}, `$Version=1; {cookie}; $Path="/"; $Domain=corp.test`)
	add(Case{ID: "COOK-02", Name: "version first", Want: []Class{Served | SignIn}, Stranger: []Class{SignIn}}, `$Version="1"; a="x; {cookie}; y"; b=2`)
	for _, one := range []string{"{cookie}, a=1", "a=1, {cookie}", sessionCookie + " = {value}", sessionCookie + "\t={value}", " \t{cookie}\t ", sessionCookie + "=={value}", sessionCookie + "={value}=", sessionCookie + "={value}%00", sessionCookie + "={value},", "%5F%5FHost-sallyport={value}",
		"__Host%2Dsallyport={value}", sessionCookie + "={value}x", sessionCookie + "= ", sessionCookie + "=\"\"", sessionCookie, "=" + sessionCookie, sessionCookie + "={value}\xff", "__Secure-sallyport={value}", "__Host-sallyport.={value}", "__Host_sallyport={value}",
		"a={value", "c=d&{cookie}", sessionCookie + "-={value}"} {
		add(Case{ID: "COOK-07", Name: one, Want: []Class{Served | SignIn | Refused}, Stranger: []Class{SignIn | Refused}}, one)
	}
	for _, tossed := range []string{sessionCookie + "=false; {cookie}; a=1", "{cookie}; " + sessionCookie + "=false; a=1", sessionCookie + "=; {cookie}", sessionCookie + "=false; {cookie}; " + sessionCookie + "=false", sessionCookie + "=\"false\"; {cookie}"} {
		id := "COOK-03"
		if strings.HasPrefix(tossed, "{cookie}") {
			id = "COOK-04"
		}
		add(Case{ID: id, Name: tossed, Want: []Class{SignIn | Served}, Stranger: []Class{SignIn}, Unseen: []string{"false"}}, tossed)
	}
	add(Case{ID: "COOK-04", Name: "in another field", Want: []Class{SignIn | Served}, Stranger: []Class{SignIn}, Unseen: []string{"false"}}, "{cookie}", sessionCookie+"=false")
	for _, part := range []string{"0={value}", "1={value}", "_0={value}; " + sessionCookie + "_1={value}", "-0={value}; " + sessionCookie + "-1={value}"} {
		add(Case{ID: "COOK-16", Name: "in parts " + part, Want: []Class{SignIn}}, sessionCookie+part)
	}
	add(Case{ID: "COOK-16", Name: "of another host", Want: []Class{SignIn}}, "{othercookie}")
	add(Case{ID: "COOK-16", Name: "of two hosts", Want: []Class{SignIn | Served}, Stranger: []Class{SignIn}}, "{cookie}; {othercookie}")
	add(Case{ID: "COOK-13", Name: "5000", Want: []Class{Refused | Served}, Stranger: []Class{Refused | SignIn}}, strings.Repeat("a=1; ", 5000)+"{cookie}")
	add(Case{ID: "COOK-13", Name: "5000 sessions", Want: []Class{Refused | SignIn}}, strings.Repeat(sessionCookie+"=x; ", 2000)+"{cookie}")
	add(Case{ID: "COOK-13", Name: "semicolons", Want: []Class{Refused | Served}, Stranger: []Class{Refused | SignIn}}, strings.Repeat(";", 20_000)+"{cookie}")
	add(Case{ID: "COOK-13", Name: "one large", Want: []Class{Refused | Served | Hangup}, Stranger: []Class{Refused | SignIn | Hangup}}, "a="+strings.Repeat("b", 60_000)+"; {cookie}")
	add(Case{ID: "COOK-13", Name: "5000 fields", Want: []Class{Refused | Hangup}}, append(strings.Split(strings.Repeat("a=1,", 5000), ",")[:5000], "{cookie}")...)
	return append(all, overwritten()...)
}

// overwritten are answers by which an app would replace the session.
func overwritten() (all []Case) {
	for _, line := range []string{"=evil; Path=/; Secure", "=evil; Domain=corp.test", "-flow-x=evil", "=evil; Max-Age=0; Path=/; Secure", " = evil; Path=/; Secure", "\t=evil", "=\"evil\""} {
		all = append(all, Case{ID: "COOK-18", Name: line, Raw: get("/app/{id}"), Want: served, Unsaid: []string{"evil"}, Script: answering("Set-Cookie: " + sessionCookie + line)})
	}
	for _, line := range []string{"Set-Cookie: =" + sessionCookie + "=evil", "Set-Cookie: __HOST-sallyport=evil", "set-cookie: " + sessionCookie + "=evil", "Set-Cookie:\t" + sessionCookie + "=evil", "Set-Cookie: a=b, " + sessionCookie + "=evil; Path=/", `Set-Cookie: "` + sessionCookie + `"=evil`,
		"Set-Cookie: ; " + sessionCookie + "=evil", "Set-Cookie: a=b\r\nSet-Cookie: " + sessionCookie + "=evil\r\nSet-Cookie: " + sessionCookie + "=evil2", "X-Sallyport-User: evil", "Clear-Site-Data: \"cookies\", \"evil\"\r\nSet-Cookie: " + sessionCookie + "=evil"} {
		unsaid := []string{sessionCookie + "=evil", "x-sallyport-user", `"cookies"`}
		all = append(all, Case{ID: "COOK-18", Name: line, Raw: get("/app/{id}"), Want: []Class{Served | Broken}, Stranger: []Class{SignIn}, Unsaid: unsaid, Script: answering(line)})
	}
	return append(all, Case{ID: "COOK-18", Name: "folded", Raw: get("/app/{id}"), Want: []Class{Served | Broken}, Stranger: []Class{SignIn}, Unsaid: []string{"evil"}, Script: answering("Set-Cookie: a=b\r\n ;" + sessionCookie + "=evil")})
}

// answering is an answer of the app with one more line in its head.
func answering(line string) string {
	return "HTTP/1.1 200 OK\r\n" + line + "\r\nContent-Length: 0\r\n\r\n"
}
