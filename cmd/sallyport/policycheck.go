package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport/gateway/config"
	"sallyport/gateway/route"
	"sallyport/policy"
	"sallyport/policy/bundle"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/lint"
	"sallyport/policy/review/suite"
	"sallyport/policy/schema"
)

// policyCheckCommand finds what is wrong with a policy.
type policyCheckCommand struct {
	Policy    string  `arg:"" optional:"" help:"The policy: ${policy}" placeholder:"POLICY"`
	Directory string  `help:"The file that says which people and groups there are. Default: directory.yaml beside the policy." type:"existingfile" placeholder:"FILE"`
	FailOn    string  `help:"Say no because of findings that are at least so grave: error, warning or note." enum:"error,warning,note" default:"warning"`
	Explain   string  `help:"Explain a rule, with examples, and check nothing; all lists them." placeholder:"RULE"`
	Schema    *string `help:"Print the JSON Schema of input, data or decision, and check nothing." enum:"input,data,decision" placeholder:"DOCUMENT"`
	JSON      bool    `name:"json" help:"Print JSON." xor:"form"`
	Markdown  bool    `help:"Print Markdown for a pull request." xor:"form"`
}

// Help is what the command's own help adds.
func (c *policyCheckCommand) Help() string {
	return `Rego and access rules are looked at together, and whatever is wrong is told at once. An error is a policy that cannot
become active; a warning one that probably lets in or keeps out somebody its author did not think of; a note is what the
next reader would like to be better. A comment answers a warning or a note in its own line or the next one:

  # sallyport:ignore literal-user: the emergency account, reviewed every quarter

The exit code is 1 when there is an error or a warning (see --fail-on), and 2 when the policy cannot be read.`
}

// Run prints what is found.
func (c *policyCheckCommand) Run(in *invocation) error {
	switch {
	case c.Schema != nil:
		return printSchema(in.out, *c.Schema)
	case c.Explain != "":
		return c.explain(in.out)
	}
	s, err := c.subject(in)
	if err != nil {
		return err
	}
	report := lint.Check(in.ctx, *s)
	if err := in.ctx.Err(); err != nil {
		return err
	}
	if err := c.print(in, report); err != nil {
		return err
	}
	if len(report.Worst(lint.Severity(c.FailOn))) > 0 {
		return no{errors.New("")} // all is said
	}
	return nil
}

// subject is what there is to check.
func (c *policyCheckCommand) subject(in *invocation) (*lint.Subject, error) {
	file, rego, onDisk := in.policyFiles(c.Policy)
	var s *lint.Subject
	var err error
	if onDisk {
		s, err = checkedFiles(in, file, rego)
	} else {
		s, err = in.checkedBundle(c.Policy)
	}
	if err != nil {
		return nil, err
	}
	return s, c.surroundings(s, file, rego)
}

// policyFiles are the configuration and the Rego that a policy on disk consists of; false if it is found elsewhere.
func (in *invocation) policyFiles(spec string) (file, rego string, onDisk bool) {
	if spec == "" {
		return in.file, "", true
	}
	info, err := os.Stat(spec)
	own := filepath.Join(spec, configName)
	switch {
	case err != nil:
		return in.file, "", false
	case info.IsDir() && exists(own):
		return own, "", true
	case strings.HasSuffix(spec, ".yaml") || strings.HasSuffix(spec, ".yml"):
		return spec, "", true
	case !info.IsDir() && isArchive(spec):
		return in.file, "", false
	}
	return in.file, spec, true
}

// isArchive reports whether a file is what Bundle.Archive writes.
func isArchive(name string) bool {
	data, err := os.ReadFile(name)
	if err == nil {
		_, err = policy.OpenArchive(data)
	}
	return err == nil
}

// checkedBundle is a policy that is not made of files at hand, so that it is known to compile.
func (in *invocation) checkedBundle(spec string) (*lint.Subject, error) {
	p, err := in.openPolicy(spec)
	if err != nil {
		return nil, err
	}
	s := &lint.Subject{Sources: p.Bundle.Sources(), Enforced: p.Bundle.Enforced(), Engine: p.Engine}
	if p.Config != nil {
		s.Apps, err = appsOf(p.Config)
	}
	return s, err
}

// checkedFiles is a policy made of files, which may not compile. Rego alone, with no configuration there, is checked
// without knowing the apps.
func checkedFiles(in *invocation, file, rego string) (*lint.Subject, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && rego != "" {
		return checkedRego(policy.Config{Bundle: rego})
	} else if err != nil {
		return nil, err
	}
	s := &lint.Subject{Places: lint.ReadPlaces(nearer(file), text)}
	cfg, bundle, err := in.review(file, rego)
	if err == nil {
		s.Folder, s.Sources, s.Enforced = folderOf(cfg.Policy), bundle.Sources(), bundle.Enforced()
		if s.Engine, err = policy.Compile(in.ctx, bundle); err != nil {
			return nil, err
		}
		s.Apps, err = appsOf(cfg)
		return s, err
	}
	return s, in.unusable(s, file, rego, err)
}

// unusable gathers what can be looked at of a policy that cannot be built, and why it cannot.
func (in *invocation) unusable(s *lint.Subject, file, rego string, why error) error {
	read := func() (*config.Config, error) { return config.ProposedPolicy(file) }
	if file == in.file {
		read = func() (*config.Config, error) { return config.FindPolicy(file, os.LookupEnv) }
	}
	cfg, err := read()
	if cfg == nil {
		return err
	}
	if rego != "" {
		cfg.Policy.Bundle = rego
	}
	if wrong, known := errors.AsType[config.Errors](err); known {
		for _, p := range wrong {
			s.Problems = append(s.Problems, policy.Problem{File: nearer(p.File), Line: p.Line, Column: p.Column, Text: strings.TrimPrefix(p.Path+": "+p.Text, ": ")})
		}
	} else if s.Apps, err = appsOf(cfg); err != nil {
		s.Problems = append(s.Problems, policy.Problem{File: nearer(file), Text: err.Error()})
	}
	if bundle.Remote(cfg.Policy.Bundle) {
		return why
	}
	rules, err := checkedRego(cfg.Policy)
	if err != nil {
		return err
	}
	s.Sources, s.Folder = rules.Sources, rules.Folder
	if _, inRego := errors.AsType[policy.Problems](why); !inRego && s.Problems == nil {
		s.Problems = policy.Problems{{File: nearer(file), Text: why.Error()}}
	}
	return nil
}

// checkedRego is Rego as it lies there.
func checkedRego(cfg policy.Config) (s *lint.Subject, err error) {
	s = &lint.Subject{Folder: folderOf(cfg)}
	if strings.HasSuffix(cfg.Bundle, ".rego") {
		return nil, fmt.Errorf("%s: %w", nearer(cfg.Bundle), errOneModule)
	}
	if s.Sources, err = policy.ReadSources(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// folderOf is where the operator's files lie, as people here would call it.
func folderOf(cfg policy.Config) string { return nearer(cfg.Bundle) }

func appsOf(cfg *config.Config) ([]policy.App, error) {
	table, err := route.NewTable(cfg.Apps)
	if err != nil {
		return nil, err
	}
	apps := []policy.App{}
	for _, app := range table.Apps() {
		apps = append(apps, app.Policy())
	}
	return apps, nil
}

// surroundings adds what lies beside a policy: its directory, and what its tests try.
func (c *policyCheckCommand) surroundings(s *lint.Subject, file, rego string) (err error) {
	if rego == "" {
		rego = s.Folder
	}
	if info, err := os.Stat(rego); err != nil || !info.IsDir() && !strings.Contains(rego, ".tar") {
		rego = ""
	}
	found, err := suite.Find(rego, filepath.Dir(file))
	if err == nil {
		s.Directory, s.Tested = found.Directory, tried(found)
	} // what is wrong with tests, policy test tells
	if c.Directory != "" {
		s.Directory, err = directory.Load(c.Directory)
		return err
	}
	return nil
}

// tried are the apps that tables ask for or tests in Rego name.
func tried(s *suite.Suite) []string {
	apps := []string{}
	for _, t := range s.Tables {
		apps = append(apps, t.Defaults.App...)
		for _, row := range t.Cases {
			apps = append(apps, row.App...)
		}
	}
	for _, t := range s.Tests {
		apps = append(apps, strings.Split(string(t.Content), `"`)...)
	}
	return apps
}

func printSchema(out io.Writer, document string) error {
	for name, text := range schema.All() {
		if name == document {
			_, err := out.Write(text)
			return err
		}
	}
	return fmt.Errorf("no schema of %q", document)
}

// checked is what policy check prints.
type checked struct {
	OK       bool           `json:"ok"`
	Errors   int            `json:"errors"`
	Warnings int            `json:"warnings"`
	Notes    int            `json:"notes"`
	Ignored  int            `json:"ignored"`
	Findings []lint.Finding `json:"findings"`
}

func (c *policyCheckCommand) print(in *invocation, r *lint.Report) error {
	done := checked{
		OK: len(r.Worst(lint.Severity(c.FailOn))) == 0, Errors: r.Count(lint.Error), Warnings: r.Count(lint.Warning), Notes: r.Count(lint.Note),
		Ignored: r.Ignored, Findings: r.Findings,
	}
	switch {
	case c.JSON:
		return printJSON(in.out, done)
	case c.Markdown:
		return done.markdown(in.out)
	}
	return done.text(in.out)
}

func (d *checked) summary() string {
	text := fmt.Sprintf("%s, %s, %s", count(d.Errors, "error"), count(d.Warnings, "warning"), count(d.Notes, "note"))
	if d.Ignored > 0 {
		text += fmt.Sprintf("; %d answered by comments", d.Ignored)
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (d *checked) text(out io.Writer) error {
	for _, f := range d.Findings {
		fmt.Fprintf(out, "%s%s: %s [%s]\n", inert(where(f.Position)), f.Severity, inert(f.Text), f.Rule)
		if f.Hint != "" {
			fmt.Fprintf(out, "    %s\n", inert(f.Hint))
		}
	}
	if len(d.Findings) > 0 {
		fmt.Fprintln(out)
	}
	_, err := fmt.Fprintf(out, "%s\n", d.summary())
	return err
}

// where is a place as editors understand it, or nothing.
func where(p lint.Position) string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return p.File + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
}

func (d *checked) markdown(out io.Writer) error {
	verdict := "passed"
	if !d.OK {
		verdict = "failed"
	}
	fmt.Fprintf(out, "### Policy check: %s\n\n%s\n\n", verdict, d.summary())
	if len(d.Findings) == 0 {
		return nil
	}
	var rows [][]string
	for _, f := range d.Findings {
		rows = append(rows, []string{string(f.Severity), strings.TrimSuffix(where(f.Position), ": "), f.Rule, strings.TrimSuffix(f.Text+"; "+f.Hint, "; ")})
	}
	markdownTable(out, []string{"Severity", "Place", "Rule", "Finding"}, rows)
	return nil
}

// explain prints what a rule means, or all rules.
func (c *policyCheckCommand) explain(out io.Writer) error {
	if c.Explain == "all" {
		return c.explainAll(out)
	}
	r, err := lint.Explain(c.Explain)
	if err != nil {
		return fmt.Errorf("%w; --explain all lists them", err)
	}
	if c.JSON {
		return printJSON(out, r)
	}
	fmt.Fprintf(out, "%s (%s): %s\n\n%s\n", r.ID, r.Severity, r.Title, r.Explanation)
	for _, section := range []struct {
		name     string
		examples []lint.Example
	}{{"Bad", r.Bad}, {"Good", r.Good}} {
		for _, e := range section.examples {
			fmt.Fprintf(out, "\n%s:\n\n%s", section.name, indented(e.Text))
		}
	}
	return nil
}

func (c *policyCheckCommand) explainAll(out io.Writer) error {
	all := lint.Rules()
	if c.JSON {
		return printJSON(out, all)
	}
	var rows [][]string
	for _, r := range all {
		rows = append(rows, []string{r.ID, string(r.Severity), r.Title})
	}
	return printTable(out, []string{"RULE", "SEVERITY", "WHAT IT FINDS"}, rows)
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return b.String()
}
