package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"sallyport/audit"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The story of a quarter, told by each report in each format. go test -update rewrites the files.
func TestReportsSayWhatHappened(t *testing.T) {
	for _, kind := range Kinds() {
		for _, disclose := range []bool{false, true} {
			r := build(t, kind, story(), options(disclose))
			for _, format := range Formats() {
				name := string(kind) + map[bool]string{true: "-disclosed"}[disclose] + "." + format
				t.Run(name, func(t *testing.T) {
					golden(t, name, written(t, r, format))
				})
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("another report than %s (-update rewrites it):\n%s", file, got)
	}
}

func TestSameArgumentsGiveTheSameReport(t *testing.T) {
	for _, kind := range Kinds() {
		for _, format := range Formats() {
			first := written(t, build(t, kind, story(), options(false)), format)
			for range 5 {
				if written(t, build(t, kind, story(), options(false)), format) != first {
					t.Fatalf("%s as %s changes from one run to the next", kind, format)
				}
			}
		}
	}
}

// AUD-15: without leave to disclose, no address is anywhere in a report.
func TestNoAddressIsShownUnlessDisclosed(t *testing.T) {
	for _, kind := range Kinds() {
		for _, format := range Formats() {
			hidden, shown := written(t, build(t, kind, story(), options(false)), format), written(t, build(t, kind, story(), options(true)), format)
			for _, word := range []string{"@corp.example", "@partner.example", "olga", "carol", "10.3.3.3"} {
				if strings.Contains(hidden, word) {
					t.Errorf("%s as %s shows %s", kind, format, word)
				}
			}
			if kind == AccessReview && !strings.Contains(shown, ada.email) {
				t.Errorf("%s as %s does not disclose", kind, format)
			}
		}
	}
}

// A reader of the screen gets landmarks, one h1, captions, scopes and a described chart; nobody gets anything from
// elsewhere.
func TestPagesAreAccessibleAndSelfContained(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			root := parse(t, written(t, build(t, kind, story(), options(false)), "html"))
			elements, ids := map[string]int{}, map[string]bool{}
			for n := range root.Descendants() {
				if n.Type != html.ElementNode {
					continue
				}
				elements[n.Data]++
				checkElement(t, n, ids)
			}
			for n := range root.Descendants() {
				for _, a := range n.Attr {
					for id := range strings.FieldsSeq(a.Val) {
						if refers := a.Key == "aria-labelledby" || a.Key == "href"; refers && !ids[strings.TrimPrefix(id, "#")] {
							t.Errorf("%s=%q leads nowhere", a.Key, a.Val)
						}
					}
				}
			}
			for name, want := range map[string]int{"h1": 1, "main": 1, "header": 1, "footer": 1, "nav": 1, "script": 0, "link": 0, "img": 0, "iframe": 0, "title": 1 + elements["svg"]} {
				if elements[name] != want {
					t.Errorf("%d elements %s, want %d", elements[name], name, want)
				}
			}
			if elements["table"] == 0 || kind == Summary && elements["svg"] != 1 {
				t.Errorf("elements: %v", elements)
			}
		})
	}
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func checkElement(t *testing.T, n *html.Node, ids map[string]bool) {
	t.Helper()
	if id := attribute(n, "id"); id != "" {
		if ids[id] {
			t.Errorf("id %s is there twice", id)
		}
		ids[id] = true
	}
	for _, a := range n.Attr {
		if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" || a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
			t.Errorf("%s has %s=%q", n.Data, a.Key, a.Val)
		}
	}
	switch n.Data {
	case "html":
		if attribute(n, "lang") != "en" {
			t.Error("the page states no language")
		}
	case "table":
		if n.FirstChild == nil || n.FirstChild.NextSibling == nil || n.FirstChild.NextSibling.Data != "caption" {
			t.Errorf("table %s has no caption", attribute(n, "id"))
		}
	case "th":
		if attribute(n, "scope") == "" {
			t.Error("a header cell has no scope")
		}
	case "svg":
		if attribute(n, "role") != "img" || attribute(n, "aria-labelledby") == "" {
			t.Error("a chart has no name")
		}
	}
}

// ADM-01, INJ-08: what strangers and people wrote is text in every format.
func TestHostileTextStaysInert(t *testing.T) {
	hostile := []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `=cmd|'/c calc'!A0`, "+1\r\n=2", "@SUM(1)", "-1", "\t=1", "＝1", "\u202egnp.exe", "\x1b[31m",
		`{{.}}`, `</title><script>`, "javascript:alert(1)"}
	b := &book{}
	o := options(true)
	o.Apps = nil
	for _, text := range hostile {
		who := someone{id: "corp|" + text, email: text + "@x", groups: []string{text}}
		b.decide(begin.AddDate(0, 0, 20), who, text, text, audit.Allow)
		b.decide(begin.AddDate(0, 0, 20), someone{id: text}, text, text, audit.Deny)
		b.control(begin.AddDate(0, 0, 21), "config_changed", text, &audit.Actor{Kind: "os", ID: text, Name: text}, map[string]any{"why": text})
		b.control(begin.AddDate(0, 0, 22), CodeReviewed, "", &audit.Actor{Kind: "os", ID: text}, Review{Person: text, App: text, Decision: text, Note: text})
		o.Apps = append(o.Apps, App{Name: text, Title: text, Controls: []string{text}, Rules: []Rule{{ID: text, Description: text, Groups: []string{text}, Emails: []string{text + "@x"}, Conditions: []string{text}, Controls: []string{text}}}})
	}
	o.Query, o.Gateway, o.Program = hostile[0], hostile[1], hostile[8]
	o.Checkpoints = []Checkpoint{{Log: hostile[0], Origin: hostile[1], Root: hostile[2], Signed: hostile[0]}}
	for _, kind := range Kinds() {
		r := build(t, kind, b, o)
		page := written(t, r, "html")
		for n := range parse(t, page).Descendants() {
			if n.Type == html.ElementNode {
				checkElement(t, n, map[string]bool{})
				if n.Data == "script" || n.Data == "img" {
					t.Errorf("%s: text became an element %s", kind, n.Data)
				}
			}
		}
		if strings.ContainsAny(page, "\x1b\u202e") {
			t.Errorf("%s: control characters are on the page", kind)
		}
		var table bytes.Buffer
		if err := r.WriteCSV(&table); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&table).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for _, cell := range row {
				if c := strings.TrimSpace(cell); c != "" && strings.ContainsRune("=+-@＝", []rune(c)[0]) || strings.ContainsAny(cell, "\r\n\x1b\u202e") {
					t.Errorf("%s: a cell reads %q", kind, cell)
				}
			}
		}
		if !json.Valid([]byte(written(t, r, "json"))) {
			t.Errorf("%s: no JSON", kind)
		}
	}
}

var errBroken = errors.New("broken")

func TestReportOfRecordsThatCannotBeReadFails(t *testing.T) {
	for name, entry := range map[string]struct {
		raw string
		err error
	}{"an error": {"", errBroken}, "no record": {"nonsense", nil}, "no time": {`{"seq":1}`, nil}} {
		t.Run(name, func(t *testing.T) {
			records := iter.Seq2[audit.Entry, error](func(yield func(audit.Entry, error) bool) { yield(audit.Entry{Raw: []byte(entry.raw)}, entry.err) })
			for _, kind := range Kinds() {
				if _, err := Build(t.Context(), kind, records, options(false)); err == nil || entry.err != nil && !errors.Is(err, entry.err) {
					t.Errorf("%s: %v", kind, err)
				}
			}
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if _, err := Build(ctx, Summary, story().records(), options(false)); !errors.Is(err, errBroken) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Build(t.Context(), "nonsense", story().records(), options(false)); err == nil {
		t.Error("a report of no kind was made")
	}
	if _, err := Build(t.Context(), Summary, story().records(), Options{}); err == nil {
		t.Error("a report without end was made")
	}
	if err := build(t, Summary, story(), options(false)).Write(io.Discard, "pdf"); err == nil {
		t.Error("a report was written as nothing there is")
	}
}

func TestReviewIsCheckedBeforeItIsRecorded(t *testing.T) {
	good := Review{Person: "corp|ada", App: "wiki", Decision: "keep"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Review){
		"nobody": func(r *Review) { r.Person = "" }, "no app": func(r *Review) { r.App = "" }, "no decision": func(r *Review) { r.Decision = "perhaps" },
		"a long note": func(r *Review) { r.Note = strings.Repeat("x", maxNote+1) },
	} {
		bad := good
		change(&bad)
		if bad.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A chart has at most 62 bars whatever the period, and they hold every decision.
func TestChartsCoverAnyPeriod(t *testing.T) {
	for _, days := range []int{1, 2, 3, 30, 62, 63, 365, 3650} {
		o := Options{From: begin, To: begin.AddDate(0, 0, days)}
		hours := map[int64]*Tally{}
		for h := begin; h.Before(o.To); h = h.Add(7 * time.Hour) {
			hours[h.Unix()/3600] = &Tally{Allowed: 1, Denied: 2}
		}
		list := bars(hours, &o)
		var all Tally
		for _, b := range list {
			all.Allowed += b.Allowed
			all.Denied += b.Denied
		}
		if len(list) > maxBars+1 || all.Allowed != uint64(len(hours)) || all.Denied != 2*uint64(len(hours)) {
			t.Errorf("%d days: %d bars with %+v of %d hours", days, len(list), all, len(hours))
		}
	}
}

func TestControlsComeFromLabels(t *testing.T) {
	got := ControlsOf(map[string]string{"control": "SOC2:CC6.1", "controls": "PCI:7.2, ISO27001:A.5.15 SOC2:CC6.1", "team": "web"})
	if strings.Join(got, " ") != "ISO27001:A.5.15 PCI:7.2 SOC2:CC6.1" {
		t.Errorf("got %q", got)
	}
}

// The words matter: a tool that counts records cannot say that a company complies.
func TestControlsAreWordedWithCare(t *testing.T) {
	page := written(t, build(t, Controls, story(), options(false)), "html")
	if !strings.Contains(page, "Supports evidence for SOC2:CC6.1") || strings.Contains(strings.ToLower(page), "compli") {
		t.Error("the page claims more, or less, than that records support evidence")
	}
}
