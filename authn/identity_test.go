package authn_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/authn"
)

func minimal() authn.Identity {
	return authn.Identity{Kind: authn.User, Provider: "corp", Subject: "1234"}
}

func make1(t testing.TB, change func(*authn.Identity)) *authn.Identity {
	t.Helper()
	id := minimal()
	change(&id)
	got, err := authn.New(id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestGroupsAreSortedUniqueAndBounded(t *testing.T) {
	many := make([]string, 600)
	for i := range many {
		many[i] = fmt.Sprintf("group-%03d", i)
	}
	long := []string{strings.Repeat("a", 20<<10), strings.Repeat("b", 20<<10)}
	for _, c := range []struct {
		name       string
		groups     []string
		said       bool
		want       []string
		incomplete bool
	}{
		{"none", nil, false, nil, false},
		{"empty names", []string{"", ""}, false, nil, false},
		{"order and doubles", []string{"b", "a", "", "b"}, false, []string{"a", "b"}, false},
		{"provider says there are more", []string{"a"}, true, []string{"a"}, true},
		{"none, but provider says there are more", nil, true, nil, true},
		{"too many", many, false, many[:authn.MaxGroups], true},
		{"too many bytes", long, false, long[:1], true},
		{"a name too long", []string{strings.Repeat("x", 1<<20), "a"}, false, []string{"a"}, true},
		{"a name that is not text", []string{"a\xff", "b"}, false, []string{"b"}, true},
	} {
		given := slices.Clone(c.groups)
		id := make1(t, func(id *authn.Identity) { id.Groups, id.GroupsIncomplete = given, c.said })
		if !slices.Equal(id.Groups, c.want) || id.GroupsIncomplete != c.incomplete {
			t.Errorf("%s: %d groups, incomplete %v; want %d, %v", c.name, len(id.Groups), id.GroupsIncomplete, len(c.want), c.incomplete)
		}
		if !slices.Equal(given, c.groups) {
			t.Errorf("%s: New changed its argument", c.name)
		}
	}
}

func TestIdentityWithoutAUsableNameIsRefused(t *testing.T) {
	for name, change := range map[string]func(*authn.Identity){
		"no kind":                func(id *authn.Identity) { id.Kind = "" },
		"unknown kind":           func(id *authn.Identity) { id.Kind = "root" },
		"no provider":            func(id *authn.Identity) { id.Provider = "" },
		"ambiguous provider":     func(id *authn.Identity) { id.Provider = "corp|x" },
		"no subject":             func(id *authn.Identity) { id.Subject = "" },
		"endless subject":        func(id *authn.Identity) { id.Subject = strings.Repeat("x", 256) },
		"subject with a NUL":     func(id *authn.Identity) { id.Subject = "a\x00b" },
		"subject not in UTF-8":   func(id *authn.Identity) { id.Subject = "\xff" },
		"megabytes of claims":    func(id *authn.Identity) { id.Claims = map[string]any{"x": strings.Repeat("x", 1<<20)} },
		"claims that no JSON is": func(id *authn.Identity) { id.Claims = map[string]any{"x": func() {}} },
	} {
		id := minimal()
		change(&id)
		if got, err := authn.New(id); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestStoredIdentityIsTheSame(t *testing.T) {
	want := make1(t, func(id *authn.Identity) {
		id.Email, id.EmailVerified, id.Name = "ada@example.test", true, "Ada"
		id.Groups = []string{"staff", "audit"}
		id.Claims = map[string]any{"z": 1, "big": uint64(18446744073709551615), "list": []string{"b", "a"}, "m": map[string]int{"y": 1, "x": 2}}
		id.ACR, id.AMR, id.MFA = "gold", []string{"pwd", "otp"}, true
		id.AuthTime = time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	})
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got authn.Identity
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Errorf("stored and read (-want +got):\n%s", diff)
	}
	again, err := json.Marshal(&got)
	if err != nil || string(again) != string(data) {
		t.Errorf("written again %s, %v; want %s", again, err, data)
	}
	if !strings.Contains(string(data), "18446744073709551615") {
		t.Errorf("a large number lost digits: %s", data)
	}
	if err := json.Unmarshal([]byte(`{"kind":"user","admin":true}`), &got); err == nil {
		t.Error("an unknown field is ignored")
	}
}

func TestDisplayTextIsMadeFit(t *testing.T) {
	id := make1(t, func(id *authn.Identity) {
		id.Name = "Ada\x00\n\x1b[31m" + strings.Repeat("é", 300) + "\xff"
		id.Email, id.EmailVerified = "ada@example.test\nBcc: all@example.test", true
	})
	if len(id.Name) > 256 || strings.ContainsAny(id.Name, "\x00\n\x1b") || id.Email != "" || id.EmailVerified {
		t.Errorf("name %q, e-mail %q, verified %v", id.Name, id.Email, id.EmailVerified)
	}
}

// OIDC-18: whatever two readers could understand differently belongs to no domain.
func TestEmailDomain(t *testing.T) {
	for email, want := range map[string]string{
		"ada@example.test":                         "example.test",
		"Ada.Love+tag@EXAMPLE.Test":                "example.test",
		"ada@sub.example.test":                     "sub.example.test",
		"ada@localhost":                            "localhost",
		"ada@bücher.example":                       "xn--bcher-kva.example",
		"ada@BÜCHER.example":                       "xn--bcher-kva.example",
		"ada@xn--bcher-kva.example":                "xn--bcher-kva.example",
		"ada@XN--BCHER-KVA.example":                "xn--bcher-kva.example",
		"jörg@example.test":                        "example.test",
		"mallory@evil.example@example.test":        "",
		`"mallory@evil.example"@example.test`:      "",
		`"a b"@example.test`:                       "",
		"mallory@evil.example(@example.test":       "",
		"<mallory@evil.example>":                   "",
		"mallory@evil.example,ada@example.test":    "",
		"mallory@evil.example;ada@example.test":    "",
		"@route.example:mallory@example.test":      "",
		"ada@example.test.":                        "",
		"ada@.example.test":                        "",
		"ada@example..test":                        "",
		"ada@example.test ":                        "",
		" ada@example.test":                        "",
		"ada@example.test\x00":                     "",
		"ada@evil.example\x00.example.test":        "",
		"ada\n@example.test":                       "",
		"ada@[192.0.2.1]":                          "",
		"ada@ex_ample.test":                        "",
		"ada@-example.test":                        "",
		"ada@example。test":                         "", // IDEOGRAPHIC FULL STOP, which UTS #46 maps to a dot
		"ada@ｅxample.test":                         "", // a full-width letter
		"ada@exam\u00adple.test":                   "", // a soft hyphen
		"ada@exam\u200bple.test":                   "", // a zero-width space
		"ada@\u202eexample.test":                   "",
		"ada@xn--bcher-.example":                   "",
		"ada@xn--example.test":                     "",
		"ada@\xff.test":                            "",
		"ada@":                                     "",
		"@example.test":                            "",
		"example.test":                             "",
		"":                                         "",
		"ada@" + strings.Repeat("a", 64) + ".test": "",
		strings.Repeat("a", 300) + "@example.test": "",
		"ada@%65xample.test":                       "",
		"ada@example.test/evil":                    "",
		"ada@example.test?x":                       "",
		"ada＠evil.example@example.test":            "example.test", // U+FF20 is a letter of the local part, not an @
	} {
		if got := authn.EmailDomain(email); got != want {
			t.Errorf("EmailDomain(%q) = %q, want %q", email, got, want)
		}
	}
}

func TestUnverifiedEmailHasNoDomain(t *testing.T) {
	for _, verified := range []bool{false, true} {
		id := make1(t, func(id *authn.Identity) { id.Email, id.EmailVerified = "ada@example.test", verified })
		if got := id.Domain() != ""; got != verified {
			t.Errorf("verified %v: Domain = %q", verified, id.Domain())
		}
	}
}

// FuzzEmailDomain: what has a domain has it in one spelling, and it is what follows the only @.
func FuzzEmailDomain(f *testing.F) {
	for _, s := range []string{"ada@example.test", "ada@bücher.example", "a@b@c", `"a b"@x`, "a@xn--bcher-kva.example", "a@x."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, email string) {
		d := authn.EmailDomain(email)
		if d == "" {
			return
		}
		if strings.Count(email, "@") != 1 || d != strings.ToLower(d) || strings.HasSuffix(d, ".") || strings.ContainsAny(d, " \x00@\"") {
			t.Errorf("EmailDomain(%q) = %q", email, d)
		}
		for _, r := range d {
			if r > 0x7e {
				t.Errorf("EmailDomain(%q) = %q, not in A-label form", email, d)
			}
		}
		if again := authn.EmailDomain("a@" + d); again != d {
			t.Errorf("EmailDomain of %q = %q, want it unchanged", d, again)
		}
	})
}

// OIDC-18: what has no readable domain is not verified, whatever the provider says.
func TestAddressWithoutReadableDomainIsNotVerified(t *testing.T) {
	for _, email := range []string{"mallory@evil.example@corp.example", `"a b"@corp.example`, "ada@corp.example.", "ada", "@corp.example"} {
		id, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: "1", Email: email, EmailVerified: true})
		if err != nil {
			t.Fatal(err)
		}
		if id.EmailVerified {
			t.Errorf("%q counts as verified", email)
		}
	}
}
