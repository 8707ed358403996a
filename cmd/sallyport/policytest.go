package main

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy/review/directory"
	"sallyport/policy/review/regotest"
	"sallyport/policy/review/suite"
	"sallyport/policy/review/table"
)

// policyTestCommand runs a policy's tests and tables.
type policyTestCommand struct {
	Policy    string        `arg:"" optional:"" help:"The policy: ${policy}" placeholder:"POLICY"`
	Tests     string        `help:"Folder with tests (*_test.rego), tables/*.yaml and directory.yaml, in place of those beside the policy." type:"existingdir" placeholder:"DIR"`
	Directory string        `help:"The directory file, in place of directory.yaml beside the policy." type:"existingfile" placeholder:"FILE"`
	Coverage  float64       `help:"Say no when less than this share of the rules was tried." placeholder:"PERCENT"`
	Timeout   time.Duration `help:"The longest that one test in Rego may take." default:"5s"`
	JSON      bool          `name:"json" help:"Print JSON." xor:"form"`
	Markdown  bool          `help:"Print Markdown for a pull request." xor:"form"`
	JUnit     bool          `name:"junit" help:"Print JUnit XML." xor:"form"`
}

// Help is what the command's own help adds.
func (c *policyTestCommand) Help() string {
	return `Tests in Rego are rules named test_... in files *_test.rego of the policy's Rego. Tables are YAML files in a folder named
tables, beside the configuration or in the policy's Rego; they need no Rego:

  cases:
    - name: finance works after a second factor
      who: group finance          # a person of directory.yaml, a group, everybody, anonymous, or { groups: [finance] }
      except: Dora
      app: payroll
      method: [GET, POST]         # default GET
      path: /reports/2026         # default /
      when: mon 10:00             # in the policy's time zone. Default wed 12:00
      from: office                # a place of directory.yaml, or an address. Default: somewhere on the Internet
      with: { mfa: true, signed_in: 5m }
      expect: allow               # or deny, step_up, sign_in
      why: finance                # a reason's code or a rule's id. Default: any

A list is tried with each of its members. What several rows share may stand once, under defaults.
The exit code is 1 when something is not as expected or too few rules were tried, and 2 when there is nothing to try.`
}

// tested is what policy test prints.
type tested struct {
	Digest   string          `json:"digest"`
	Revision string          `json:"revision"`
	OK       bool            `json:"ok"`
	Summary  string          `json:"summary"`
	Want     float64         `json:"coverage_wanted"`
	Coverage *suite.Coverage `json:"coverage"`
	Tests    []regotest.Test `json:"tests"`
	Cases    []table.Case    `json:"cases"`

	directory string // the file, if it was named
	policy    string // as it was named
}

// Run prints what is not as expected.
func (c *policyTestCommand) Run(in *invocation) error {
	if c.Coverage < 0 || c.Coverage > 100 || c.Timeout <= 0 {
		return fmt.Errorf("--coverage %v, --timeout %v: a share is from 0 to 100, and a time longer than none", c.Coverage, c.Timeout)
	}
	p, err := in.openPolicy(c.Policy)
	if err != nil {
		return err
	}
	s, err := c.suite(in, p)
	if err != nil {
		return err
	}
	if len(s.Tests)+len(s.Tables) == 0 {
		return errors.New("there is nothing to try: no *_test.rego in the policy's Rego, and no tables/*.yaml there or beside the configuration")
	}
	results, err := s.Run(in.ctx, p.Engine, suite.Options{Coverage: true, Timeout: c.Timeout})
	if err != nil {
		return no{err}
	}
	t := &tested{
		Digest: p.Bundle.Digest, Revision: p.Bundle.Revision, Summary: results.Summary(),
		Want: c.Coverage, Coverage: results.Coverage, Tests: results.Tests.Tests, Cases: results.Tables.Cases,
		directory: c.Directory, policy: c.Policy,
	}
	t.OK = results.OK() && t.covered()
	if err := c.print(in.out, t); err != nil {
		return err
	}
	switch {
	case t.OK:
		return nil
	case c.JSON || c.Markdown || c.JUnit:
		return no{errors.New(t.Summary + "; " + t.coverageLine())}
	}
	return no{errors.New("")} // all is said
}

// suite is what there is to try: beside the policy, or where the command line says.
func (c *policyTestCommand) suite(in *invocation, p *reviewed) (s *suite.Suite, err error) {
	rego, folder := c.Tests, c.Tests
	if c.Tests == "" {
		rego, folder = in.besidePolicy(c.Policy, p)
	}
	if s, err = suite.Find(nearer(rego), nearer(folder)); err != nil {
		return nil, no{err}
	}
	if c.Directory != "" {
		if s.Directory, err = directory.Load(nearer(c.Directory)); err != nil {
			return nil, no{err}
		}
	}
	return s, nil
}

// besidePolicy tells where a policy's Rego is and which folder its configuration is in. A policy that is no file, a Git
// revision or one that is kept, is tried with what lies beside the configuration today.
func (in *invocation) besidePolicy(spec string, p *reviewed) (rego, folder string) {
	file := in.file
	if info, err := os.Stat(spec); err == nil {
		switch own := filepath.Join(spec, configName); {
		case info.IsDir() && exists(own):
			file = own
		case strings.HasSuffix(spec, ".yaml") || strings.HasSuffix(spec, ".yml"):
			file = spec
		default: // Rego that stands in for the configuration's
			return spec, filepath.Dir(file)
		}
	} else if spec != "" {
		if p, err = in.configured(""); err != nil {
			return "", filepath.Dir(file)
		}
	}
	if p.Config == nil {
		return "", filepath.Dir(file)
	}
	if at, err := url.Parse(p.Config.Policy.Bundle); err == nil && at.Scheme != "" {
		return "", filepath.Dir(file)
	}
	return p.Config.Policy.Bundle, filepath.Dir(file)
}

// nearer is a file's name from here, if that is shorter to read.
func nearer(name string) string {
	here, err := os.Getwd()
	if err != nil || !filepath.IsAbs(name) {
		return name
	}
	if relative, err := filepath.Rel(here, name); err == nil && filepath.IsLocal(relative) {
		return relative
	}
	return name
}

func (t *tested) covered() bool { return t.Coverage.Percent >= t.Want }

func (c *policyTestCommand) print(out io.Writer, t *tested) error {
	switch {
	case c.JSON:
		return printJSON(out, t)
	case c.Markdown:
		printTestedMarkdown(out, t)
		return nil
	case c.JUnit:
		return printJUnit(out, t)
	}
	printTested(out, t)
	return nil
}

// failure is one thing that is not as expected.
type failure struct {
	place, text, printed, hint string
}

func (t *tested) failures() (list []failure) {
	for _, r := range t.Tests {
		if r.Outcome == regotest.Failed || r.Outcome == regotest.Broken {
			list = append(list, failure{place: r.File + ":" + strconv.Itoa(r.Line), text: r.Name + ": " + r.Why, printed: r.Printed})
		}
	}
	for i := range t.Cases {
		if c := &t.Cases[i]; !c.Pass {
			list = append(list, failure{place: c.File + ":" + strconv.Itoa(c.Line), text: c.String(), hint: t.explain(c)})
		}
	}
	return list
}

// explain is the command that explains a case.
func (t *tested) explain(c *table.Case) string {
	if c.Input == nil || c.MadeUp {
		return ""
	}
	args := []string{"sallyport", "policy", "explain"}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, flag, quoteArg(value))
		}
	}
	add("--policy", t.policy)
	add("--directory", t.directory)
	if c.Who != "anonymous" {
		add("--user", c.Who)
	}
	add("--app", c.App)
	add("--method", c.Method)
	add("--path", c.Path)
	add("--at", c.When)
	add("--ip", c.From)
	return strings.Join(append(args, explainWith(c.With)...), " ")
}

// explainWith are the flags for what a row's requests come with.
func explainWith(w table.With) (args []string) {
	if w.MFA != nil && *w.MFA {
		args = append(args, "--mfa")
	} else if w.MFA != nil {
		args = append(args, "--no-mfa")
	}
	if w.ACR != "" {
		args = append(args, "--acr", quoteArg(w.ACR))
	}
	if w.SignedIn > 0 {
		args = append(args, "--signed-in", time.Duration(w.SignedIn).String())
	}
	if d := w.Device; d != nil {
		for _, f := range []struct {
			name string
			fact *bool
		}{{"managed", d.Managed}, {"compliant", d.Compliant}, {"encrypted", d.Encrypted}} {
			if f.fact != nil {
				args = append(args, "--device", f.name+"="+strconv.FormatBool(*f.fact))
			}
		}
	}
	args = append(args, explainCert(w)...)
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		args = append(args, "--header", quoteArg(name+"="+w.Headers[name]))
	}
	return args
}

// explainCert are the flags for a row's certificate.
func explainCert(w table.With) (args []string) {
	fields := map[string]string{"problem": w.CertProblem}
	if c := w.Cert; c != nil {
		fields = map[string]string{"subject": c.Subject, "issuer": c.Issuer, "serial": c.Serial, "fingerprint": c.Fingerprint}
		for name, list := range map[string][]string{"dns": c.DNSNames, "email": c.Emails, "uri": c.URIs} {
			if len(list) > 0 {
				fields[name] = list[0]
			}
		}
		if strings.Join(slices.Collect(maps.Values(fields)), "") == "" {
			return []string{"--cert", "subject="}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if fields[name] != "" {
			args = append(args, "--cert", quoteArg(name+"="+fields[name]))
		}
	}
	return args
}

// quoteArg writes a word so that a shell reads it as one.
func quoteArg(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-", r)
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func printTested(out io.Writer, t *tested) {
	for _, f := range t.failures() {
		fmt.Fprintf(out, "%s: %s\n", inert(f.place), inert(f.text))
		for line := range strings.Lines(f.printed) {
			fmt.Fprintln(out, "    printed:", inert(strings.TrimRight(line, "\n")))
		}
		if f.hint != "" {
			fmt.Fprintln(out, "    try:", inert(f.hint))
		}
	}
	fmt.Fprintln(out, t.Summary)
	fmt.Fprintln(out, t.coverageLine())
	for _, r := range t.Coverage.Missed() {
		fmt.Fprintln(out, "    not tried:", inert(r.String()))
	}
}

// coverageLine says how many rules were tried.
func (t *tested) coverageLine() string {
	missed := len(t.Coverage.Missed())
	text := fmt.Sprintf("%d of %d rules were tried, %.1f %%", len(t.Coverage.Rules)-missed, len(t.Coverage.Rules), t.Coverage.Percent)
	if !t.covered() {
		text += fmt.Sprintf("; %g %% are wanted", t.Want)
	}
	return text
}

func printTestedMarkdown(out io.Writer, t *tested) {
	mark := "✅"
	if !t.OK {
		mark = "❌"
	}
	fmt.Fprintf(out, "### %s Policy tests\n\n%s. %s\n\n", mark, t.Summary, t.coverageLine())
	var rows [][]string
	for _, r := range t.Coverage.Missed() {
		rows = append(rows, []string{cmp.Or(r.App, "Rego"), r.ID, r.Place()})
	}
	if rows != nil {
		markdownTable(out, []string{"Not tried", "Rule", "Where"}, rows)
	}
	rows = nil
	for _, f := range t.failures() {
		rows = append(rows, []string{f.place, f.text})
	}
	if rows != nil {
		markdownTable(out, []string{"Where", "Not as expected"}, rows)
	}
}

// junit is the report that build servers read.
type junit struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Failure *junitFailure `xml:"failure"`
	Skipped *struct{}     `xml:"skipped"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
	if c.Skipped != nil {
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

func printJUnit(out io.Writer, t *tested) error {
	rego, tables, coverage := junitSuite{Name: "rego"}, junitSuite{Name: "tables"}, junitSuite{Name: "coverage"}
	for _, r := range t.Tests {
		c := junitCase{Class: r.Package, Name: r.Name, File: r.File, Line: r.Line}
		switch r.Outcome {
		case regotest.Skipped:
			c.Skipped = new(struct{})
		case regotest.Failed, regotest.Broken:
			c.Failure = &junitFailure{r.Why}
		}
		rego.add(c)
	}
	for i := range t.Cases {
		r := &t.Cases[i]
		c := junitCase{Class: r.File, Name: strings.TrimPrefix(r.Name+": "+r.Asked(), ": "), File: r.File, Line: r.Line}
		if !r.Pass {
			c.Failure = &junitFailure{r.String()}
		}
		tables.add(c)
	}
	whole := junitCase{Class: "coverage", Name: "rules tried"}
	if !t.covered() {
		whole.Failure = &junitFailure{t.coverageLine()}
	}
	coverage.add(whole)
	fmt.Fprint(out, xml.Header)
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	err := encoder.Encode(junit{Suites: []junitSuite{rego, tables, coverage}})
	fmt.Fprintln(out)
	return err
}
