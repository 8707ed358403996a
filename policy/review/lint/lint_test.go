package lint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"sallyport/policy"
	"sallyport/policy/review/directory"
)

// exampleApps are what the examples are about: two apps, three groups.
const exampleApps = `
- { name: payroll, owner: finance, access: [{ id: staff, description: everybody, groups: [staff] }] }
- { name: forgotten, owner: it }
- { name: wiki, owner: it, access: [{ id: staff, description: everybody, groups: [staff] }] }
`

// subject is a policy of one module, of its apps' access rules, or of both.
func subject(t *testing.T, rego, apps string) Subject {
	t.Helper()
	s := Subject{
		Apps:      readApps(t, apps),
		Directory: &directory.Directory{Groups: map[string]string{"staff": "", "finance": "", "contractors": ""}},
		Enforced:  []string{policy.Reauthorize},
		Tested:    []string{"payroll", "wiki"},
	}
	shipped, err := policy.ReadSources(policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Sources = shipped
	if rego != "" {
		s.Sources = append(s.Sources, policy.Source{Name: "operator/policy.rego", Content: []byte(rego)})
	}
	return s
}

func readApps(t *testing.T, text string) (apps []policy.App) {
	t.Helper()
	var read []struct {
		Name, Owner, Sensitivity string
		Access                   policy.Access
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&read); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, a := range read {
		apps = append(apps, policy.App{Name: a.Name, Owner: a.Owner, Sensitivity: a.Sensitivity, Access: a.Access})
	}
	return apps
}

func checkExample(t *testing.T, e Example) *Report {
	t.Helper()
	s := subject(t, e.Text, exampleApps)
	if e.Language == "yaml" {
		s = subject(t, "", e.Text)
	}
	for i := range s.Apps {
		if err := s.Apps[i].Check(); err != nil {
			s.Problems = append(s.Problems, policy.Problem{File: "sallyport.yaml", Text: err.Error()})
		}
	}
	if strings.Contains(e.Text, "time_ns") || strings.Contains(e.Text, "context.hour") { // what not-remembered is about
		s.Engine = engineOf(t, e.Text)
	}
	return Check(t.Context(), s)
}

// engineOf is the policy of a module, or nil if it does not compile.
func engineOf(t *testing.T, rego string) *policy.Engine {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "policy.rego"), []byte(rego), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := policy.Build(policy.Config{Bundle: folder, Memo: true}, readApps(t, exampleApps))
	if err != nil {
		return nil
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		return nil
	}
	return e
}

// Each rule finds its bad examples, at a place, and nothing else that matters is wrong with them; nothing at all is wrong
// with its good ones.
func TestExamples(t *testing.T) {
	for _, r := range Rules() {
		t.Run(r.ID, func(t *testing.T) {
			if r.Title == "" || len(strings.Fields(r.Explanation)) < 15 || len(r.Bad) == 0 || len(r.Good) == 0 {
				t.Fatalf("the explanation lacks a part: %+v", r)
			}
			for _, e := range r.Bad {
				found := checkExample(t, e)
				if !slices.ContainsFunc(found.Findings, func(f Finding) bool { return f.Rule == r.ID }) {
					t.Errorf("the bad example is not found:\n%s\n%v", e.Text, found.Findings)
				}
				for _, f := range found.Worst(Warning) {
					if f.Rule != r.ID {
						t.Errorf("the bad example has another fault: %+v\n%s", f, e.Text)
					}
					if e.Language == "rego" && f.Line == 0 {
						t.Errorf("no position: %+v", f)
					}
				}
			}
			for _, e := range r.Good {
				for _, f := range checkExample(t, e).Findings {
					if f.Rule == r.ID || f.Severity != Note {
						t.Errorf("the good example is found: %+v\n%s", f, e.Text)
					}
				}
			}
		})
	}
}

func TestShippedPolicyIsClean(t *testing.T) {
	if found := Check(t.Context(), subject(t, "", exampleApps)); len(found.Findings) > 0 {
		t.Errorf("got %v", found.Findings)
	}
}
