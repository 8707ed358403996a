package matrix

import (
	"fmt"
	"testing"

	"sallyport/policy"
	"sallyport/policy/review/directory"
)

// differs reports whether a change of a package's one condition is found, and whether the result says that it is
// complete.
func differs(t *testing.T, from, to string) (found, complete bool) {
	t.Helper()
	var engines [2]*policy.Engine
	for i, condition := range []string{from, to} {
		own := fmt.Sprintf("default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if {\n\tinput.subject.type == \"user\"\n\t%s\n}", condition)
		w := &world{apps: []policy.App{{Name: "w"}}, own: map[string]string{"w": own}, zone: "UTC"}
		engines[i] = w.engine(t)
	}
	ann := directory.Person{ID: "corp|ann", Name: "Ann", Type: policy.TypeUser}
	r, err := Run(t.Context(), Config{From: engines[0], To: engines[1], People: []directory.Person{ann}, Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Findings) > 0, len(r.Incomplete) == 0
}

// TestWhatCannotBeTriedIsSaid changes conditions on what the matrix has no values of.
func TestWhatCannotBeTriedIsSaid(t *testing.T) {
	t.Parallel()
	for _, condition := range []string{
		`input.subject.cert.issuer == "CN=%s"`, `input.subject.grants[_].name == "%s"`, `input.context.tls.version == "%s"`,
		`input.subject.device.version == "%s"`,
		`time.date([input.context.time_ns, "UTC"])[2] == count("%s")`, "regex.match(`^10\\.%s`, input.context.client.ip)",
		`input.context.request.headers["x-a"] == input.context.request.headers["x-b"]; "%s" != ""`,
	} {
		if _, complete := differs(t, fmt.Sprintf(condition, "a"), fmt.Sprintf(condition, "bb")); complete {
			t.Errorf("%s: nothing is said to be missing", condition)
		}
	}
}

// TestCombinedCircumstancesAreTried changes conditions that only a combination of facts, or their absence, meets.
func TestCombinedCircumstancesAreTried(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{`{"otp", "pwd"} & {m | some m in input.subject.authn.amr} == {"otp", "pwd"}`, `false`},
		{`count(input.subject.authn.amr) > 1`, `count(input.subject.authn.amr) > 2`},
		{`input.subject.device.managed; input.subject.device.compliant`, `input.subject.device.managed; not input.subject.device.compliant == false`},
		{`startswith(input.context.client.ip, "10.")`, `startswith(input.context.client.ip, "192.168.")`},
		{`not input.context.request.content_length`, `input.context.request.content_length > 5`},
		{`input.subject.authn.age_s / 60 < 10`, `input.subject.authn.age_s / 60 < 20`},
	} {
		if found, complete := differs(t, c[0], c[1]); !found || !complete {
			t.Errorf("%s: found %v, complete %v", c[0], found, complete)
		}
	}
}

func TestReadsByWayOfTheParent(t *testing.T) {
	t.Parallel()
	c := &policy.Constants{Reads: []string{"subject"}, Strings: []string{"cert", "issuer"}}
	if !asksFor(c, "subject.cert") || asksFor(c, "subject.grants") || asksFor(c, "context.tls") {
		t.Error("object.get(input.subject, [\"cert\", \"issuer\"], \"\") reads the certificate, and nothing else that is not tried")
	}
}
