package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/policy"
)

// silentPolicy is an app whose own package refuses without a word, and one whose access rules decide.
func silentPolicy(t *testing.T, rules string) *policy.Engine {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "vault.rego"), []byte("package sallyport.app.vault\n\n"+rules), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := policy.Build(policy.Config{Bundle: folder}, []policy.App{{Name: "vault"}, {Name: "wiki", Access: policy.Access{{Groups: []string{"secret-club"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func refusedBy(t *testing.T, e *policy.Engine, app string) *exchange {
	t.Helper()
	x := &exchange{server: &Server{whys: newWhys()}, snap: &Snapshot{Policy: e}}
	x.input = &policy.Input{Subject: policy.Subject{Type: policy.TypeUser, ID: "corp|ada", Groups: []string{"staff"}, Authn: &policy.Authn{Provider: "corp"}},
		Resource: policy.Resource{Type: policy.TypeApp, ID: app, Path: "/"}}
	if x.verdict = e.Decide(t.Context(), x.input); x.verdict.Allow {
		t.Fatal("it is allowed")
	}
	return x
}

func TestPagesTellKindsWhereThePolicyIsSilent(t *testing.T) {
	for _, c := range []struct{ name, rules, want string }{
		{"group", `decision := {"allow": "secret-club" in input.subject.groups}`, "No rule of the access policy allows this request."},
		{"undefined", `decision := {"allow": true} if "secret-club" in input.subject.groups`, "Your account is not among those that may do this."},
		{"device", "default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if input.subject.device.managed", "The device you use may not be one that is allowed here."},
		{"sign-in", "default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if input.subject.authn.mfa", "A stronger or fresher sign-in may be needed."},
		{"network", "default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if net.cidr_contains(\"10.0.0.0/8\", input.context.client.ip)", "This cannot be opened from the network or place you are in."},
		{"own words", `decision := {"allow": false, "reasons": [{"code": "x", "user": "Ask Eve."}]}`, "Ask Eve."},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := refusedBy(t, silentPolicy(t, c.rules), "vault")
			if got := x.userReasons(); !slices.Equal(got, []string{c.want}) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPagesDoNotWaitForEachOther(t *testing.T) {
	x := refusedBy(t, silentPolicy(t, `decision := {"allow": true} if input.subject.authn.mfa`), "vault")
	x.server.whys.busy <- struct{}{}
	if got := x.userReasons(); len(got) != 1 || got[0] == "" {
		t.Errorf("got %q, want what is always true", got)
	}
}
