package export

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// leaks are the secrets that a text holds, in any spelling that JSON, CEF or a shell would undo.
func leaks(text string) []string {
	var found []string
	for _, undone := range []string{text, strings.ReplaceAll(text, `\`, ""), strings.ReplaceAll(text, "%40", "@"), strings.ToLower(text)} {
		for _, secret := range secrets {
			if strings.Contains(undone, secret) && !slices.Contains(found, secret) {
				found = append(found, secret)
			}
		}
	}
	return found
}

func TestNoFormatLeaksPersonalData(t *testing.T) {
	for _, e := range entries(t, samples(t)...) {
		for _, format := range Formats() {
			for _, o := range []Options{{}, {Key: []byte("key")}, {Message: CEF, OctetCounting: true}} {
				out := encode(t, format, o, e)
				if found := leaks(out); found != nil {
					t.Errorf("%s of %s %s leaks %q:\n%s", format, e.Record.Type, e.Record.Code, found, out)
				}
			}
		}
	}
}

// The check above must see what a format that forgets to redact writes.
func TestLeaksAreSeen(t *testing.T) {
	for _, format := range Formats() {
		seen := map[string]bool{}
		for _, e := range entries(t, samples(t)...) {
			for _, secret := range leaks(encode(t, format, Options{Disclose: true}, e)) {
				seen[secret] = true
			}
		}
		for _, secret := range []string{secretEmail, secretIP, secretIP6, secretAgent, secretQuery, "%2Fprivate"} {
			if !seen[secret] {
				t.Errorf("%s: %q is not seen where it is disclosed", format, secret)
			}
		}
	}
}

func redacted(t testing.TB, key string, e audit.Entry) map[string]any {
	var made map[string]any
	text := Redact([]byte(key)).Append(nil, e.Raw)
	if err := json.Unmarshal(text, &made); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return made
}

func TestRedactionNamesWhatItChangedAndKeepsTheRest(t *testing.T) {
	e := entryOf(t, decision(2), 3)
	r := redacted(t, "", e)
	want := []any{"input.subject.email", "input.subject.claims.cost_center", "input.subject.cert.subject", "input.subject.cert.emails", "input.resource.path", "input.resource.segments",
		"input.resource.query", "input.context.client.ip", "input.context.request.user_agent", "input.context.request.headers.x-forwarded-for", "input_digest", "decision.reasons.admin"}
	if got := r["redacted"].([]any); !slices.Equal(got, want) {
		t.Errorf("redacted %v\nwant %v", got, want)
	}
	for path, want := range map[string]any{
		"input.subject.id": "corp|00u1a2b3c4", "input.subject.email": Redacted, "input.subject.claims.cost_center": Redacted, "input.resource.path": "/people/" + Redacted,
		"input.resource.host": "payroll.corp.example", "input.context.client.zone": "office", "input.context.client.ip": Redacted, "session": "5f1c", "request_id": "01JC",
		"input_digest": Redacted, "id": e.Record.ID, "seq": 3.0, "policy.digest": "sha256:d0", "input.context.time_ns": 1793608200000000000.0,
	} {
		if got := at(r, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if groups := at(r, "input.subject.groups").([]any); len(groups) != 2 || groups[0] != "group-00-engineering" {
		t.Errorf("groups %v", groups)
	}
	out := redacted(t, "", entryOf(t, &audit.Record{Type: audit.TypeOutcome, Outcome: &audit.Outcome{Upstream: "10.1.2.3:80", Error: "of 10.1.2.3"}}, 1))
	if at(out, "outcome.upstream") != "10.1.2.3:80" || at(out, "outcome.error") != "of "+Redacted {
		t.Errorf("outcome %v", out["outcome"])
	}
	plain := redacted(t, "", entryOf(t, &audit.Record{Type: audit.TypeHeartbeat, Detail: json.RawMessage(`{"at":"11:02:03","email":""}`)}, 1))
	if list, ok := plain["redacted"].([]any); !ok || len(list) != 0 || at(plain, "detail.email") != "" {
		t.Errorf("nothing personal became %v", plain)
	}
}

func TestPseudonymsCompareUnderOneKeyOnly(t *testing.T) {
	inputs := entryOf(t, decision(2), 3)
	signedIn := entryOf(t, &audit.Record{Type: audit.TypeControl, Code: "sign_in", Actor: &audit.Actor{Kind: "user", ID: "corp|" + secretEmail, Name: strings.ToUpper(secretEmail), Address: secretIP}}, 4)
	rejected := entryOf(t, &audit.Record{Type: audit.TypeDecision, Detail: json.RawMessage(`{"peer":"` + secretIP + `:555","why":"by ` + secretIP + `:9."}`)}, 5)
	one, two, three := redacted(t, "key", inputs), redacted(t, "key", signedIn), redacted(t, "key", rejected)
	email, ip := at(one, "input.subject.email").(string), at(one, "input.context.client.ip")
	if email != at(two, "actor.name") || at(two, "actor.id") != "corp|"+email || !strings.HasPrefix(email, "[redacted:") || len(email) != len("[redacted:0123456789abcdef]") {
		t.Errorf("e-mail %v, %v, %v", email, at(two, "actor.name"), at(two, "actor.id"))
	}
	if ip == email || ip != at(two, "actor.address") || ip != at(three, "detail.peer") || at(three, "detail.why") != "by "+ip.(string)+":9." {
		t.Errorf("address %v, %v, %v", ip, at(two, "actor.address"), at(three, "detail"))
	}
	if other := at(redacted(t, "other key", inputs), "input.subject.email"); other == email {
		t.Error("another key gives the same pseudonym")
	}
	if again := at(redacted(t, "key", inputs), "input.subject.email"); again != email {
		t.Error("the same key gives another pseudonym")
	}
}

func TestAddressesAreFoundInAnyText(t *testing.T) {
	r := Redact(nil)
	for text, want := range map[string]string{
		"": "", "nothing here": "nothing here", "alice@corp.example": Redacted, "corp|a.b+c@corp.example": "corp|" + Redacted, "<a@b>": "<" + Redacted + ">",
		"x a@b, c@d.": "x " + Redacted + ", " + Redacted, "@": "@", "a@": "a@", "@b": "@b", "a%40b.example": Redacted, "user=ä@ö.example&x": "user=" + Redacted + "&x", "a@b@c": Redacted + "@c",
		"10.0.0.1": Redacted, "10.0.0.1:80": Redacted + ":80", "from 10.0.0.1.": "from " + Redacted + ".", "[2001:db8::1]:443": "[" + Redacted + "]:443", "::ffff:1.2.3.4": Redacted,
		"203.0.113.0/24": Redacted + "/24", "2001:db8:1::/48": Redacted + "/48", "12:30:45": "12:30:45", "2026-11-02T12:30:45.000000000Z": "2026-11-02T12:30:45.000000000Z", "::": Redacted,
		"face1.2.3.4": "face" + Redacted, "peer1.2.3.4": "peer" + Redacted, "1.2.3": "1.2.3", "sha256:ab:cd": "sha256:ab:cd", "a, 10.0.0.1-10.0.0.9": "a, " + Redacted + "-" + Redacted,
		"fe80::1%eth0": Redacted + "%eth0", "01930000-0000-7000-8000-000000000001": "01930000-0000-7000-8000-000000000001", ".1.2.3.4": "." + Redacted,
		"sallyport.example/audit/decision\n12\nq83Z+/==\n\n— corp Az3=": "sallyport.example/audit/decision\n12\nq83Z+/==\n\n— corp Az3=",
	} {
		if got := r.scrub(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestWhatCannotBeRedactedIsLeftOutAndTheRecordStays(t *testing.T) {
	for line, want := range map[string]string{
		`{"id":"x","detail":{"a" 1},"code":"c"}`:            `{"id":"x","detail":"[redacted: unreadable]","code":"c","redacted":[],"redaction_errors":["detail"]}`,
		`{"id":"x","detail":{"a":"b",},"input":{"b":[1,]}}`: `{"id":"x","detail":"[redacted: unreadable]","input":"[redacted: unreadable]","redacted":[],"redaction_errors":["detail","input"]}`,
		`{"id":"x"`:    `{"redacted":[],"redaction_errors":["*"]}`,
		`nonsense`:     `{"redacted":[],"redaction_errors":["*"]}`,
		`{"a":{"b":}}`: `{"a":"[redacted: unreadable]","redacted":[],"redaction_errors":["a"]}`,
	} {
		if got := string(Redact(nil).Append(nil, []byte(line))); got != want {
			t.Errorf("%s became\n%s, want\n%s", line, got, want)
		}
	}
	deep := `{"id":"x","detail":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`
	if got := string(Redact(nil).Append(nil, []byte(deep))); !strings.Contains(got, `"redaction_errors"`) {
		t.Errorf("deep nesting became %s", got)
	}
}

func TestRedactedRecordsAreJSONWithoutTheSecretWhereverItStands(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := hostileEntry(rt, t)
		// A secret in a place that has a rule, or in the middle of any text.
		text := string(e.Raw)
		for _, secret := range []string{secretEmail, secretIP} {
			spots := stringsIn(text)
			if len(spots) == 0 {
				continue
			}
			at := rapid.SampledFrom(spots).Draw(rt, "spot")
			text = text[:at] + rapid.SampledFrom([]string{" ", "", "("}).Draw(rt, "before") + secret + rapid.SampledFrom([]string{" ", "", ")"}).Draw(rt, "after") + text[at:]
		}
		out := Redact(nil).Append(nil, []byte(text))
		var made map[string]any
		if err := json.Unmarshal(out, &made); err != nil {
			rt.Fatalf("%v:\n%s\nof %s", err, out, text)
		}
		if strings.Contains(string(out), secretEmail) {
			rt.Fatalf("leaks an address:\n%s\nof %s", out, text)
		}
		if strings.Contains(string(out), secretIP) {
			rt.Fatalf("leaks an IP address:\n%s\nof %s", out, text)
		}
	})
}

// stringsIn are places inside the string values of input, decision and detail, right behind their quote.
func stringsIn(line string) []int {
	var spots []int
	for name, value := range peek.Members(line) {
		if name != "input" && name != "decision" && name != "detail" {
			continue
		}
		base := strings.Index(line, value)
		for i := 0; i+2 < len(value); i++ {
			if value[i] == ':' && value[i+1] == '"' && (i == 0 || value[i-1] == '"') {
				spots = append(spots, base+i+2)
			}
		}
	}
	return spots
}
