package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"sallyport/audit/filter"
	"sallyport/gateway/config"
	"sallyport/policy"
)

// What the README shows must work: its configuration loads, its Rego builds and decides as its comment says.
func TestReadmeExamplesWork(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sallyport.yaml")
	write(t, file, block(t, "yaml"))
	cfg, _, err := config.Load[config.Config](file, os.LookupEnv)
	if err != nil {
		t.Fatalf("the configuration: %v", err)
	}
	if len(cfg.Apps) != 2 || cfg.Apps[1].Name != "payroll" {
		t.Fatalf("the configuration has the apps %v", cfg.Apps)
	}
	write(t, filepath.Join(dir, "policies", "payroll.rego"), block(t, "rego"))
	bundle, err := policy.Build(policy.Config{Bundle: filepath.Join(dir, "policies")}, []policy.App{cfg.Apps[1].Policy()})
	if err != nil {
		t.Fatalf("the policy: %v", err)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatalf("the policy: %v", err)
	}
	for address, want := range map[string]bool{"10.1.2.3": true, "192.0.2.1": false} {
		in := &policy.Input{
			Subject:  policy.Subject{Type: policy.TypeUser, ID: "corp|1", Groups: []string{"finance"}, Authn: &policy.Authn{Provider: "corp", MFA: true}},
			Action:   policy.Action{Name: policy.ActionRead, Method: "GET"},
			Resource: policy.Resource{Type: policy.TypeApp, ID: "payroll", Path: "/"},
			Context:  policy.Context{Client: policy.Client{IP: address}},
		}
		if verdict := engine.Decide(t.Context(), in); verdict.Allow != want {
			t.Errorf("from %s: got %s", address, verdict.JSON)
		}
	}
}

// The example of Hardening is part of a configuration that loads, with the general one around it.
func TestReadmeHardeningLoads(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Hardening\n")
	_, example, _ := strings.Cut(section, "```yaml\n")
	example, _, found := strings.Cut(example, "```\n")
	general := block(t, "yaml")
	before, rest, _ := strings.Cut(general, "\napps:\n")
	_, after, also := strings.Cut(rest, "\ntls:")
	if !found || !also {
		t.Fatal("the README has no such examples")
	}
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	write(t, file, before+"\n"+example+"tls:"+after)
	cfg, _, err := config.Load[config.Config](file, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Apps) != 3 || len(cfg.Apps[0].Relax) != 1 || cfg.Apps[2].Policy().ShieldThreshold != 5 {
		t.Errorf("the apps are %+v", cfg.Apps)
	}
}

// The examples of keys and certificates load too, here and in their manual: each names all of tls, some the apps.
func TestReadmeCertificatesLoad(t *testing.T) {
	before, rest, _ := strings.Cut(block(t, "yaml"), "\napps:\n")
	apps, after, _ := strings.Cut(rest, "\ntls:")
	_, after, _ = strings.Cut(after, "\n")
	examples := 0
	for _, page := range []string{"../README.md", "../certs/README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "```yaml\n")[1:] {
			example, _, _ := strings.Cut(part, "```\n")
			if !strings.HasPrefix(example, "tls:") {
				continue
			}
			if !strings.Contains(example, "\napps:\n") {
				example += "apps:\n" + apps + "\n"
			}
			file := filepath.Join(t.TempDir(), "sallyport.yaml")
			write(t, file, before+"\n"+example+after)
			if _, _, err := config.Load[config.Config](file, os.LookupEnv); err != nil {
				t.Errorf("%s: %v:\n%s", page, err, example)
			}
			examples++
		}
	}
	if examples < 4 {
		t.Errorf("found %d examples", examples)
	}
}

// The README names every field that a filter can ask about, and none that it cannot.
func TestReadmeListsTheFilterFields(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "| of | fields |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	named := map[string]bool{}
	for i, word := range strings.Split(table, "`") {
		if i%2 == 1 {
			named[word] = true
		}
	}
	for _, f := range filter.Fields() {
		if !named[string(f.Name)] {
			t.Errorf("the README does not name %s", f.Name)
		}
		delete(named, string(f.Name))
	}
	for left := range named {
		t.Errorf("the README names %s, which nobody can ask about", left)
	}
}

// block is the README's first fenced block of a language.
func block(t *testing.T, language string) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```"+language+"\n")
	text, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("the README has no %s block", language)
	}
	return text
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every example of the manual of signing in is part of a configuration that loads: its sections take the place of those of
// the README's.
func TestReadmeSignInLoads(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, short, _ := strings.Cut(string(readme), "\n## Signing in and out\n")
	short, _, _ = strings.Cut(short, "\n## ")
	manual, err := os.ReadFile("../authn/README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(short+string(manual), "```yaml\n")[1:]
	if len(examples) < 6 {
		t.Fatalf("the manual has %d examples", len(examples))
	}
	for _, part := range examples {
		example, _, _ := strings.Cut(part, "```\n")
		sections := map[string]any{}
		for _, text := range []string{block(t, "yaml"), example} {
			if err := yaml.Unmarshal([]byte(text), &sections); err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
		}
		text, err := yaml.Marshal(sections)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "sallyport.yaml")
		write(t, file, string(text))
		if _, _, err := config.Load[config.Config](file, os.LookupEnv); err != nil {
			t.Errorf("%v in\n%s", err, example)
		}
	}
}
