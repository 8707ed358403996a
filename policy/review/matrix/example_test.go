package matrix

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/policy"
	"sallyport/policy/review/directory"
)

// TestTheExampleTakesFewQuestions changes one condition of the example's package for everybody's own page.
func TestTheExampleTakesFewQuestions(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.FromSlash("../../../policies/example/rego/people.rego"))
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(raw), "import data.sallyport.authz\n")
	var engines [2]*policy.Engine
	for i, text := range []string{rules, strings.Replace(rules, "input.subject.email_verified\n", "true\n", 1)} {
		w := &world{apps: []policy.App{{Name: "people"}}, own: map[string]string{"people": text}, zone: "UTC"}
		engines[i] = w.engine(t)
	}
	var people []directory.Person
	for _, name := range []string{"ada", "ben", "chen", "dora"} {
		people = append(people, directory.Person{ID: "corp|" + name, Name: name, Type: policy.TypeUser, Email: name + "@corp.example", EmailVerified: new(name != "ben")})
	}
	r, err := Run(t.Context(), Config{From: engines[0], To: engines[1], People: people, Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) == 0 || len(r.Incomplete) > 0 {
		t.Errorf("%d findings, incomplete: %q", len(r.Findings), r.Incomplete)
	}
	if r.Evaluations > 8_000 {
		t.Errorf("%d evaluations", r.Evaluations)
	}
}
