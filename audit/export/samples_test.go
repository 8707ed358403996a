package export

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// What must not appear in a redacted export, wherever it was recorded.
const (
	secretEmail = "alice.liddell@corp.example"
	secretIP    = "203.0.113.77"
	secretIP6   = "2001:db8:77::5"
	secretAgent = "Mozilla/5.0 (X11; secret)"
	secretQuery = "q=private"
	secretClaim = "cost-center-4711"
	secretName  = "CN=Alice Liddell"
)

var secrets = []string{secretEmail, "alice.liddell", secretIP, secretIP6, "203.0.113.0", secretAgent, secretQuery, secretClaim, secretName, "Bearer", "%2Fprivate"}

// inputOf is an input as the gateway records it, of a person in so many groups.
func inputOf(groups int) json.RawMessage {
	var names []string
	for i := range groups {
		names = append(names, fmt.Sprintf("%q", fmt.Sprintf("group-%02d-engineering", i)))
	}
	return json.RawMessage(`{"subject":{"type":"user","id":"corp|00u1a2b3c4","email":"` + secretEmail + `","email_verified":true,"groups":[` + strings.Join(names, ",") +
		`],"groups_incomplete":false,"claims":{"cost_center":"` + secretClaim + `"},"authn":{"provider":"corp","acr":"mfa","amr":["pwd","otp"],` +
		`"time":"2026-11-02T08:00:00Z","age_s":1800,"mfa":true},"session":{"id":"5f1c","age_s":1800},"device":{"id":"dev-9","platform":"linux","managed":true},` +
		`"cert":{"fingerprint":"ab","subject":"` + secretName + `","issuer":"CN=ca","serial":"1","dns_names":[],"emails":["` + secretEmail + `"],"uris":[],"not_after":"2027-01-01T00:00:00Z"},"grants":[]},` +
		`"action":{"name":"read","method":"GET","protocol":"HTTP/2.0","upgrade":""},` +
		`"resource":{"type":"app","id":"payroll","labels":{"tier":"1"},"sensitivity":"high","owner":"hr","host":"payroll.corp.example","path":"/people/` + secretEmail + `","segments":["people","` + secretEmail + `"],"query":"` + secretQuery + `"},` +
		`"context":{"time_ns":1793608200000000000,"time":"2026-11-02T09:30:00+01:00","weekday":"mon","hour":9,"client":{"ip":"` + secretIP + `","zone":"office","country":"DE"},` +
		`"tls":{"version":"1.3","cipher":"TLS_AES_128_GCM_SHA256","sni":"payroll.corp.example","alpn":"h2"},` +
		`"request":{"id":"01JC","content_type":"","user_agent":"` + secretAgent + `","origin":"","fetch_site":"same-origin","cross_origin":false,"headers":{"x-forwarded-for":"` + secretIP + `"}}}}`)
}

// details are values for the members of details, by name.
var details = map[string]string{
	"method": `"GET"`, "host": `"payroll.corp.example"`, "target": `"/a/..%2Fprivate?"`, "peer": `"` + secretIP + `:40312"`, "why": `"seen ` + secretIP + `"`,
	"of": `"01930000-0000-7000-8000-000000000001"`, "changed": `{"subject":{"email":"` + secretEmail + `","groups":["a"]},"context":{"client":null,"time_ns":17}}`,
	"from": `"2026-11-02T08:00:00Z"`, "to": `"2026-11-02T08:00:10Z"`, "other": `3`, "rows": `[{"reason":"unauthenticated","app":"payroll","network":"203.0.113.0/24","count":7}]`,
	"provider": `"corp"`, "reported": `"login_required"`, "address": `"` + secretIP6 + `"`, "user_agent": `"` + secretAgent + `"`, "acr": `"mfa"`, "amr": `["otp"]`, "mfa": `true`, "joined": `true`,
	"error": `"could not reach ` + secretIP + ` for ` + secretEmail + `"`, "id": `"5f1c"`, "subject": `"corp|00u1a2b3c4"`, "email": `"` + secretEmail + `"`, "older_than_s": `60`, "all": `true`,
	"count": `2`, "sessions": `["5f1c"]`, "app": `"payroll"`, "url": `"https://payroll.corp.example/x?` + secretQuery + `"`, "prefix": `"/x"`, "undo": `true`, "entries": `1`, "bytes": `2`,
	"path": `"/v1/status"`, "person": `"` + secretEmail + `"`, "decision": `"keep"`, "note": `"asked ` + secretEmail + `"`, "command": `"export"`, "log": `"decision"`,
	"filter": `{"user":"` + secretEmail + `","where":"client_ip == \"` + secretIP + `\""}`, "disclose": `true`, "sha256": `"00ff"`, "config": `"sha256:c0"`, "policy": `"sha256:d0"`,
	"before": `{"config":"sha256:c1"}`, "version": `"1.2.3"`, "keys": `"process"`, "sink": `"siem"`, "ids": `["a"]`, "clock": `{"synced":true}`, "disk": `{"free":1,"size":2}`,
	"sinks": `[{"name":"siem","lag_records":0}]`, "tree": `{"size":9}`, "file": `"decision/0000000001.seg"`, "offset": `4096`, "dropped_bytes": `7`, "missing_bytes": `0`,
	"first_segment": `1`, "last_segment": `2`, "first_seq": `0`, "next_seq": `9`, "reason": `"retention"`, "retention": `"8760h"`, "signed": `9`, "begins": `[{"log":"decision","segment":3,"seq":9,"root":"q83Z"}]`,
	"level": `"warn"`, "free": `1`, "size": `2`, "attempts": `3`,
	"revision": `"9f3ecde"`, "review": `"sha256:e0"`, "pinned": `true`,
	"candidate": `"sha256:d1"`, "active": `"sha256:d0"`, "change": `"gained"`, "name": `"./next"`, "compared": `900`, "dropped": `1`, "clean": `false`, "changes": `{"gained":2}`,
	"differences": `[{"app":"payroll","change":"gained","requests":2}]`, "promoted": `false`, "input_digest": `"sha256:f0"`, "remembered": `{"allow":true}`, "evaluated": `{"allow":false}`,
	"key": `"says"`, "purpose": `"assertion"`, "generation": `2`, "origin": `"corp.example/audit/control"`, "notes": `"a\nb\n"`,
	"run": `"3IWPBUOIHRU"`, "seq": `7`, "codes": `{"wrong_purpose":2}`, "op": `"sign_assertion"`, "code": `"wrong_purpose"`, "uid": `61002`, "pid": `4711`,
	"time": `"2026-11-02T08:30:00Z"`, "after": `{"run":"3IWPBUOIHRU","seq":6}`,
	"serial": `"1a2b"`, "not_after": `"2027-02-02T08:00:00Z"`,
	"by": `"5f1d"`, "sid": `"8f2e"`, "jti": `"a1b2"`, "owner": `"corp|00u1a2b3c4"`, "apps": `["payroll"]`, "methods": `["GET"]`, "expires": `"2027-02-02T08:00:00Z"`,
	"was": `"` + secretIP + `"`, "is": `"` + secretIP6 + `"`, "form": `"f1"`, "kept_of": `"01JC"`, "kind": `"network"`, "added": `["staff"]`, "removed": `["admins"]`,
	"cause": `"no space left on device"`, "since": `"2026-11-02T07:00:00Z"`, "refused": `1`, "lost_outcomes": `0`,
}

var sampleTime = time.Date(2026, 11, 2, 8, 30, 0, 123456789, time.UTC)

// sample is a record of a kind, with all that such records have.
func sample(t testing.TB, e Event) *audit.Record {
	r := &audit.Record{Type: e.Type, Code: e.Code}
	if e.Type == audit.TypeControl {
		kind, id := "os", "uid:1000"
		if e.Class == Authentication || e.Class == AuthorizeSession {
			kind, id, r.Session, r.App = "user", "corp|00u1a2b3c4", "5f1c", "payroll"
		}
		r.Actor = &audit.Actor{Kind: kind, ID: id, Name: secretEmail, Address: secretIP6}
	}
	switch e.Type {
	case audit.TypeDecision:
		return decision(40)
	case audit.TypeReevaluated:
		r.RequestID, r.App, r.Effect, r.Reason = "01JC", "payroll", audit.Deny, "policy"
	case audit.TypeOutcome:
		r.RequestID, r.App, r.Session = "01JC", "payroll", "5f1c"
		r.Outcome = &audit.Outcome{Of: "01930000-0000-7000-8000-000000000001", Status: 200, BytesIn: 3, BytesOut: 5000, DurationNS: 12_345_678, Cache: "miss", Upstream: "10.1.2.3:8443"}
	case audit.TypeWindow:
		r.Effect = audit.Reject
	}
	members := []string{}
	for _, name := range e.Detail {
		if details[name] == "" {
			t.Fatalf("no sample value for %s of %s %s", name, e.Type, e.Code)
		}
		members = append(members, fmt.Sprintf("%q:%s", name, details[name]))
	}
	if len(members) > 0 {
		r.Detail = json.RawMessage("{" + strings.Join(members, ",") + "}")
	}
	return r
}

func decision(groups int) *audit.Record {
	return &audit.Record{
		Type: audit.TypeDecision, RequestID: "01JC", Session: "5f1c", App: "payroll", Effect: audit.Allow, Reason: "allow", Input: inputOf(groups), Memo: true,
		Policy:   audit.Policy{Digest: "sha256:d0", Revision: "r7"},
		Decision: json.RawMessage(`{"allow":true,"reasons":[{"code":"allow","rule":"payroll-staff","admin":"` + secretEmail + ` is staff"}]}`),
	}
}

// variants are more records that differ in what an encoder looks at.
func variants() []*audit.Record {
	denied, unknown, anonymous, failed, nobody, unsent := decision(2), decision(0), decision(0), decision(0), decision(0), decision(0)
	denied.Effect, denied.Reason = audit.Deny, "policy"
	unknown.Effect, unknown.Reason = audit.Deny, "unauthenticated"
	anonymous.Input = json.RawMessage(`{"subject":{"type":"anonymous","groups":[]},"action":{"name":"write","method":"PROPFIND"},"resource":{"host":"[::1]:8443","path":"/"},"context":{"client":{}}}`)
	*failed = audit.Record{Type: audit.TypeOutcome, App: "payroll", Reason: "upstream_failed", Outcome: &audit.Outcome{Of: "x", Error: "not_forwarded", Upstream: "app.internal:80"}}
	*nobody = audit.Record{Type: audit.TypeControl, Code: "sign_in_failed", Reason: "access_denied", Detail: json.RawMessage(`{}`)}
	*unsent = audit.Record{Type: audit.TypeDecision, Effect: audit.Reject, Reason: "target_bytes",
		Detail: json.RawMessage(`{"method":"GE\"T","host":"a b","target":"","peer":"` + secretIP + `:9","why":"x"}`)}
	return []*audit.Record{denied, unknown, anonymous, failed, nobody, unsent,
		{Type: audit.TypeControl, Code: "of_the_future", Detail: json.RawMessage(`{"any":[1]}`)},
		{Type: audit.TypeDecision, Effect: audit.Reject, Reason: "encoded_separator",
			Detail: json.RawMessage(`{"method":"GET","host":"payroll.corp.example","target":` + details["target"] + `,"peer":` + details["peer"] + `,"why":` + details["why"] + `}`)},
		{Type: audit.TypeHeartbeat},
		{Type: audit.TypeWindow},
	}
}

// samples are one record of every kind, and the variants.
func samples(t testing.TB) []*audit.Record {
	var all []*audit.Record
	for _, e := range Events() {
		all = append(all, sample(t, e))
	}
	return append(all, variants()...)
}

// entryOf is a record as the reader yields it, with what the log stamps on it.
func entryOf(t testing.TB, r *audit.Record, seq uint64) audit.Entry {
	stamped := *r
	stamped.V, stamped.ID, stamped.Log, stamped.Seq = 1, fmt.Sprintf("01930000-0000-7000-8000-%012d", seq), audit.DecisionLog, seq
	stamped.Boot, stamped.Time, stamped.Replica = audit.Boot{ID: "b0", N: 4}, sampleTime.Add(time.Duration(seq%1e6)*time.Second), "gw-1"
	if r.Type == audit.TypeControl {
		stamped.Log = audit.ControlLog
	}
	if len(r.Input) > 0 {
		stamped.InputDigest = "sha256:11"
	}
	raw, err := json.Marshal(&stamped)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Entry{Record: &stamped, Raw: spelled(raw)}
}

// spelled is JSON as the log spells it: what does not print is escaped.
func spelled(raw []byte) []byte {
	var b []byte
	for _, r := range string(raw) {
		if r != utf8.RuneError && unicode.IsPrint(r) {
			b = utf8.AppendRune(b, r)
		} else {
			b = peek.AppendEscape(b, r)
		}
	}
	return b
}

func entries(t testing.TB, records ...*audit.Record) []audit.Entry {
	var all []audit.Entry
	for i, r := range records {
		all = append(all, entryOf(t, r, uint64(i)))
	}
	return all
}

func encode(t testing.TB, format string, o Options, e audit.Entry) string {
	t.Helper()
	encoder, err := NewEncoder(format, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := encoder.Append(nil, e)
	if err != nil {
		t.Fatalf("%s: %v", e.Raw, err)
	}
	return string(out)
}
