package export

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/audit"
)

func ocsfSchema(t testing.TB) *schema {
	s, err := parseSchema(ocsfFacts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var bothWays = map[string]Options{"redacted": {}, "with pseudonyms": {Key: []byte("k")}, "disclosed": {Disclose: true}}

func TestOCSFEventsOfEveryKindAreValid(t *testing.T) {
	s := ocsfSchema(t)
	for _, e := range entries(t, samples(t)...) {
		for how, o := range bothWays {
			line := encode(t, OCSF, o, e)
			if err := s.validate([]byte(line)); err != nil {
				t.Errorf("%s %s, %s:\n%v\n%s", e.Record.Type, e.Record.Code, how, err, line)
			}
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
				t.Errorf("not one line: %q", line)
			}
		}
	}
}

// hostile are texts that break encoders.
var hostile = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", `"`, `\`, "\x00", "\u2028", "\u202e", "<script>", "a\r\nb", "[redacted]", "203.0.113.7:99999", "::1", "fe80::1%eth0",
	"x@y.example", "@", "-a", "a.b.", strings.Repeat("x", 300), "99", "{}", "CONNECT", "\xff\xfe"}))

// anyJSON is any JSON value.
func anyJSON(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 5+min(depth, 1)*3).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.Int64().Draw(t, "int")
	case 3:
		return rapid.Float64Range(-1e300, 1e300).Draw(t, "float")
	case 4, 5:
		return hostile.Draw(t, "text")
	case 6:
		var list []any
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			list = append(list, anyJSON(t, depth-1))
		}
		return list
	}
	return document(t, depth-1, rapid.SampledFrom(memberNames))
}

var memberNames = []string{"subject", "action", "resource", "context", "client", "ip", "id", "email", "groups", "authn", "mfa", "type", "method", "host", "path", "query", "tls", "version",
	"request", "user_agent", "zone", "country", "provider", "claims", "headers", "target", "peer", "address", "log", "file", "rows", "count", "from", "to", "other", "config", "policy", "person",
	"error", "app", "of", "url", "reasons", "rule", "device", "labels", "sensitivity", "name", "a\"b"}

func document(t *rapid.T, depth int, names *rapid.Generator[string]) map[string]any {
	object := map[string]any{}
	for range rapid.IntRange(0, 8).Draw(t, "members") {
		object[names.Draw(t, "name")] = anyJSON(t, depth)
	}
	return object
}

func raw(t *rapid.T, v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// hostileEntry is a record of a known kind with anything in it.
func hostileEntry(t *rapid.T, tb testing.TB) audit.Entry {
	text := func(name string) string { return hostile.Draw(t, name) }
	e := rapid.SampledFrom(Events()).Draw(t, "event")
	r := &audit.Record{Type: e.Type, Code: e.Code, RequestID: text("request"), Session: text("session"), App: text("app"), Reason: text("reason"),
		Effect: audit.Effect(rapid.OneOf(rapid.SampledFrom([]string{"", "allow", "deny", "reject"}), hostile).Draw(t, "effect")), Policy: audit.Policy{Digest: text("digest"), Revision: text("revision")}}
	if rapid.Bool().Draw(t, "has input") {
		r.Input = raw(t, anyInput(t))
	}
	if rapid.Bool().Draw(t, "has detail") {
		names := rapid.SampledFrom(memberNames)
		if len(e.Detail) > 0 {
			names = rapid.OneOf(names, rapid.SampledFrom(e.Detail))
		}
		r.Detail = raw(t, document(t, 3, names))
	}
	if rapid.Bool().Draw(t, "has decision") {
		r.Decision = raw(t, document(t, 3, rapid.SampledFrom(memberNames)))
	}
	if rapid.Bool().Draw(t, "has actor") {
		r.Actor = &audit.Actor{Kind: text("kind"), ID: text("id"), Name: text("name"), Address: text("address")}
	}
	if rapid.Bool().Draw(t, "has outcome") {
		r.Outcome = &audit.Outcome{Of: text("of"), Status: rapid.Int().Draw(t, "status"), BytesIn: rapid.Int64().Draw(t, "in"), DurationNS: rapid.Int64().Draw(t, "duration"), Upstream: text("upstream"), Error: text("error")}
	}
	return entryOf(tb, r, rapid.Uint64Range(0, 1<<40).Draw(t, "seq"))
}

// anyInput is an input with the right members and anything in them.
func anyInput(t *rapid.T) any {
	part := func(names ...string) any {
		if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
			return anyJSON(t, 2)
		}
		return document(t, 2, rapid.SampledFrom(names))
	}
	return map[string]any{
		"subject": part("type", "id", "email", "groups", "authn", "claims", "device"), "action": part("name", "method", "protocol"),
		"resource": part("host", "path", "query", "labels", "sensitivity"), "context": part("client", "tls", "request"),
	}
}

func TestOCSFEventsOfHostileRecordsAreValid(t *testing.T) {
	s := ocsfSchema(t)
	rapid.Check(t, func(rt *rapid.T) {
		e := hostileEntry(rt, t)
		for how, o := range bothWays {
			line := encode(t, OCSF, o, e)
			if err := s.validate([]byte(line)); err != nil {
				rt.Fatalf("%s:\n%v\nof %s\nis %s", how, err, e.Raw, line)
			}
		}
	})
}

// Mistakes that an encoder could make must be found by the validator.
func TestInvalidOCSFEventsAreFound(t *testing.T) {
	s := ocsfSchema(t)
	mutants := 0
	for _, e := range entries(t, samples(t)...) {
		line := encode(t, OCSF, Options{Disclose: true}, e)
		for name, mutate := range ocsfMutants(t, s, line) {
			var event map[string]any
			decoder := json.NewDecoder(strings.NewReader(line))
			decoder.UseNumber()
			if err := decoder.Decode(&event); err != nil {
				t.Fatal(err)
			}
			mutate(event)
			mutant, _ := json.Marshal(event)
			if s.validate(mutant) == nil {
				t.Errorf("%s %s: %s is not found", e.Record.Type, e.Record.Code, name)
			}
			mutants++
		}
	}
	if mutants < 300 {
		t.Errorf("only %d mutants", mutants)
	}
	t.Logf("%d mutants", mutants)
}

func ocsfMutants(t testing.TB, s *schema, line string) map[string]func(map[string]any) {
	var event map[string]any
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		t.Fatal(err)
	}
	class := s.classes[int64(event["class_uid"].(float64))]
	mutants := map[string]func(map[string]any){
		"another type_uid":     func(e map[string]any) { e["type_uid"] = 1 },
		"another category":     func(e map[string]any) { e["category_uid"] = 2 },
		"an unknown severity":  func(e map[string]any) { e["severity_id"] = 7 },
		"an unknown activity":  func(e map[string]any) { e["activity_id"] = 98; e["type_uid"] = class.uid*100 + 98 },
		"seconds for time":     func(e map[string]any) { e["time"] = 1793608200 },
		"text for time":        func(e map[string]any) { e["time"] = "2026-11-02T08:30:00Z" },
		"an unknown attribute": func(e map[string]any) { e["surprise"] = 1 },
		"text for unmapped":    func(e map[string]any) { e["unmapped"] = "x" },
		"no product":           func(e map[string]any) { delete(e["metadata"].(map[string]any), "product") },
		"no version":           func(e map[string]any) { delete(e["metadata"].(map[string]any), "version") },
		"no profiles":          func(e map[string]any) { delete(e["metadata"].(map[string]any), "profiles") },
		"text for a flag":      func(e map[string]any) { e["is_alert"] = "no" },
		"a number for text":    func(e map[string]any) { e["message"] = 3 },
		"a list for an object": func(e map[string]any) { e["metadata"] = []any{} },
		"an activity without one": func(e map[string]any) {
			e["activity_id"], e["type_uid"] = 99, class.uid*100+99
			delete(e, "activity_name")
		},
	}
	for name, a := range class.attributes {
		if a.requirement == "required" && event[name] != nil {
			mutants["no "+name] = func(e map[string]any) { delete(e, name) }
		}
	}
	if len(class.atLeast)+len(class.justs) > 0 {
		mutants["none of a constraint"] = func(e map[string]any) {
			for _, name := range slices.Concat(class.atLeast, class.justs) {
				delete(e, name)
			}
		}
	}
	if a, ok := event["actor"].(map[string]any); ok && a["user"] != nil {
		mutants["a user without a name"] = func(e map[string]any) { e["actor"].(map[string]any)["user"] = map[string]any{"type_id": 1} }
	}
	if event["src_endpoint"] != nil {
		mutants["an address that is none"] = func(e map[string]any) { e["src_endpoint"] = map[string]any{"ip": Redacted} }
	}
	return mutants
}

// leftOut are attributes that OCSF recommends for the classes and that no record has anything to say for.
var leftOut = map[string]string{
	"observables": "repeats what other attributes hold", "confidence_id": "a policy's answer has no confidence", "device": "about the client's device little is known, see unmapped.device",
	"http_cookies": "cookies are never recorded", "connection_info": "neither ports nor protocol numbers are recorded",
	"authorize_session.status_detail": "a session carried to an app never fails on record",
	"event_log_actvity.dst_endpoint":  "a log is a file of its own machine",
	"certificate":                     "see unmapped", "account_switch_type": "nobody acts as somebody else", "account_switch_type_id": "nobody acts as somebody else",
	"group": "just one of privileges and group", "entity_result": "what became of an entity has a record of its own",
	"http_request": "an operator's call has no HTTP request of a client", "http_response": "an operator's call has no HTTP response to a client",
}

func TestRecommendedAttributesAreFilledOrLeftOutForAReason(t *testing.T) {
	s := ocsfSchema(t)
	seen := map[int64]map[string]bool{}
	for _, e := range entries(t, samples(t)...) {
		var event map[string]any
		if err := json.Unmarshal([]byte(encode(t, OCSF, Options{Disclose: true}, e)), &event); err != nil {
			t.Fatal(err)
		}
		class := int64(event["class_uid"].(float64))
		if seen[class] == nil {
			seen[class] = map[string]bool{}
		}
		for name := range event {
			seen[class][name] = true
		}
	}
	for _, class := range s.classes {
		for name, a := range class.attributes {
			inUse := a.profile == "" || a.profile == "security_control" || a.profile == "host"
			if a.requirement == "recommended" && inUse && !seen[class.uid][name] && leftOut[name] == "" && leftOut[class.name+"."+name] == "" {
				t.Errorf("%s: %s is recommended, never there, and has no reason", class.name, name)
			}
		}
	}
	if len(seen) != len(s.classes) {
		t.Errorf("%d of %d classes are in use", len(seen), len(s.classes))
	}
}

func TestOCSFSaysWhatTheRecordSays(t *testing.T) {
	e := entryOf(t, decision(2), 9)
	var event map[string]any
	if err := json.Unmarshal([]byte(encode(t, OCSF, Options{Disclose: true, Version: "1.2"}, e)), &event); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"class_uid": 4002.0, "activity_id": 3.0, "time": float64(e.Record.Time.UnixMilli()), "action_id": 1.0, "disposition_id": 1.0, "status_id": 1.0, "severity_id": 1.0,
		"metadata.uid": e.Record.ID, "metadata.sequence": 9.0, "metadata.log_name": "decision", "metadata.correlation_uid": "01JC", "metadata.product.version": "1.2",
		"actor.user.uid": "corp|00u1a2b3c4", "actor.user.email_addr": secretEmail, "actor.session.uid": "5f1c", "src_endpoint.ip": secretIP, "src_endpoint.location.country": "DE",
		"dst_endpoint.svc_name": "payroll", "dst_endpoint.hostname": "payroll.corp.example", "http_request.http_method": "GET", "http_request.user_agent": secretAgent,
		"http_request.url.query_string": secretQuery, "policy.uid": "sha256:d0", "firewall_rule.uid": "payroll-staff", "tls.version": "1.3", "status_code": "allow",
	} {
		if got := at(event, path); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

// at is the value at a path of names.
func at(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}
