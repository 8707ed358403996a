package suite

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/regotest"
)

const (
	wikiRego = `package sallyport.app.wiki

import data.corp.office

decision := {"allow": true, "reasons": [{"code": "allow", "rule": "office"}]} if office.there

decision := {"allow": false, "labels": note} if {
	not office.there
	count(note) >= 0
}

note := {"from": ip} if {
	ip := input.context.client.ip
	time.clock([input.context.time_ns, "Local"])
} else := {}
`
	officeRego = "package corp.office\n\nthere if net.cidr_contains(\"10.0.0.0/8\", input.context.client.ip)\n\nspare := 7 if input.subject.type == \"robot\"\n"
	officeTest = `package office_test

import data.corp.office

test_there if office.there with input.context.client.ip as "10.1.1.1"

test_elsewhere[ip] if {
	some ip in ["192.0.2.1", "11.0.0.1"]
	not office.there with input.context.client.ip as ip
}

test_wrong if {
	print("the client is at", "10.1.1.1")
	not office.there with input.context.client.ip as "10.1.1.1"
}

test_cases[name] if {
	some name, ip in {"near": "10.0.0.1", "far": "192.0.2.1"}
	office.there with input.context.client.ip as ip
}

test_fails if time.clock([0, "Local"])

todo_test_later if false
`
	wikiTable = "cases:\n  - { who: Ada, app: wiki, from: office, expect: allow, why: office }\n  - { who: Ada, app: shop, expect: allow }\n"
	company   = "people: [{ name: Ada }]\nplaces: { office: { ip: 10.0.0.1 } }\n"
)

func apps() []policy.App {
	return []policy.App{{Name: "wiki"}, {Name: "shop", Access: policy.Access{
		{ID: "look", Methods: []string{"GET"}, Public: true}, {ID: "sell", Groups: []string{"sales"}},
	}}}
}

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		name = filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func engine(t *testing.T, rego string) *policy.Engine {
	t.Helper()
	b, err := policy.Build(policy.Config{Bundle: rego}, apps())
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// company's files, with the Rego in a folder of their own.
func files() map[string]string {
	return map[string]string{
		"rego/wiki.rego": wikiRego, "rego/corp/office.rego": officeRego, "rego/corp/office_test.rego": officeTest,
		"rego/.old/x_test.rego": "nonsense", "rego/tables/wiki.yaml": wikiTable, "rego/notes.yaml": "nonsense: [",
		"tables/more.yml": "cases: [{ who: anonymous, app: shop, expect: allow }]", "directory.yaml": company, "elsewhere/tables/x.yaml": "nonsense",
	}
}

func TestSuiteRuns(t *testing.T) {
	folder := write(t, files())
	rego := filepath.Join(folder, "rego")
	s, err := Find(rego, folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Tests) != 1 || len(s.Tables) != 2 || s.Directory == nil {
		t.Fatalf("found %d tests, %d tables, directory %v", len(s.Tests), len(s.Tables), s.Directory)
	}
	r, err := s.Run(t.Context(), engine(t, rego), Options{Coverage: true})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]regotest.Outcome{}
	for _, test := range r.Tests.Tests {
		outcomes[test.Name] = test.Outcome
		if test.File != filepath.Join(rego, "corp", "office_test.rego") || test.Line == 0 {
			t.Errorf("%s is at %s:%d", test.Name, test.File, test.Line)
		}
		switch test.Name {
		case "test_wrong":
			if !strings.Contains(test.Printed, "the client is at") {
				t.Errorf("printed %q", test.Printed)
			}
		case "test_cases":
			if test.Why != "not true: far" {
				t.Errorf("why %q", test.Why)
			}
		case "test_fails":
			if !strings.Contains(test.Why, `the zone "Local"`) { // as the gateway would have it
				t.Errorf("why %q", test.Why)
			}
		}
	}
	for name, want := range map[string]regotest.Outcome{
		"test_there": regotest.Passed, "test_elsewhere": regotest.Passed, "test_wrong": regotest.Failed,
		"test_cases": regotest.Failed, "test_fails": regotest.Broken, "todo_test_later": regotest.Skipped,
	} {
		if outcomes[name] != want {
			t.Errorf("%s: %s, want %s", name, outcomes[name], want)
		}
	}
	if !r.Tables.OK() || len(r.Tables.Cases) != 3 {
		t.Errorf("tables: %+v", r.Tables.Cases)
	}
	if r.OK() || len(r.Problems()) != 3 || r.Summary() != "6 tests in Rego and 3 requests of tables: 3 failed, 1 skipped" {
		t.Errorf("%s: %v", r.Summary(), r.Problems())
	}
}

// TestCoverageNamesWhatNothingTried: a rule counts once it came to a conclusion, not when it was merely looked at.
func TestCoverageNamesWhatNothingTried(t *testing.T) {
	folder := write(t, files())
	rego := filepath.Join(folder, "rego")
	s, err := Find(rego, folder)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(t.Context(), engine(t, rego), Options{Coverage: true})
	if err != nil {
		t.Fatal(err)
	}
	var missed []string
	for _, rule := range r.Coverage.Missed() {
		missed = append(missed, strings.TrimPrefix(rule.String(), rego+"/"))
	}
	want := []string{
		"app shop, access rule sell", "corp/office.rego:5: corp.office.spare",
		"wiki.rego:7: sallyport.app.wiki.decision", "wiki.rego:12: sallyport.app.wiki.note", "wiki.rego:15: sallyport.app.wiki.note",
	}
	if !slices.Equal(missed, want) {
		t.Errorf("missed\n%s\nwant\n%s", strings.Join(missed, "\n"), strings.Join(want, "\n"))
	}
	if got := r.Coverage.Percent; len(r.Coverage.Rules) != 8 || got != 37.5 {
		t.Errorf("%d rules, %.1f %%", len(r.Coverage.Rules), got)
	}
	for _, rule := range r.Coverage.Rules {
		if rule.ID == "look" && (rule.Allowed != 2 || rule.Refused != 0) {
			t.Errorf("%+v", rule)
		}
		if rule.ID == "corp.office.there" && (rule.Percent != 100 || rule.Lines != nil) {
			t.Errorf("%+v", rule)
		}
	}
}

// TestSameSuiteFromAnArchive: it does not matter how the Rego travels.
func TestSameSuiteFromAnArchive(t *testing.T) {
	folder := write(t, files())
	found, err := Find(filepath.Join(folder, "rego"), "")
	if err != nil {
		t.Fatal(err)
	}
	held := map[string][]byte{}
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for name, text := range files() {
		name, inside := strings.CutPrefix(name, "rego/")
		if !inside {
			continue
		}
		held[name] = []byte(text)
		if err := w.WriteHeader(&tar.Header{Name: "/" + name, Mode: 0o600, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	archives := write(t, map[string]string{"p.tar": plain.String(), "p.tar.gz": zipped.String(), "half.tar.gz": zipped.String()[:100]})
	suites := map[string]*Suite{}
	for _, name := range []string{"p.tar", "p.tar.gz"} {
		if suites[name], err = Find(filepath.Join(archives, name), ""); err != nil {
			t.Fatal(err)
		}
	}
	if suites["memory"], err = From(held, "bundle"); err != nil {
		t.Fatal(err)
	}
	for name, s := range suites {
		if len(s.Tests) != len(found.Tests) || len(s.Tables) != len(found.Tables) || string(s.Tests[0].Content) != string(found.Tests[0].Content) {
			t.Errorf("%s: %d tests and %d tables; in the folder %d and %d", name, len(s.Tests), len(s.Tables), len(found.Tests), len(found.Tables))
		}
	}
	if _, err := Find(filepath.Join(archives, "half.tar.gz"), ""); err == nil {
		t.Error("half an archive is none")
	}
}

func TestProblemsOfAllFilesAreToldAtOnce(t *testing.T) {
	folder := write(t, map[string]string{"directory.yaml": "peple: []", "tables/a.yaml": "cases: [{ who: x }]", "tables/b.yaml": "case: []"})
	_, err := Find("", folder)
	if problems, ok := errors.AsType[policy.Problems](err); !ok || len(problems) != 3 {
		t.Errorf("%v", err)
	}
	if _, err := Find("", t.TempDir()); err != nil {
		t.Errorf("nothing to find: %v", err)
	}
	if _, err := Find(filepath.Join(folder, "none"), ""); err == nil {
		t.Error("a folder that is not there was searched")
	}
}

// TestNoLinkLeadsOutOfTheFolder: activation reads files that others wrote.
func TestNoLinkLeadsOutOfTheFolder(t *testing.T) {
	outside := write(t, map[string]string{"secret.yaml": "cases: []"})
	folder := write(t, map[string]string{"tables/a.yaml": "cases: []"})
	if err := os.Symlink(filepath.Join(outside, "secret.yaml"), filepath.Join(folder, "tables", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Find("", folder); err == nil {
		t.Error("a link out of the folder was followed")
	}
}

// TestATestThatDoesNotEndIsStopped: by its own limit, and by that of the whole run.
func TestATestThatDoesNotEndIsStopped(t *testing.T) {
	endless := `package endless_test

test_endless if {
	some i in numbers.range(1, 100000)
	some j in numbers.range(1, 100000)
	i + j < 0
}
`
	folder := write(t, map[string]string{"wiki.rego": wikiRego, "office.rego": officeRego, "endless_test.rego": endless})
	s, err := Find(folder, "")
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t, folder)
	r, err := s.Run(t.Context(), e, Options{Timeout: 20 * time.Millisecond})
	if err != nil || r.OK() || r.Tests.Tests[0].Outcome != regotest.Broken {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Run(ctx, e, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestTestsThatDoNotCompileHavePlaces(t *testing.T) {
	for text, want := range map[string]string{
		"package x_test\n\ntest_a if tru":                          "x_test.rego:3:11: var tru is unsafe",
		"package x_test\n\ntest_a if {":                            "x_test.rego:3:",
		"package x_test\n\ntest_a if http.send({})":                "x_test.rego:3:11: undefined function http.send: it reaches out of the process",
		"package x_test\n\ntest_a if data.corp.office.there(1, 2)": "x_test.rego:3:11: ",
	} {
		folder := write(t, map[string]string{"wiki.rego": wikiRego, "office.rego": officeRego, "x_test.rego": text})
		s, err := Find(folder, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Run(t.Context(), engine(t, folder), Options{})
		if _, ok := errors.AsType[policy.Problems](err); !ok || !strings.HasPrefix(err.Error(), filepath.Join(folder, want)) {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
}

// What is wrong with a bundle that was fetched is told with its address as it is.
func TestFilesOfAnAddress(t *testing.T) {
	held := map[string][]byte{"tables/wiki.yaml": []byte("- nonsense")}
	if _, err := From(held, "https://corp.example/b.tar.gz"); err == nil || !strings.HasPrefix(err.Error(), "https://corp.example/b.tar.gz/tables/wiki.yaml:1:1: ") {
		t.Errorf("got %v", err)
	}
}
