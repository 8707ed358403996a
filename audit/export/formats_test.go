package export

import (
	"bytes"
	stdcsv "encoding/csv"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"sallyport/audit"
)

func TestDisclosedJSONLinesAreTheRecordsOwnBytes(t *testing.T) {
	for _, e := range entries(t, samples(t)...) {
		if got := encode(t, JSONL, Options{Disclose: true}, e); got != string(e.Raw)+"\n" {
			t.Errorf("%s became %s", e.Raw, got)
		}
	}
}

func TestUnknownFormatsColumnsAndMessagesAreRefused(t *testing.T) {
	for format, o := range map[string]Options{"xml": {}, CSV: {Columns: []string{"time", "shoe_size"}}, Syslog: {Message: "xml"}} {
		if _, err := New(format, nil, o); err == nil {
			t.Errorf("%s %+v is no error", format, o)
		}
	}
	if _, err := NewEncoder(CSV, Options{Columns: []string{}}); err == nil {
		t.Error("CSV without columns is no error")
	}
	for _, format := range Formats() {
		if encoder, err := NewEncoder(format, Options{Disclose: true}); err != nil {
			t.Error(err)
		} else if _, err := encoder.Append(nil, audit.Entry{}); err == nil {
			t.Errorf("%s of nothing is no error", format)
		}
	}
}

// readCSV reads header and rows back with the standard library.
func readCSV(t fataler, text string) []map[string]string {
	reader := stdcsv.NewReader(strings.NewReader(text))
	lines, err := reader.ReadAll()
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, cell := range line {
			row[lines[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return rows
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
	Fatal(...any)
}

func written(t fataler, format string, o Options, all ...audit.Entry) string {
	t.Helper()
	var out bytes.Buffer
	w, err := New(format, &out, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCSVHasAColumnForEverything(t *testing.T) {
	all := entries(t, samples(t)...)
	text := written(t, CSV, Options{Disclose: true}, all...)
	if n := strings.Count(text, "\r\n"); n != len(all)+1 || strings.Count(text, "\n") != n {
		t.Errorf("%d lines of %d records", n, len(all))
	}
	rows := readCSV(t, text)
	d := rows[0]
	for name, want := range map[string]string{
		"time": "2026-11-02T08:30:00.123456789Z", "log": "decision", "seq": "0", "type": "decision", "effect": "allow", "app": "payroll", "subject": "corp|00u1a2b3c4", "email": secretEmail,
		"method": "GET", "path": "/people/" + secretEmail, "query": secretQuery, "client_ip": secretIP, "user_agent": secretAgent, "policy": "sha256:d0", "rules": "payroll-staff",
		"memo": "true", "boot_n": "4", "duration_ms": "", "redacted": "",
	} {
		if d[name] != want {
			t.Errorf("%s is %q, want %q", name, d[name], want)
		}
	}
	if got := rows[2]["duration_ms"]; got != "12.346" {
		t.Errorf("duration_ms %q", got)
	}
	filled := map[string]bool{}
	for _, row := range append(rows, readCSV(t, written(t, CSV, Options{}, all...))...) {
		for name, cell := range row {
			filled[name] = filled[name] || cell != ""
		}
	}
	for _, c := range Columns() {
		if !filled[c.Name] || c.Doc == "" {
			t.Errorf("column %s is never filled, or not described", c.Name)
		}
	}
	if got := written(t, CSV, Options{Columns: []string{"seq", "app"}}, all[0]); got != "seq,app\r\n0,payroll\r\n" {
		t.Errorf("two columns: %q", got)
	}
	if got := written(t, CSV, Options{Columns: []string{"seq"}}); got != "seq\r\n" {
		t.Errorf("no record: %q", got)
	}
}

func TestNoCSVCellIsAFormula(t *testing.T) {
	for _, cell := range []string{"=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "\uff1d1", "\u3000=1", "ok", "a=b", "", `"=1"`, "a;=1"} {
		e := entryOf(t, &audit.Record{Type: audit.TypeDecision, App: cell}, 1)
		text := written(t, CSV, Options{Columns: []string{"app", "seq"}}, e)
		got := readCSV(t, text)[0]["app"]
		first := strings.TrimLeft(got, " \u3000\u00a0")
		if first != "" && strings.ContainsAny(first[:1], "=+-@\t\r") || strings.HasPrefix(first, "\uff1d") {
			t.Errorf("%q became the formula %q", cell, got)
		}
		if cell == "ok" && got != "ok" || cell == "a=b" && got != "a=b" {
			t.Errorf("%q became %q", cell, got)
		}
	}
}

func TestHostileRecordsStayOneRowLineOrMessage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := hostileEntry(rt, t)
		rows := readCSV(rt, written(rt, CSV, Options{Disclose: true}, e))
		if len(rows) != 1 {
			rt.Fatalf("%d rows", len(rows))
		}
		for name, cell := range rows[0] {
			if isFormula(cell) || strings.ContainsFunc(cell, func(r rune) bool { return !unicode.IsPrint(r) }) {
				rt.Fatalf("%s is %q", name, cell)
			}
		}
		if line := written(rt, CEF, Options{Disclose: true}, e); strings.Count(line, "\n") != 1 {
			rt.Fatalf("CEF %q", line)
		} else {
			parseCEF(rt, strings.TrimSuffix(line, "\n"))
		}
		for _, o := range []Options{{Disclose: true}, {Message: CEF}} {
			parseSyslog(rt, strings.TrimSuffix(written(rt, Syslog, o, e), "\n"))
		}
	})
}

// parseCEF undoes the escaping as the CEF standard describes it.
func parseCEF(t fataler, line string) (header []string, extension map[string]string) {
	t.Helper()
	part := strings.Builder{}
	i := 0
	for ; i < len(line) && len(header) < 7; i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line):
			i++
			part.WriteByte(line[i])
		case line[i] == '|':
			header = append(header, part.String())
			part.Reset()
		default:
			part.WriteByte(line[i])
		}
	}
	if len(header) != 7 || header[0] != "CEF:0" {
		t.Fatalf("header %q of %q", header, line)
	}
	extension = map[string]string{}
	rest := line[i:]
	keys := regexp.MustCompile(`(?:^| )([a-zA-Z0-9]+)=`)
	at := keys.FindAllStringSubmatchIndex(rest, -1)
	at = slices.DeleteFunc(at, func(m []int) bool { return m[3] > 0 && rest[m[3]-1] == '\\' })
	for n, m := range at {
		end := len(rest)
		if n+1 < len(at) {
			end = at[n+1][0]
		}
		value := strings.NewReplacer(`\\`, `\`, `\=`, `=`, `\n`, "\n", `\r`, "\r").Replace(rest[m[1]:end])
		if _, twice := extension[rest[m[2]:m[3]]]; twice {
			t.Fatalf("key %s twice in %q", rest[m[2]:m[3]], line)
		}
		extension[rest[m[2]:m[3]]] = value
	}
	return header, extension
}

func TestCEFEscapesHeaderAndValues(t *testing.T) {
	r := decision(2)
	r.App, r.Reason, r.Session = `a=b\c|d`, "x\ny", "s p=q"
	r.Code = `odd|co\de`
	header, x := parseCEF(t, strings.TrimSuffix(encode(t, CEF, Options{Disclose: true, Version: "1|2"}, entryOf(t, r, 7)), "\n"))
	if want := []string{"CEF:0", "Sallyport", "Sallyport", "1|2", `decision:odd|co\de`, "Request decided: allowed", "1"}; !slices.Equal(header, want) {
		t.Errorf("header %q, want %q", header, want)
	}
	for key, want := range map[string]string{
		"destinationServiceName": `a=b\c|d`, "reason": `x\u000ay`, "cs2": "s p=q", "cs2Label": "session", "src": secretIP, "suser": secretEmail, "suid": "corp|00u1a2b3c4",
		"rt": strconv.FormatInt(sampleTime.UnixMilli()+7000, 10), "requestMethod": "GET", "request": "/people/" + secretEmail + "?" + secretQuery, "requestClientApplication": secretAgent,
		"act": "allow", "outcome": "success", "cn1": "7", "dhost": "payroll.corp.example", "dvchost": "gw-1", "externalId": "01930000-0000-7000-8000-000000000007",
	} {
		if x[key] != want {
			t.Errorf("%s is %q, want %q", key, x[key], want)
		}
	}
	_, x = parseCEF(t, strings.TrimSuffix(encode(t, CEF, Options{Disclose: true}, entryOf(t, sample(t, *eventTable()[kind{audit.TypeControl, "sign_in"}]), 1)), "\n"))
	if x["c6a2"] != secretIP6 || x["suser"] != secretEmail || x["src"] != "" {
		t.Errorf("sign-in %v", x)
	}
}

var (
	syslogHeader = regexp.MustCompile(`^<(\d{1,3})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) sallyport ([!-~]{1,128}) ([!-~]{1,32}) `)
	syslogData   = regexp.MustCompile(`^\[sallyport@32473((?: [a-z_]+="(?:[^"\\\]]|\\["\\\]])*")*)\] `)
)

// parseSyslog takes a message apart as RFC 5424 §6 defines it.
func parseSyslog(t fataler, message string) (header []string, data, text string) {
	t.Helper()
	header = syslogHeader.FindStringSubmatch(message)
	if header == nil {
		t.Fatalf("header of %q", message)
	}
	rest := message[len(header[0]):]
	found := syslogData.FindStringSubmatch(rest)
	if found == nil {
		t.Fatalf("structured data of %q", rest)
	}
	text = rest[len(found[0]):]
	marked := strings.HasPrefix(text, "\ufeff")
	beyond := strings.ContainsFunc(strings.TrimPrefix(text, "\ufeff"), func(r rune) bool { return r > 0x7f })
	if marked != beyond || strings.ContainsAny(text, "\r\n") {
		t.Fatalf("byte order mark %v of %q", marked, text)
	}
	return header, found[1], strings.TrimPrefix(text, "\ufeff")
}

func TestSyslogMessagesAreRFC5424(t *testing.T) {
	r := decision(1)
	r.App, r.Reason = `pay"]\roll`, "ünïcode"
	e := entryOf(t, r, 41)
	header, data, text := parseSyslog(t, strings.TrimSuffix(encode(t, Syslog, Options{Disclose: true}, e), "\n"))
	if want := []string{"110", "2026-11-02T08:30:41.123456Z", "gw-1", "4", "decision"}; !slices.Equal(header[1:], want) {
		t.Errorf("header %q, want %q", header[1:], want)
	}
	if want := ` id="01930000-0000-7000-8000-000000000041" log="decision" seq="41" type="decision" app="pay\"\]\\roll" effect="allow" reason="ünïcode" request_id="01JC" session="5f1c"`; data != want {
		t.Errorf("data %s\nwant %s", data, want)
	}
	var got, want any
	if json.Unmarshal([]byte(text), &got) != nil || json.Unmarshal(e.Raw, &want) != nil || at(got, "reason") != "ünïcode" {
		t.Errorf("message %s", text)
	}
	_, _, text = parseSyslog(t, strings.TrimSuffix(encode(t, Syslog, Options{Disclose: true, Message: CEF}, e), "\n"))
	if _, x := parseCEF(t, text); x["reason"] != "ünïcode" {
		t.Errorf("CEF message %s", text)
	}
	for code, want := range map[string]string{"sign_in_failed": "108", "torn_tail": "107", "sign_in": "110", "log_read": "109"} {
		for _, event := range Events() {
			if event.Code == code {
				if header, _, _ := parseSyslog(t, strings.TrimSuffix(encode(t, Syslog, Options{}, entryOf(t, sample(t, event), 1)), "\n")); header[1] != want {
					t.Errorf("%s has priority %s, want %s", code, header[1], want)
				}
			}
		}
	}
}

func TestOctetCountingFramesByLength(t *testing.T) {
	all := entries(t, samples(t)...)
	for _, message := range []string{JSONL, CEF} {
		text := written(t, Syslog, Options{Message: message, OctetCounting: true}, all...)
		plain := strings.Split(strings.TrimSuffix(written(t, Syslog, Options{Message: message}, all...), "\n"), "\n")
		n := 0
		for text != "" {
			count, rest, _ := strings.Cut(text, " ")
			length, err := strconv.Atoi(count)
			if err != nil || length > len(rest) || count[0] == '0' {
				t.Fatalf("frame %d: %q", n, count)
			}
			if rest[:length] != plain[n] {
				t.Errorf("frame %d is %q, want %q", n, rest[:length], plain[n])
			}
			parseSyslog(t, rest[:length])
			text, n = rest[length:], n+1
		}
		if n != len(all) {
			t.Errorf("%d frames of %d records", n, len(all))
		}
	}
}
