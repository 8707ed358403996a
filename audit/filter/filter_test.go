package filter

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
)

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func compile(t fataler, expr string) *Filter {
	t.Helper()
	f, err := Compile(expr)
	if err != nil {
		t.Fatalf("compiling %q: %v", expr, err)
	}
	return f
}

// allowed is a decision as the gateway records it.
func allowed() *audit.Record {
	return &audit.Record{
		V: 1, ID: "01930000-0000-7000-8000-000000000001", Log: "decision", Seq: 41, Boot: audit.Boot{ID: "b-1", N: 7},
		Type: audit.TypeDecision, Time: time.Date(2026, 11, 2, 8, 30, 0, 5, time.UTC), Replica: "gw-1", RequestID: "r-1", Session: "s-1",
		App: "payroll", Effect: audit.Allow, Reason: "allow",
		Input: json.RawMessage(`{"subject":{"type":"user","id":"corp|4711","email":"Alice@corp.example","email_verified":true,` +
			`"groups":["admins","staff\u202e"],"authn":{"provider":"corp","amr":[],"mfa":true}},"action":{"name":"read","method":"GET"},` +
			`"resource":{"type":"app","id":"payroll","host":"payroll.corp.example","path":"/a b","query":"x=1"},` +
			`"context":{"client":{"ip":"203.0.113.7","zone":"office","country":"DE"},"request":{"user_agent":"curl/8"}}}`),
		Policy: audit.Policy{Digest: "sha256:00", Revision: "r9"}, Memo: true,
		Decision: json.RawMessage(`{"allow":true,"reasons":[{"code":"allow","rule":"payroll-staff"}]}`),
	}
}

func signedIn() *audit.Record {
	return &audit.Record{Log: "control", Seq: 3, Type: audit.TypeControl, Code: "sign_in", Time: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC),
		Actor:  &audit.Actor{Kind: "user", ID: "corp|4711", Name: "alice@corp.example", Address: "2001:db8::7"},
		Detail: json.RawMessage(`{"host":"payroll.corp.example","user_agent":"Firefox"}`)}
}

func rejected() *audit.Record {
	return &audit.Record{Log: "decision", Seq: 42, Type: audit.TypeDecision, Effect: audit.Reject, Reason: "dot_segment",
		Time:   time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC),
		Detail: json.RawMessage(`{"method":"PUT","host":"x","target":"/a/../b?","peer":"198.51.100.9:4000"}`)}
}

func ended() *audit.Record {
	return &audit.Record{Log: "decision", Seq: 43, Type: audit.TypeOutcome, Time: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC),
		Outcome: &audit.Outcome{Of: "o", Status: 502, BytesIn: 3, BytesOut: 5, DurationNS: 2_500_000, Cache: "miss", Upstream: "10.0.0.1:80", Error: "upstream_failed"}}
}

func TestFieldsSayWhatARecordSays(t *testing.T) {
	for _, test := range []struct {
		record *audit.Record
		holds  []string
	}{
		{allowed(), []string{
			``, ` `, `true`, `log == "decision"`, `seq == 41`, `id.startsWith("01930000")`, `type == "decision"`, `code == ""`, `app == "payroll"`,
			`effect == "allow"`, `reason != "policy"`, `request_id == "r-1"`, `session == "s-1"`, `policy == "sha256:00"`, `revision == "r9"`, `memo`,
			`memo == true`, `"payroll-staff" in rules`, `replica == "gw-1"`, `boot == "b-1"`, `boot_n > 6`, `email == "Alice@corp.example"`,
			`"admins" in groups`, `"staff\u202e" in groups`, `groups.exists(g, g.startsWith("adm"))`, `size(groups) == 2`, `provider == "corp"`, `mfa`,
			`action == "read"`, `method in ["GET", "HEAD"]`, `host.endsWith(".corp.example")`, `path == "/a b"`, `query.contains("x=")`,
			`client_ip == "203.0.113.7"`, `zone == "office"`, `country == "DE"`, `user_agent == "curl/8"`, `subject == "corp|4711"`,
			`subject_type == "user"`, `status == 0`, `actor == ""`, `app.matches("^pay") && seq > 40`, `!(app == "wiki") && (effect == "deny" || memo)`,
			`app < "q"`, `41 <= seq`, `!(seq < 41)`, `false || true`,
		}},
		{signedIn(), []string{`code == "sign_in"`, `actor == "corp|4711"`, `actor_kind == "user"`, `actor_name == "alice@corp.example"`, `email == "alice@corp.example"`,
			`client_ip == "2001:db8::7"`, `host == "payroll.corp.example"`, `user_agent == "Firefox"`}},
		{rejected(), []string{`effect == "reject"`, `method == "PUT"`, `host == "x"`, `path == "/a/../b"`, `client_ip == "198.51.100.9"`, `email == ""`, `groups == []`}},
		{ended(), []string{`of == "o"`, `status >= 500`, `bytes_in == 3`, `bytes_out == 5`, `duration_ms == 2`, `cache == "miss"`, `upstream == "10.0.0.1:80"`, `error != ""`}},
	} {
		for _, expr := range test.holds {
			if !compile(t, expr).Matches(test.record) {
				t.Errorf("%q does not choose %s record", expr, test.record.Type)
			}
			if expr = strings.TrimSpace(expr); expr != "" && compile(t, "!("+expr+")").Matches(test.record) {
				t.Errorf("!(%s) chooses %s record", expr, test.record.Type)
			}
		}
	}
}

func TestEveryFieldIsTested(t *testing.T) {
	for _, f := range Fields() {
		if f.Doc == "" {
			t.Errorf("field %s has no description", f.Name)
		}
		native, wholly := string(f.Name)+` == "x"`, `[`+string(f.Name)+`].size() == 1`
		switch f.Kind {
		case Int:
			native = string(f.Name) + " == 1"
		case Bool:
			native = string(f.Name)
		case Time:
			native = string(f.Name) + ` > "2026-11-01"`
		case Texts:
			native = `"x" in ` + string(f.Name)
		case Who:
			wholly = `[true].exists(b, user == "x" || b)`
		}
		x := compile(t, native)
		if x.parts[len(x.parts)-1].native == nil {
			t.Errorf("%q does not run natively", native)
		}
		x = compile(t, wholly)
		if !x.Matches(allowed()) {
			_, err := x.Failures()
			t.Errorf("%q is not true in CEL: %v", wholly, err)
		}
	}
}

func TestUserIsWhoeverTheRecordIsAbout(t *testing.T) {
	for _, expr := range []string{`user == "corp|4711"`, `user == "ALICE@corp.example"`, `"alice@corp.example" == user`, `user in ["bob", "alice@corp.example"]`,
		`user != "CORP|4711"`, `!(user in ["corp|47"])`, `[1].exists(i, user == "corp|4711")`, `user == "corp" + "|4711"`} {
		for _, r := range []*audit.Record{allowed(), signedIn()} {
			if f := compile(t, expr); !f.Matches(r) {
				_, err := f.Failures()
				t.Errorf("%q does not choose the %s record: %v", expr, r.Type, err)
			}
		}
	}
	for _, expr := range []string{`user == ""`, `user in [""]`, `user == "" + ""`} {
		if compile(t, expr).Matches(rejected()) {
			t.Errorf("%q chooses a record of nobody", expr)
		}
	}
	byFilter := audit.Filter{User: "alice@CORP.example"}
	f, err := From(byFilter)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Matches(allowed()) || !f.Matches(signedIn()) || f.Matches(rejected()) {
		t.Error("user of audit.Filter is somebody else here")
	}
}

func TestTimesCompareWithPlainText(t *testing.T) {
	r := allowed() // 2026-11-02T08:30:00.000000005Z
	for _, expr := range []string{
		`time >= "2026-11-02"`, `time < "2026-11-03"`, `time >= "2026-11-02T08:30"`, `time > "2026-11-02T08:30:00Z"`, `time < "2026-11-02 08:31"`,
		`time == "2026-11-02T08:30:00.000000005Z"`, `time != "2026-11-02"`, `time > "2026-11-02T09:30:00+01:00"`, `time < "2026-11-02T10:30:01+02:00"`,
		`"2026-11-01" < time`, `time >= timestamp("2026-11-02T08:30:00Z")`, `time - timestamp("2026-11-02T08:00:00Z") >= duration("30m")`,
		`time.getHours() == 8`, `time >= "2026-11-02T08:30:00.000000005"`, `time <= "2026-11-02T08:30:00.000000005Z"`,
	} {
		if !compile(t, expr).Matches(r) {
			t.Errorf("%q does not choose %v", expr, r.Time)
		}
	}
}

func TestMistakesAreNamedWithTheirPlace(t *testing.T) {
	for _, test := range []struct {
		expr         string
		line, column int
		says         string
	}{
		{`ap == "x"`, 1, 1, "fields are action, actor,"},
		{`app == 3`, 1, 5, "no matching overload"},
		{"app == \"x\" &&\n  seq > \"3\"", 2, 7, "no matching overload"},
		{`app ==`, 1, 7, "Syntax error"},
		{`app`, 1, 1, "true or false"},
		{`time > "yesterday"`, 1, 8, "2026-11-30"},
		{`time > timestamp("x")`, 1, 18, "invalid timestamp"},
		{`user.startsWith("x")`, 1, 1, "==, != and in only"},
		{`user > "x"`, 1, 1, "==, != and in only"},
		{`groups.exists(app, app == "x")`, 1, 14, "hides the field"},
		{`app.matches("(")`, 1, 13, "invalid matches argument"},
		{`@who == []`, 1, 1, "Syntax error"},
		{strings.Repeat("a", maxExpression+1), 1, 1, "exceeds"},
		{strings.Repeat("(", 1000), 1, 1, ""},
		{`app == "x" && nope == 1 && also == 2`, 1, 15, "nope"},
	} {
		_, err := Compile(test.expr)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%.40q: error %v, want an *Error", test.expr, err)
			continue
		}
		p := e.Problems[0]
		if test.says != "" && (p.Line != test.line || p.Column != test.column) || !strings.Contains(e.Error(), test.says) {
			t.Errorf("%.40q: %d:%d %s, want %d:%d %q", test.expr, p.Line, p.Column, e, test.line, test.column, test.says)
		}
	}
}

func TestAFailingExpressionIsCounted(t *testing.T) {
	f := compile(t, `groups[5] == "x"`)
	if f.Matches(allowed()) {
		t.Error("chosen")
	}
	if n, err := f.Failures(); n != 1 || err == nil || !strings.Contains(err.Error(), "index out of bounds") {
		t.Errorf("failures %d, %v", n, err)
	}
}

func TestCostIsBounded(t *testing.T) {
	list := "[" + strings.Repeat("1,", 99) + "1]"
	f := compile(t, list+".all(a, "+list+".all(b, "+list+".all(c, "+list+".all(d, a == b && c == d || app != 'x'))))")
	began := time.Now()
	if f.Matches(allowed()) {
		t.Error("a hundred million steps were taken")
	}
	if n, err := f.Failures(); n != 1 || err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("failures %d, %v", n, err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	many := allowed()
	var groups []string
	for range 1000 {
		groups = append(groups, strings.Repeat("g", 64))
	}
	text, _ := json.Marshal(groups)
	many.Input = json.RawMessage(`{"subject":{"groups":` + string(text) + `}}`)
	if f := compile(t, `groups.all(g, g.startsWith("g") && g.endsWith("g"))`); !f.Matches(many) {
		_, err := f.Failures()
		t.Errorf("a thousand groups cost too much: %v", err)
	}
}

func TestFiltersCompose(t *testing.T) {
	and := func(filters ...*Filter) *Filter {
		t.Helper()
		f, err := And(filters...)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b := compile(t, `app == "payroll" || app == "wiki"`), compile(t, `effect == "allow"`)
	f := and(a, nil, and(), b, compile(t, ""))
	if got, want := f.String(), `(app == "payroll" || app == "wiki") && (effect == "allow")`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !f.Matches(allowed()) || f.Matches(rejected()) || f.Bounds().Equal["effect"] != "allow" {
		t.Error("not both")
	}
	again := compile(t, f.String())
	if again.String() != f.String() || !again.Matches(allowed()) || again.Matches(rejected()) {
		t.Error("its text is another filter")
	}
	if one := and(b); one.String() != b.String() {
		t.Errorf("one is %s", one)
	}
	long := compile(t, `app != "`+strings.Repeat("x", maxExpression/2)+`"`)
	if _, err := And(long, long); err == nil {
		t.Error("a filter that cannot be compiled again")
	}
}

func TestAnAuditFilterAndBack(t *testing.T) {
	r := allowed()
	in := audit.Filter{From: r.Time.Add(-time.Hour), To: r.Time.Add(1), FromSeq: 3, ToSeq: 42, User: "alice@corp.example", App: "payroll",
		Effect: audit.Allow, Reason: "allow", RequestID: "r-1", Type: audit.TypeDecision}
	f, err := From(in)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Matches(r) {
		t.Fatalf("%s does not choose the record", f)
	}
	out := f.Audit()
	if out.Where == nil || !out.Where(r) || out.Where(rejected()) {
		t.Error("Where is another filter")
	}
	out.Where, out.User = nil, in.User
	if got, want := describe(out), describe(in); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	in.Where = func(r *audit.Record) bool { return strings.Contains(string(r.Input), "nowhere") }
	if f, _ = From(in); f.Matches(r) {
		t.Error("Where of the audit.Filter is not asked")
	}
}

func describe(f audit.Filter) string {
	text, _ := json.Marshal([]any{f.From, f.To, f.FromSeq, f.ToSeq, f.User, f.App, f.Effect, f.Reason, f.RequestID, f.Type, f.Code})
	return string(text)
}

func TestQuotedTextComesBack(t *testing.T) {
	for _, text := range []string{"", "a", `"\`, "a\nb\x00\x7f", "ä\u202e", "` ' ${x}", "\xff"} {
		r := &audit.Record{App: strings.ToValidUTF8(text, "\ufffd")}
		if f := compile(t, "app == "+Quote(text)); !f.Matches(r) {
			t.Errorf("%s is not %q", f, text)
		}
	}
}
