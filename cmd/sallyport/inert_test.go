package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport/audit"
	"sallyport/gateway/admin"
)

// hostile is what strangers put into user agents, paths and names to act on a terminal or on whoever reads it.
const hostile = "\x1b]0;owned\a\x1b[2J\u009b31m\u0085\x7f\nlevel=ERROR \u202egpj.exe\u2066\u200b\ufeff\u2028\U000e0041 \xff }{\",\"x\":\"y =cmd() <script>"

// INJ-08: lists as JSON and logs in both formats are read on terminals too. What JSON's own encoder lets through is found
// here as well, so that the test is known to see it.
func TestJSONAndLogsAreInertInATerminal(t *testing.T) {
	acts := func(shown string) bool { return strings.ContainsFunc(strings.ReplaceAll(shown, "\n", " "), harmful) }
	value := map[string]any{"agent": hostile, "list": []any{hostile}, hostile: "name"}
	var list, line, text bytes.Buffer
	if err := printJSON(&list, value); err != nil {
		t.Fatal(err)
	}
	(&runCommand{LogFormat: "json"}).logger(&line).Error(hostile, "path", hostile, hostile, "key", "error", errors.New(hostile))
	(&runCommand{LogFormat: "text"}).logger(&text).Error(hostile, "path", hostile, hostile, "key", "error", errors.New(hostile))
	for name, shown := range map[string]string{"list": list.String(), "log line as JSON": line.String(), "log line": text.String()} {
		if acts(shown) {
			t.Errorf("%s: %q acts on a terminal", name, shown)
		}
	}
	for name, shown := range map[string]string{"log line as JSON": line.String(), "log line": text.String()} {
		if strings.Count(shown, "\n") != 1 {
			t.Errorf("%s: %q is not one line", name, shown)
		}
	}
	var raw bytes.Buffer
	if err := json.NewEncoder(&raw).Encode(value); err != nil || !acts(raw.String()) {
		t.Errorf("JSON's own encoder is inert: %q, %v", &raw, err)
	}
	var got, want any
	if err := errors.Join(json.Unmarshal(list.Bytes(), &got), json.Unmarshal(raw.Bytes(), &want)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("programs read %v, want %v; %v", got, want, err)
	}
	if !json.Valid(line.Bytes()) {
		t.Errorf("%q is no JSON", &line)
	}
}

// ADM-01, INJ-08: every list of the command line goes through one of these, and none of what they print acts.
func TestListsAreInertInATerminal(t *testing.T) {
	now := time.Now()
	in := func(out *bytes.Buffer) *invocation { return &invocation{out: out, errOut: out} }
	for name, list := range map[string]func(*bytes.Buffer) error{
		"sessions": func(out *bytes.Buffer) error {
			return printSessions(in(out), []admin.Session{{ID: hostile, Email: hostile, Address: hostile, UserAgent: hostile}}, false)
		},
		"upstreams": func(out *bytes.Buffer) error {
			return printUpstreams(out, []admin.Upstream{{App: hostile, URL: hostile, State: hostile, Error: hostile}}, false)
		},
		"status": func(out *bytes.Buffer) error {
			return printStatus(out, admin.Status{Why: hostile, Config: admin.ConfigStatus{Error: hostile}, Providers: []admin.Provider{{Name: hostile, Why: hostile}},
				Certificates: []admin.Certificate{{File: hostile, Names: []string{hostile}}}}, now)
		},
		"records": func(out *bytes.Buffer) error {
			p := newRecordPrinter(out, audit.DecisionLog, false)
			input, err := json.Marshal(map[string]any{"subject": map[string]string{"email": hostile}, "resource": map[string]string{"path": hostile}})
			return errors.Join(err, p.entry(audit.Entry{Record: &audit.Record{Effect: hostile, Reason: hostile, App: hostile, Input: input}}),
				p.entry(audit.Entry{Record: &audit.Record{Code: hostile, Actor: &audit.Actor{Name: hostile}}}),
				p.entry(audit.Entry{Record: &audit.Record{Detail: json.RawMessage(hostile)}}))
		},
		"an error": func(out *bytes.Buffer) error {
			exitCode(errors.New(hostile), out)
			return nil
		},
	} {
		var out bytes.Buffer
		if err := list(&out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if shown := out.String(); strings.ContainsFunc(strings.ReplaceAll(shown, "\n", " "), harmful) {
			t.Errorf("%s: %q acts on a terminal", name, shown)
		}
	}
}

func TestINJ_TextsOfStrangersAreInertInATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"Grüße, 世界":             "Grüße, 世界",
		"\x1b[2J\x1b]0;owned\a": `\u{1b}[2J\u{1b}]0;owned\u{7}`,
		"a\nb\r\tc":             `a\u{a}b\u{d}\u{9}c`,
		"user\u202egpj.exe":     `user\u{202e}gpj.exe`,
		"a\u200bb\ufeff":        `a\u{200b}b\u{feff}`,
		"\u009b31m":             `\u{9b}31m`,
		"bad \xff\xfe":          `bad \xff\xfe`,
		"a\u2028b\u00a0c":       `a\u{2028}b\u{a0}c`,
	} {
		if got := inert(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	if got := short(strings.Repeat("ü", 300)); got != strings.Repeat("ü", shortMax)+"…" {
		t.Errorf("a long value is shown as %q", got)
	}
}

func FuzzInert(f *testing.F) {
	for _, seed := range []string{"", "\x1b[0m", "\u202e", "\xff", "a b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shown := inert(text)
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, harmful) {
			t.Errorf("%q is shown as %q", text, shown)
		}
		if inert(shown) != shown {
			t.Errorf("%q is not shown as itself", shown)
		}
	})
}
