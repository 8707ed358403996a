package lint

import (
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
	shipped, err := policy.ReadSources("")
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
	return Check(t.Context(), s)
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

// The good examples run.
func TestGoodExamplesCompile(t *testing.T) {
	for _, r := range Rules() {
		for _, e := range r.Good {
			if e.Language != "rego" {
				continue
			}
			if findings := checkExample(t, e).Worst(Error); len(findings) > 0 {
				t.Errorf("%s: %v", r.ID, findings)
			}
		}
	}
}

func TestShippedPolicyIsClean(t *testing.T) {
	if found := Check(t.Context(), subject(t, "", exampleApps)); len(found.Findings) > 0 {
		t.Errorf("got %v", found.Findings)
	}
}
